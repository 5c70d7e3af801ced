"""The outbox in virtual time: what is emitted reaches the sink, in order, whatever dies in between."""

import asyncio

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from tests.unit.journal.conftest import RULES, scored

from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.metrics import OutboxMetrics
from signalyard_router.journal.outbox import Cursor, Outbox, cursor_name, whole
from signalyard_router.journal.segments import PIECE
from signalyard_router.journal.settings import JournalSettings, OutboxSettings
from signalyard_router.rules.units import SECOND
from signalyard_router.testing.sim.network import Node
from signalyard_router.testing.sim.world import Simulation

LONG = msgspec.structs.replace(RULES, window=0, valid_for=3600 * SECOND)


class Sink:
    """Keeps what it gets; fails, hangs, or lets its process die after it got something, when told to."""

    name = "test"

    def __init__(self):
        self.got = []
        self.calls = 0
        self.fail = 0
        self.hang = False
        self.fault = OSError("away")

    async def send(self, signals):
        self.calls += 1
        if self.hang:
            await asyncio.get_running_loop().create_future()
        if self.fail:
            self.fail -= 1
            self.got += signals[:1]  # half of it has left
            raise self.fault
        self.got += signals

    @property
    def ids(self):
        return [signal.signal_id for signal in self.got]


class Process:
    """A journal and its outbox on a simulated machine."""

    def __init__(self, sim, disk, sink, *, settings=None, lasting=True, **more):
        self.world = sim.world(Node("router"), disk)
        self.registry = CollectorRegistry()
        journal = JournalSettings(folder="j", **({"segment_bytes": 3_000} | more))
        self.journal = LocalJournal(self.world, journal, self.registry, "test")
        metrics = OutboxMetrics(self.registry)
        self.outbox = Outbox(self.world, "j", self.journal, sink, metrics, settings, lasting=lasting)

    async def emit(self, *numbers, rules=LONG):
        """Commit proposals; the answer is the ids of the signals that were emitted."""
        proposals = [scored(number) for number in numbers]
        for proposal in proposals:
            proposal.rules = rules
        settled = await self.journal.commit(proposals)
        return [answer.decision.signal.signal_id for answer in settled if answer.decision.signal is not None]

    async def close(self):
        await self.outbox.close()
        await self.journal.close()

    def value(self, name, **labels):
        return self.registry.get_sample_value(f"signalyard_outbox_{name}", {"sink": "test"} | labels)


def play(scenario, seed=1):
    """Run a scenario in a world of its own."""
    sim = Simulation(seed)
    sim.run(lambda: scenario(sim))
    assert sim.unhandled == []


def without_repeats(ids):
    return list(dict.fromkeys(ids))


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_what_is_emitted_is_handed_on_once_and_in_order(durability):
    async def scenario(sim):
        sink = Sink()
        process = Process(sim, sim.disk(), sink, durability=durability)
        before = await process.emit(1, 2, 3)
        await process.outbox.start()
        emitted = []
        for number in range(4, 60, 4):
            emitted += await process.emit(*range(number, number + 4))
        await asyncio.sleep(0.1)
        assert sink.ids == emitted
        assert len(emitted) > 30
        assert not set(before) & set(emitted)  # a new sink begins with what comes
        assert process.value("signals_total", result="sent") == len(emitted)
        assert process.value("waiting_seconds") == 0
        assert len([name for name in process.world.disk.names("j") if name.endswith(".jsonl")]) > 3
        await process.close()

    play(scenario)


