"""The same way over real loopback sockets, on both event loops."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from prometheus_client import CollectorRegistry

from signalyard.profile import Feature, FeatureSchema, ModelCard
from signalyard_router.adapters.oip import OipSettings, OipUpstream
from signalyard_router.rules.route import Endpoint, Target
from signalyard_router.testing.model_server import ModelServer, ServedModel
from signalyard_router.world.real import RealWorld


class Stage:
    def __init__(self, settings: OipSettings) -> None:
        self.world = RealWorld()
        schema = FeatureSchema(features=(Feature(name="close"), Feature(name="ret_5", missing="native")))
        self.card = card = ModelCard(model="rb-trend", version="7", digest="sha256:aa", calibrated=True, schema=schema)
        self.server = ModelServer([ServedModel(card=card, score=lambda rows: [row[0] for row in rows])])
        self.upstream = OipUpstream(self.world, settings, CollectorRegistry())

    @property
    def target(self) -> Target:
        return Target("rb-trend", "7", (Endpoint("127.0.0.1", self.server.port),))

    async def score(self, *values: float, seconds: float = 5.0, target: Target | None = None) -> list[float | None]:
        until = self.world.clock.monotonic() + round(seconds * 1e9)
        rows = [(value, None) for value in values]
        return (await self.upstream.score(target or self.target, self.card, rows, until)).rows.score

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 -- it is the kernel that is waited for
                await asyncio.sleep(0.001)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request: pytest.FixtureRequest) -> Callable[..., None]:
    def run(scenario: Any, **settings: Any) -> None:
        async def performance() -> None:
            stage = Stage(OipSettings(**settings))
            await stage.server.start(stage.world.network)
            try:
                await asyncio.wait_for(scenario(stage), 30)
            finally:
                await stage.upstream.close()
                stage.server.stop()
                await stage.until(lambda: not stage.server.open)

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(performance())

    return run
