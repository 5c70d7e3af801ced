"""The simulated loop, network and disk keep what they promise."""

import asyncio
import random

import pytest

from signalyard_router.testing.sim.disk import SimDisk
from signalyard_router.testing.sim.loop import DeadlockError
from signalyard_router.testing.sim.network import Node
from signalyard_router.testing.sim.world import Simulation

MS = 1_000_000


class Log(asyncio.Protocol):
    """Writes down what a connection does, with the time in milliseconds."""

    def __init__(self, loop, lines, *, answer=b""):
        self.loop, self.lines, self.answer = loop, lines, answer

    def note(self, *what):
        self.lines.append((self.loop.now // MS, *what))

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        self.note(data)
        if self.answer:
            self.transport.write(self.answer)

    def eof_received(self):
        self.note("eof")

    def connection_lost(self, exc):
        self.note("lost", type(exc).__name__)


class Pair:
    """A client and a server, 1 ms apart."""

    def __init__(self, **more):
        self.sim = Simulation(1)
        self.sim.network.weather.latency = (0.001, 0.001)
        self.client, self.server = Node("client"), Node("server")
        self.here, self.there = [], []
        self.more = more

    async def connect(self):
        loop, network = self.sim.loop, self.sim.network
        await network.of(self.server).listen(lambda: Log(loop, self.there, **self.more), "server", 80)
        transport, _ = await network.of(self.client).connect(lambda: Log(loop, self.here), "server", 80)
        return transport


def test_time_passes_only_when_everything_waits():
    sim = Simulation(1)
    order = []

    async def main():
        sim.loop.call_later(0.002, order.append, "second")
        sim.loop.call_later(0.001, order.append, "first")
        sim.loop.call_later(0.002, order.append, "third")
        await asyncio.sleep(3600)
        return sim.loop.now

    assert sim.run(main) == 3_600_000_000_000
    assert order == ["first", "second", "third"]


def test_a_deadlock_is_an_error():
    async def main():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(DeadlockError):
        Simulation(1).run(main)


def test_what_nobody_handles_is_kept():
    sim = Simulation(1)

    async def main():
        sim.loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)

    sim.run(main)
    assert len(sim.unhandled) == 1
    assert "ZeroDivisionError" in sim.unhandled[0]


def test_a_frozen_process_does_nothing_and_then_goes_on():
    pair = Pair(answer=b"b")

    async def main():
        transport = await pair.connect()
        await asyncio.sleep(0.001)
        ticks = []
        pair.server.run(lambda: pair.sim.loop.call_later(0.005, ticks.append, "tick"))
        pair.server.freeze()
        transport.write(b"a")
        await asyncio.sleep(0.1)
        assert ticks == []
        assert pair.there == [(2, "made")]
        pair.server.thaw(pair.sim.loop)
        await asyncio.sleep(0.1)
        assert ticks == ["tick"]
        assert pair.there[1:] == [(103, b"a")]
        assert pair.here[1:] == [(104, b"b")]

    pair.sim.run(main)


def test_the_kernel_accepts_for_a_frozen_process():
    pair = Pair()

    async def main():
        pair.server.freeze()
        (await pair.connect()).write(b"a")
        await asyncio.sleep(0.05)
        assert pair.there == []
        pair.server.thaw(pair.sim.loop)
        await asyncio.sleep(0.05)
        assert [line[1] for line in pair.there] == ["made", b"a"]

    pair.sim.run(main)


@pytest.mark.parametrize("silent", [False, True])
def test_a_dead_process_has_no_effect(silent):
    pair = Pair()
    ran = []

    async def worker():
        try:
            await asyncio.sleep(10)
        finally:
            ran.append("unwound")
            await asyncio.sleep(1)
            ran.append("went on")

    async def main():
        transport = await pair.connect()
        pair.sim.spawn(pair.server, worker())
        await asyncio.sleep(0.001)
        pair.server.crash(pair.sim.loop, silent=silent)
        await asyncio.sleep(20)
        assert ran == ["unwound"]
        lost = [line for line in pair.here if line[1] == "lost"]
        if not silent:
            assert lost == [(4, "lost", "ConnectionResetError")]
            with pytest.raises(ConnectionRefusedError):
                await pair.sim.network.of(pair.client).connect(asyncio.Protocol, "server", 80)
            return
        assert lost == []
        # the machine is up again, and knows nothing of the connection
        again = Node("server")
        await pair.sim.network.of(again).listen(asyncio.Protocol, "server", 80)
        transport.write(b"hello?")
        await asyncio.sleep(0.01)
        assert pair.here[-1][1:] == ("lost", "ConnectionResetError")

    pair.sim.run(main)


def test_the_end_of_a_stream_waits_for_data_that_waits():
    pair = Pair()

    async def main():
        transport = await pair.connect()
        await asyncio.sleep(0.001)
        server = next(iter(pair.server.transports))
        server.pause_reading()
        transport.write(b"a")
        transport.close()
        await asyncio.sleep(0.01)
        server.resume_reading()
        assert [line[1] for line in pair.there] == ["made"]  # nothing comes from within the call
        await asyncio.sleep(0.01)
        assert [line[1] for line in pair.there] == ["made", b"a", "eof", "lost"]

    pair.sim.run(main)


def test_what_was_not_synced_may_be_lost():
    async def main():
        kept = set()
        for seed in range(50):
            disk = SimDisk(random.Random(seed))
            file = disk.mount().append("f/a")
            await file.write_and_sync(b"safe")
            file.write(b"torn")
            disk.lose_power()
            kept.add(disk.content("f")["f/a"])
        assert {b"safe", b"safeto", b"safetorn"} <= kept
        assert all(content.startswith(b"safe") for content in kept)

    Simulation(1).run(main)


def test_a_sync_that_succeeds_after_one_that_failed_saves_nothing():
    async def main():
        disk = SimDisk(random.Random(3))
        file = disk.mount().append("f/a")
        disk.fail_sync = True
        with pytest.raises(OSError, match="Input/output"):
            await file.write_and_sync(b"gone")
        disk.fail_sync = False
        await file.write_and_sync(b"too")
        sizes = set()
        for _ in range(20):
            disk.lose_power()
            sizes.add(len(disk.content("f")["f/a"]))
        assert min(sizes) < 4

    Simulation(1).run(main)


def test_a_dead_process_writes_no_more():
    disk = SimDisk(random.Random(1))
    file = disk.mount().append("f/a")
    disk.mount()
    with pytest.raises(OSError, match="Input/output"):
        file.write(b"late")
    assert disk.content("f") == {"f/a": b""}