@pytest.mark.parametrize("seed", range(40))
def test_a_crash_repeats_some_and_loses_none(seed):
    async def scenario(sim):
        sink, disk = Sink(), sim.disk()
        emitted, number = [], 0
        for _ in range(5):
            process = Process(sim, disk, sink, segment_bytes=sim.rng.choice([2_000, 20_000]))
            await process.outbox.start()
            for _ in range(sim.rng.randint(0, 30)):
                count = sim.rng.randint(1, 4)
                emitted += await process.emit(*range(number + 1, number + count + 1))
                number += count
                await asyncio.sleep(sim.rng.choice([0, 0, 0.0001, 0.4, 2]))
            disk.fence()  # the process is dead, between any two steps
            for task in process.outbox._tasks:
                task.cancel()
        last = Process(sim, disk, sink)
        await last.outbox.start()
        await last.close()
        assert without_repeats(sink.ids) == emitted

    play(scenario, seed)


@pytest.mark.parametrize("seed", range(20))
def test_after_a_loss_of_power_what_is_recorded_again_is_handed_on(seed):
    async def scenario(sim):
        sink, disk = Sink(), sim.disk()
        number = 0
        for _ in range(4):
            process = Process(sim, disk, sink, segment_bytes=10**9)
            await process.outbox.start()
            for _ in range(sim.rng.randint(0, 20)):
                number += 1
                await process.emit(number)
                await asyncio.sleep(sim.rng.choice([0, 0.1, 2]))
            disk.fence()
            for task in process.outbox._tasks:
                task.cancel()
            disk.lose_power()  # the records go back, the cursor does not
        last = Process(sim, disk, sink, segment_bytes=10**9)
        await last.outbox.start()
        again = await last.emit(*range(number + 1, number + 6))
        await last.close()
        assert sink.ids[-len(again) :] == again

    play(scenario, seed)


def test_a_clean_end_repeats_nothing():
    async def scenario(sim):
        sink, disk = Sink(), sim.disk()
        emitted = []
        for first in (1, 11, 21):
            process = Process(sim, disk, sink)
            await process.outbox.start()
            emitted += await process.emit(*range(first, first + 10))
            await process.close()  # hands on what is recorded before it ends
        assert sink.ids == emitted

    play(scenario)


def test_what_has_expired_is_dropped_and_counted():
    async def scenario(sim):
        sink = Sink()
        process = Process(sim, sim.disk(), sink)
        await process.outbox.start()
        sink.hang = True
        short = msgspec.structs.replace(LONG, valid_for=10 * SECOND)
        dead = await process.emit(1, 2, 3, rules=short)
        await asyncio.sleep(8)
        live = await process.emit(6, 7, 8)
        await asyncio.sleep(3)
        sink.hang = False
        await asyncio.sleep(20)
        assert sink.ids == live
        assert process.value("signals_total", result="expired") == len(dead)
        await process.close()

    play(scenario)


@pytest.mark.parametrize("fault", [OSError("away"), TimeoutError(), RuntimeError("a bug")])
def test_a_sink_that_fails_is_handed_the_same_again_after_growing_pauses(fault):
    async def scenario(sim):
        sink = Sink()
        process = Process(sim, sim.disk(), sink)
        await process.outbox.start()
        sink.fail, sink.fault = 4, fault
        begun = sim.loop.now
        emitted = await process.emit(1, 2, 3)
        while process.value("signals_total", result="sent") == 0:  # noqa: ASYNC110 -- what is waited for is a counter
            await asyncio.sleep(0.01)
        assert round((sim.loop.now - begun) / 1e8) == 15  # 0.1 + 0.2 + 0.4 + 0.8 seconds
        assert without_repeats(sink.ids) == emitted
        assert sink.ids[-len(emitted) :] == emitted
        assert process.value("failures_total") == 4
        await process.close()

    play(scenario)


def test_a_sink_that_hangs_holds_no_commit_up_and_is_given_up():
    async def scenario(sim):
        sink = Sink()
        process = Process(sim, sim.disk(), sink, settings=OutboxSettings(send_seconds=3, close_seconds=1))
        await process.outbox.start()
        sink.hang = True
        begun = sim.loop.now
        for number in range(1, 200):
            await process.emit(number)
        assert sim.loop.now == begun
        await asyncio.sleep(2)
        assert process.value("waiting_seconds") == 2
        await asyncio.sleep(2)
        assert process.value("failures_total") == 1
        ended = sim.loop.now
        await process.close()
        assert sim.loop.now - ended == SECOND

    play(scenario)


