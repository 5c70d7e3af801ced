"""CURVE on real sockets: who is let in, who is not, and what can be read on the way."""

import asyncio
import logging
from contextlib import suppress

import pytest
import zmq
from tests.parts.zeromq.test_requests import PATIENT, TIME, V, ask, reply, snapshot
from tests.unit.clients.conftest import signal

from signalyard import AsyncClient, Outcome
from signalyard.curve import new_pair
from signalyard.following import Wanted
from signalyard.wires.zeromq import ZeromqWire

pytestmark = pytest.mark.parts

ROUTER, ANN, STRANGER = new_pair(), new_pair(), new_pair()


@pytest.fixture
def secured(play, tmp_path):
    """Run a scenario on a stage that ann may come to."""
    (tmp_path / "key").write_text(ROUTER.secret)
    (tmp_path / "clients").write_text(f"ann {ANN.public}")

    def run(scenario, **settings):
        play(scenario, **{"key": tmp_path / "key", "clients": tmp_path / "clients"} | settings)

    return run


def curve(pair, server=ROUTER):
    """A peer's options."""
    return {
        "CURVE_SERVERKEY": server.public.encode(),
        "CURVE_PUBLICKEY": pair.public.encode(),
        "CURVE_SECRETKEY": pair.secret.encode(),
    }


def refused(stage, reason):
    return stage.registry.get_sample_value("signalyard_zeromq_refused_connections_total", {"reason": reason})


class Relay:
    """Passes bytes on between a client and the router, and keeps them."""

    def __init__(self, address):
        self._port = int(address.rpartition(":")[2])
        self.seen = bytearray()
        self._tasks = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._between, "127.0.0.1", 0)
        self.address = f"tcp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _between(self, reader, writer):
        there, onwards = await asyncio.open_connection("127.0.0.1", self._port)
        self._tasks += [
            asyncio.create_task(self._pass(reader, onwards)),
            asyncio.create_task(self._pass(there, writer)),
        ]

    async def _pass(self, reader, writer):
        try:
            while data := await reader.read(65536):
                self.seen += data
                writer.write(data)
        finally:
            writer.close()


def test_who_is_known_is_answered_and_nothing_can_be_read_on_the_way(secured):
    async def scenario(stage):
        async with Relay(stage.wire.requests.address) as requests, Relay(stage.wire.publisher.address) as signals:
            wire = ZeromqWire(requests.address, signals.address, router_key=ROUTER.public, key=ANN)
            async with AsyncClient(wire, deadline=PATIENT) as client:
                assert (await client.predict_one(snapshot())).outcome is Outcome.ABSTAINED
                async with wire.signals(Wanted(frozenset(), None)) as coming:
                    await stage.wire.publisher.send([signal(7)])
                    assert (await asyncio.wait_for(anext(coming), PATIENT)).seq == 7
            for seen in (requests.seen, signals.seen):
                assert len(seen) > 500
                for word in (b"rb2410", b"signalyard", b"abstained", str(TIME).encode(), b"predict"):
                    assert word not in seen
        assert (refused(stage, "key"), refused(stage, "handshake")) == (0, 0)

    secured(scenario)


def test_without_curve_the_same_relay_reads_it(play):
    async def scenario(stage):
        async with Relay(stage.wire.requests.address) as relay:
            async with AsyncClient(ZeromqWire(relay.address), deadline=PATIENT) as client:
                await client.predict_one(snapshot())
            assert b"rb2410" in relay.seen

    play(scenario)


@pytest.mark.parametrize("which", ["requests", "signals"])
def test_a_stranger_is_refused_counted_and_logged_once(secured, caplog, which):
    async def scenario(stage):
        address = stage.wire.requests.address if which == "requests" else stage.wire.publisher.address
        kind = zmq.DEALER if which == "requests" else zmq.SUB
        stranger, *_ = [stage.peer(kind, address, **curve(STRANGER)) for _ in range(3)]
        await stage.until(lambda: refused(stage, "key") >= 3)
        if which == "requests":
            with suppress(zmq.Again):  # it may have been told that there is nobody for it
                await stranger.send_multipart(ask(1), zmq.NOBLOCK)
        else:
            stranger.setsockopt(zmq.SUBSCRIBE, b"")
            await stage.wire.publisher.send([signal(1)])
        assert not await stranger.poll(200)
        good = stage.peer(**curve(ANN))
        await good.send_multipart(ask(2))
        assert (await reply(good))[:2] == (b"answer", b"2")
        assert stage.messages("answered") == 1

    with caplog.at_level(logging.WARNING):
        secured(scenario)
    told = [record.getMessage() for record in caplog.records if "zeromq_stranger" in record.getMessage()]
    assert len(told) == 1
    assert f"socket={which}" in told[0]
    assert STRANGER.public in told[0]


def test_who_speaks_no_curve_or_means_another_router_is_refused_and_counted(secured):
    async def scenario(stage):
        plain, mistaken = stage.peer(), stage.peer(**curve(ANN, server=STRANGER))
        for peer in (plain, mistaken):
            before = refused(stage, "handshake")
            await peer.send_multipart(ask(1))
            await stage.until(lambda before=before: refused(stage, "handshake") > before)
        assert not await plain.poll(200)
        assert not await mistaken.poll(0)
        assert (stage.messages("answered"), refused(stage, "key")) == (0, 0)

    secured(scenario)


def test_clients_are_taken_anew_while_it_runs_and_whoever_is_connected_stays(secured, tmp_path):
    def loads(stage, result):
        return stage.registry.get_sample_value("signalyard_zeromq_clients_loads_total", {"result": result})

    async def answered(peer, number):
        await peer.send_multipart(ask(number))
        assert (await reply(peer))[:2] == (b"answer", b"%d" % number)

    async def scenario(stage):
        clients = tmp_path / "clients"
        ann = stage.peer(**curve(ANN))
        await answered(ann, 1)
        stage.peer(**curve(STRANGER))
        await stage.until(lambda: refused(stage, "key") >= 1)
        clients.write_text("STRANGER\n")  # no key on it: nobody comes in by it, and nobody goes
        await stage.until(lambda: loads(stage, "refused") == 1)
        await answered(stage.peer(**curve(ANN)), 2)
        clients.write_text(f"new {STRANGER.public}\n")
        await stage.until(lambda: stage.registry.get_sample_value("signalyard_zeromq_clients_current") == 1)
        await answered(stage.peer(**curve(STRANGER)), 3)
        await answered(ann, 4)
        before = refused(stage, "key")
        stage.peer(**curve(ANN))
        await stage.until(lambda: refused(stage, "key") > before)

    secured(scenario)


def test_snapshots_come_from_the_publisher_that_was_named_and_no_other(secured, tmp_path):
    async def scenario(stage):
        publishers = []
        for pair in (STRANGER, ANN):  # the second one is not who is expected there
            socket = stage.context.socket(zmq.XPUB)
            stage.peers.append(socket)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode())
            port = socket.bind_to_random_port("tcp://127.0.0.1")
            publishers.append((socket, f"tcp://127.0.0.1:{port}#{STRANGER.public}"))
        named = tuple(address for _, address in publishers)
        other = type(stage)(requests="", signals="", snapshots=named, key=tmp_path / "key")
        try:
            expected, false = (socket for socket, _ in publishers)
            await asyncio.wait_for(expected.recv(), PATIENT)  # the subscription
            await expected.send_multipart([b"rb", V, b"snapshot", ask(1)[-1]])
            await stage.until(lambda: other.messages("decided", "snapshots") == 1)
            assert not await false.poll(200)
        finally:
            await other.close()

    secured(scenario)
