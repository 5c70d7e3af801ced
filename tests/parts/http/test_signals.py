"""Signals as server-sent events, on real sockets, to the clients that ship with us."""

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry
from tests.parts.http.conftest import FakeRouter
from tests.unit.clients.conftest import NOW
from tests.unit.journal.conftest import scored

from signalyard import AsyncClient, Client
from signalyard.problems import SignalyardError
from signalyard.wires.rest import RestWire
from signalyard.words import Outcome
from signalyard_router.adapters.http import HttpServer, HttpSettings
from signalyard_router.adapters.http.app import App
from signalyard_router.adapters.http.signals import SignalStreams
from signalyard_router.rules.record import Settlement, record_of
from signalyard_router.world.real import RealWorld

pytestmark = pytest.mark.parts


def confirmed(seq, symbol="rb2410.SHFE"):
    """The record of an emitted decision."""
    settlement = Settlement(Outcome.EMITTED, seq=seq, prev_seq=seq - 1)
    return record_of(scored(5 * seq, symbol=symbol), settlement, seq=seq, t=NOW, epoch=1, elapsed=0)


class Stage:
    """A server, and the streams that it serves."""

    def __init__(self, port=0, **more):
        world, settings = RealWorld(), HttpSettings(port=port)
        self.registry = CollectorRegistry()
        self.streams = SignalStreams(world.clock, self.registry, **more)
        app = App(FakeRouter(), world.clock, settings, self.registry, signals=self.streams)
        self.server = HttpServer(world, app, settings)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.port}"

    def emit(self, *seqs, **more):
        self.streams.observe([confirmed(seq, **more) for seq in seqs])

    async def readers(self, count):
        async with asyncio.timeout(10):
            while self.registry.get_sample_value("signalyard_streams") != count:  # noqa: ASYNC110 -- the kernel is waited for
                await asyncio.sleep(0.001)


@asynccontextmanager
async def staged(**more):
    stage = Stage(**more)
    await stage.server.start()
    try:
        yield stage
    finally:
        stage.streams.close()
        await stage.server.drain(5)
        assert stage.registry.get_sample_value("signalyard_http_connections") == 0


def play(scenario):
    asyncio.run(asyncio.wait_for(scenario(), 60))


async def numbers(subscription, count):
    return [(await subscription.next(10)).seq for _ in range(count)]


def test_signals_reach_every_client_that_asked_for_them():
    async def scenario():
        async with staged() as stage, AsyncClient(RestWire(stage.url)) as client:
            everything, one = client.subscribe(now=lambda: NOW), client.subscribe("ag.SHFE", now=lambda: NOW)
            await stage.readers(2)
            stage.emit(1, 2)
            stage.emit(1, symbol="ag.SHFE")
            assert await numbers(everything, 3) == [1, 2, 1]
            assert await numbers(one, 1) == [1]
            assert await one.next(0) is None
            assert (await client.state(deadline=10)).opinions == []

    play(scenario)


def test_a_thread_gets_them_too():
    async def scenario():
        async with staged() as stage:
            client = await asyncio.to_thread(Client, stage.url)
            subscription = client.subscribe(now=lambda: NOW)
            await stage.readers(1)
            stage.emit(1, 2, 3)
            got = [(await asyncio.to_thread(subscription.next, 10)).seq for _ in range(3)]
            assert got == [1, 2, 3]
            await asyncio.to_thread(client.close)
            assert await asyncio.to_thread(subscription.next, 10) is None
            stage.emit(4)  # the end of a client is noticed where something is written to it
            await stage.readers(0)

    play(scenario)


def test_after_a_restart_the_client_is_back_by_itself():
    async def scenario():
        async with staged() as stage:
            port = stage.server.port
            client = AsyncClient(RestWire(stage.url))
            subscription = client.subscribe(now=lambda: NOW)
            await stage.readers(1)
            stage.emit(1)
            assert await numbers(subscription, 1) == [1]
        async with staged(port=port) as stage:
            await stage.readers(1)
            stage.emit(2, 3)
            assert await numbers(subscription, 2) == [2, 3]
            assert (subscription.counts.connected, subscription.counts.gaps) == (2, 0)
            await client.close()

    play(scenario)


def test_what_was_missed_between_two_connections_comes_by_its_id():
    async def scenario():
        async with staged() as stage:
            wire = RestWire(stage.url)
            client = AsyncClient(wire)
            first = client.subscribe(now=lambda: NOW)
            await stage.readers(1)
            stage.emit(1)
            assert await numbers(first, 1) == [1]
            await first.close()
            stage.emit(2)
            await stage.readers(0)
            stage.emit(3)
            second = client.subscribe(now=lambda: NOW)
            assert await numbers(second, 2) == [2, 3]
            await client.close()

    play(scenario)


def test_a_client_that_does_not_read_is_left_behind_and_holds_nobody_up():
    async def scenario():
        async with staged(kept=100) as stage:
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.connect(("127.0.0.1", stage.server.port))
            reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
            writer.write(b"GET /v1/signals HTTP/1.1\r\nhost: x\r\n\r\n")
            async with AsyncClient(RestWire(stage.url)) as client:
                subscription = client.subscribe(now=lambda: NOW)
                await stage.readers(2)
                for seq in range(1, 10_001):
                    stage.emit(seq)
                    if not seq % 50:
                        assert await numbers(subscription, 50) == list(range(seq - 49, seq + 1))
                        await asyncio.sleep(0)
                while await reader.read(1 << 20):
                    pass
                assert stage.registry.get_sample_value("signalyard_streams_left_behind_total") == 1
            writer.close()

    play(scenario)


def test_a_silent_stream_says_that_it_lives():
    async def scenario():
        async with staged(beat_seconds=0.01) as stage:
            reader, writer = await asyncio.open_connection("127.0.0.1", stage.server.port)
            writer.write(b"GET /v1/signals HTTP/1.1\r\nhost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\nretry: 100\n\n:\n\n:\n\n")
            writer.close()
            await stage.readers(0)

    play(scenario)


def test_a_router_that_stops_begins_no_stream():
    async def scenario():
        async with staged() as stage:
            stage.streams.close()
            subscription = AsyncClient(RestWire(stage.url)).subscribe()
            async with asyncio.timeout(10):
                while subscription.failure is None:  # noqa: ASYNC110 -- the kernel is waited for
                    await asyncio.sleep(0.001)
            assert isinstance(subscription.failure, SignalyardError)
            assert subscription.failure.problem == "draining"
            await subscription.close()

    play(scenario)