def test_a_cursor_that_cannot_be_saved_holds_no_signal_up():
    async def scenario(sim):
        sink, disk = Sink(), sim.disk()
        process = Process(sim, disk, sink, durability="os")
        await process.outbox.start()
        disk.fail_sync = True
        emitted = await process.emit(1, 2, 3)
        await asyncio.sleep(5)
        assert sink.ids == emitted
        assert process.value("cursors_total", result="failed") >= 4
        disk.fail_sync = False
        await asyncio.sleep(2)
        assert process.value("cursors_total", result="ok") == 2
        await process.close()

    play(scenario)


def test_nothing_leaves_that_the_medium_does_not_have():
    async def scenario(sim):
        sink, disk = Sink(), sim.disk()
        process = Process(sim, disk, sink, durability="fsync")
        await process.outbox.start()
        first = await process.emit(1)
        disk.sync_seconds = None
        lost = asyncio.create_task(process.emit(2))
        await asyncio.sleep(5)
        assert sink.ids == first
        lost.cancel()
        disk.fence()

    play(scenario)


def test_what_retention_took_is_passed_over_and_counted():
    async def scenario(sim):
        sink = Sink()
        process = Process(sim, sim.disk(), sink)
        await process.outbox.start()
        sink.hang = True
        for number in range(1, 20):
            await process.emit(number)
        gone = process.world.disk.names("j")
        for name in [name for name in gone if name.startswith("journal-")][:2]:
            await process.world.disk.remove(f"j/{name}")
        sink.hang = False
        emitted = await process.emit(21, 22, 23)
        await asyncio.sleep(20)
        assert sink.ids[-len(emitted) :] == emitted
        assert process.value("skipped_segments_total") >= 1
        await process.close()

    play(scenario)


def test_a_record_longer_than_a_piece_is_read():
    async def scenario(sim):
        sink = Sink()
        process = Process(sim, sim.disk(), sink, segment_bytes=10**9)
        await process.outbox.start()
        proposals = [scored(number) for number in (1, 2, 3)]
        for proposal in proposals:
            proposal.rules = LONG
        proposals[1].consumer = "c" * (3 * PIECE)
        await process.journal.commit(proposals)
        await asyncio.sleep(0.1)
        assert [signal.symbol for signal in sink.got] == ["I1.X", "I2.X", "I0.X"]
        await process.close()

    play(scenario)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", msgspec.json.encode(Cursor(segment="journal-00000009.jsonl", offset=5, digest="0" * 64))],
)
def test_a_cursor_that_is_none_stops_nobody(content):
    async def scenario(sim):
        sink, disk = Sink(), sim.disk()
        world = sim.world(Node("router"), disk)
        world.disk.make_folder("j")
        await world.disk.replace(f"j/{cursor_name('test')}", whole(content))
        process = Process(sim, disk, sink)
        await process.outbox.start()
        emitted = await process.emit(1, 2, 3)
        await process.close()
        assert sink.ids == emitted

    play(scenario)


def test_a_reader_without_a_lasting_cursor_begins_with_what_comes_and_leaves_no_file():
    async def scenario(sim):
        sink, disk = Sink(), sim.disk()
        process = Process(sim, disk, sink, lasting=False)
        await process.emit(1)
        await process.outbox.start()
        emitted = await process.emit(2, 3)
        await process.close()
        again = Process(sim, disk, sink, lasting=False)
        await again.outbox.start()
        emitted += await again.emit(4, 5, 6)
        await again.close()
        assert sink.ids == emitted
        assert cursor_name("test") not in again.world.disk.names("j")

    play(scenario)
