"""The server on real loopback sockets, on both event loops."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import pytest
import uvloop
from prometheus_client import CollectorRegistry
from tests.promised import Promised

from signalyard.wire import Decision, StateAnswer
from signalyard.words import Outcome
from signalyard_router.adapters.http import HttpServer, HttpSettings
from signalyard_router.adapters.http.app import App
from signalyard_router.promise import Promise
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.world.real import RealWorld


class FakeRouter:
    def __init__(self) -> None:
        self.hold: asyncio.Event | None = None
        self.waiting = 0
        self.pad = ""

    def admit(self, received: int, remaining: int | None = None) -> None:
        pass

    async def decide(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> list[Decision]:
        if self.hold is not None:
            self.waiting += 1
            await self.hold.wait()
        return [
            Decision(outcome=Outcome.ABSTAINED, row=row.index, symbol=row.symbol, ts_event=row.ts_event, route=self.pad)
            for row in rows
        ]

    def submit(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> Promise[list[Decision]]:
        return Promised(self.decide(rows, received=received, remaining=remaining))

    def state(self, symbol: str | None = None, route: str | None = None) -> StateAnswer:
        return StateAnswer(now=1, epoch=1, opinions=[])

    def status(self) -> dict[str, Any]:
        return {}

    def unready(self) -> list[str]:
        return []


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A stream and the answers on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self) -> Reply:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return Reply(int(head[0].split()[1]), headers, body)

    async def ended(self) -> bytes:
        """What comes until the server ends its side."""
        return await self.reader.read()

    async def close(self) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)


class Stage:
    def __init__(self, settings: dict[str, Any]) -> None:
        self.router = FakeRouter()
        self.registry = CollectorRegistry()
        world, chosen = RealWorld(), HttpSettings(port=0, **settings)
        self.server = HttpServer(world, App(self.router, world.clock, chosen, self.registry), chosen)
        self.clients: list[Client] = []

    async def connect(self, **more: Any) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.server.port, **more))
        self.clients.append(client)
        return client

    def sample(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(name, labels)
        assert value is not None
        return value

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 -- it is the kernel that is waited for
                await asyncio.sleep(0.001)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(scenario: Callable[[Stage], Awaitable[None]], **settings: Any) -> None:
        async def performance() -> None:
            stage = Stage(settings)
            await stage.server.start()
            try:
                await asyncio.wait_for(scenario(stage), 30)
            finally:
                for client in stage.clients:
                    await client.close()
                await stage.server.drain(1)
                assert stage.sample("signalyard_http_connections") == 0
                assert stage.sample("signalyard_http_requests_in_flight") == 0

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(performance())

    return run
