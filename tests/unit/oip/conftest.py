"""A stage in memory and in virtual time: what is asserted of time is exact, and no test waits."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from signalyard.profile import Feature, FeatureSchema, ModelCard, ScoredRows
from signalyard_router.adapters.oip import OipSettings, OipUpstream
from signalyard_router.ports import Scored
from signalyard_router.rules.route import Endpoint, Target
from signalyard_router.testing.model_server import ModelServer, ServedModel

COLUMNS = ("close", "ret_5")


class _Idle(selectors.SelectSelector):
    """Instead of waiting, moves the loop's time on."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise AssertionError("everything waits, and nothing will ever happen")
        self.loop.now += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 1000.0
        selector = _Idle()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


class MemoryTransport(asyncio.Transport):
    """One end of a pipe; what is written arrives ``latency`` later. It has no socket."""

    def __init__(self, network: "MemoryNetwork", protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.network = network
        self.protocol = protocol
        self.peer: MemoryTransport | None = None
        self.closing = False
        self.lost = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: Any) -> None:
        assert not self.closing, "written after close"
        self._send(lambda peer: peer.protocol.data_received(bytes(data)))

    def close(self) -> None:
        self._close(None, lambda peer: peer._ended())

    def abort(self) -> None:
        self._close(None, lambda peer: peer._lose(ConnectionResetError("reset")))

    def _close(self, exc: Exception | None, tell: Callable[["MemoryTransport"], None]) -> None:
        if not self.closing:
            self.closing = True
            self._send(tell)
            asyncio.get_running_loop().call_soon(self._lose, exc)

    def _send(self, tell: Callable[["MemoryTransport"], None]) -> None:
        peer = self.peer
        assert peer is not None
        asyncio.get_running_loop().call_later(self.network.latency, lambda: None if peer.lost else tell(peer))

    def _ended(self) -> None:
        if not self.protocol.eof_received():
            self.close()

    def _lose(self, exc: Exception | None) -> None:
        if not self.lost:
            self.closing = self.lost = True
            self.protocol.connection_lost(exc)


class MemoryListener:
    def __init__(self, network: "MemoryNetwork", port: int) -> None:
        self.network = network
        self.port = port

    def close(self) -> None:
        self.network.listening.pop(self.port, None)


class MemoryNetwork:
    """Ports by number, whatever the host."""

    def __init__(self) -> None:
        self.latency = 0.0
        self.connect_seconds = 0.0
        self.connects = 0
        self.opened: list[MemoryTransport] = []
        self.listening: dict[int, Callable[[], asyncio.Protocol]] = {}

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: Any = None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        self.connects += 1
        await asyncio.sleep(self.connect_seconds)
        if port not in self.listening:
            raise ConnectionRefusedError(111, "refused")
        protocol, other = factory(), self.listening[port]()
        here, there = MemoryTransport(self, protocol), MemoryTransport(self, other)
        here.peer, there.peer = there, here
        self.opened.append(here)
        other.connection_made(there)
        protocol.connection_made(here)
        return here, protocol

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> MemoryListener:
        port = port or 8000 + len(self.listening)
        self.listening[port] = factory
        return MemoryListener(self, port)


class VirtualClock:
    def wall(self) -> int:
        return 1_700_000_000_000_000_000 + self.monotonic()

    def monotonic(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)


class MemoryWorld:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.network = MemoryNetwork()
        self.disk: Any = None
        self.numbers = count()

    def random_bytes(self, count: int) -> bytes:
        return bytes(next(self.numbers) for _ in range(count))


def card_of(version: str = "7", digest: str = "sha256:aa", *, calibrated: bool = False) -> ModelCard:
    schema = FeatureSchema(features=(Feature(name="close"), Feature(name="ret_5", missing="native")))
    return ModelCard(model="rb-trend", version=version, digest=digest, calibrated=calibrated, schema=schema)


def first_feature(rows: list[list[float | None]]) -> list[float | None]:
    """The score is the row's first feature, so that every answer shows whose it is."""
    return [row[0] for row in rows]


@dataclass
class Stage:
    """A model server, an upstream before it, and the world between them."""

    world: MemoryWorld
    server: ModelServer
    upstream: OipUpstream
    target: Target
    registry: CollectorRegistry
    settings: OipSettings
    serve: Callable[..., ServedModel] = field(
        default=lambda **kinds: ServedModel(card=card_of(**kinds), score=first_feature)
    )

    @property
    def now(self) -> int:
        return self.world.clock.monotonic()

    @property
    def endpoint(self) -> Endpoint:
        (endpoint,) = self.target.endpoints
        return endpoint

    async def score(
        self, *values: float, seconds: float = 0.1, target: Target | None = None, card: ModelCard | None = None
    ) -> ScoredRows:
        return (await self.call(*values, seconds=seconds, target=target, card=card)).rows

    async def call(
        self, *values: float, seconds: float = 0.1, target: Target | None = None, card: ModelCard | None = None
    ) -> Scored:
        """As the flow does it: by the card in force, or one made up where nothing has been learnt."""
        until = self.now + round(seconds * 1e9)
        target = target or self.target
        card = card or self.upstream.card(target) or card_of()
        return await self.upstream.score(target, card, [(value, None) for value in values or (0.5,)], until)

    def sample(self, name: str, **labels: str) -> float | None:
        labels = {"model": "rb-trend", "version": "7", "endpoint": str(self.endpoint), **labels}
        return self.registry.get_sample_value(name, labels)

    def result(self, result: str) -> float | None:
        return self.sample("signalyard_upstream_requests_total", result=result)

    def connections(self, state: str) -> float | None:
        labels = {"endpoint": str(self.endpoint), "state": state}
        return self.registry.get_sample_value("signalyard_upstream_connections", labels)


Scenario = Callable[[Stage], Awaitable[None]]


@pytest.fixture
def play() -> Callable[..., None]:
    """Runs a scenario on a stage of its own; keywords are settings."""

    def run(scenario: Scenario, **settings: Any) -> None:
        async def performance() -> None:
            world = MemoryWorld()
            server = ModelServer([ServedModel(card=card_of(), score=first_feature)])
            await server.start(world.network)
            registry = CollectorRegistry()
            chosen = OipSettings(**settings)
            upstream = OipUpstream(world, chosen, registry)
            target = Target("rb-trend", "7", (Endpoint("models", server.port),))
            try:
                await scenario(Stage(world, server, upstream, target, registry, chosen))
            finally:
                await upstream.close()
                server.stop()
            await asyncio.sleep(1)
            assert server.open == 0, "a connection was left open"
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            assert not left, "a task was left behind"

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            failures: list[dict[str, Any]] = []
            runner.get_loop().set_exception_handler(lambda loop, context: failures.append(context))
            runner.run(performance())
        assert not failures, failures

    return run
