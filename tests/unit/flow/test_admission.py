"""A router that falls behind refuses, and says so."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from signalyard.problems import Problem, RouterError
from signalyard.profile import Feature, FeatureSchema
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.router import Router
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.rows import Row
from signalyard_router.rules.units import MILLISECOND
from signalyard_router.settings import RouterSettings
from signalyard_router.testing.upstream import FakeUpstream
from signalyard_router.testing.world import ManualWorld


def document(name: str, instruments: str, deadline: str) -> Any:
    return parse_document(
        {
            "apiVersion": "signalyard.io/v1alpha1",
            "kind": "SignalRoute",
            "metadata": {"name": name},
            "spec": {
                "model": name,
                "instruments": [instruments],
                "deadline": deadline,
                "tracks": [
                    {"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": "s", "port": 1}},
                ],
                "mapping": {"long": {"enter": 0.6}, "short": {"enter": 0.4}},
            },
        },
        "test",
    )


class Stage:
    def __init__(self, folder: Any, *documents: Any) -> None:
        self.world, self.registry = ManualWorld(), CollectorRegistry()
        self.journal = LocalJournal(self.world, JournalSettings(folder=str(folder)), self.registry)
        self.documents = [(each, "test") for each in documents]

    async def __aenter__(self) -> "Stage":
        upstream = FakeUpstream(FeatureSchema((Feature(name="p"),)), lambda row: row["p"] or 0.0)
        routes = await self.journal.accept(self.documents)
        self.router = Router(self.world, RouterSettings(), routes, self.journal, upstream, self.registry)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.journal.close()

    async def ask(self, wait: int, symbol: str = "rb1.SHFE", remaining: int | None = None) -> str:
        """What becomes of a request that waits so long for its turn."""
        received = self.world.clock.monotonic()
        self.world.clock.advance(wait)
        try:
            self.router.admit(received, remaining)
            row = Row(0, symbol, self.world.clock.wall(), ("p",), [0.7])
            (decision,) = await self.router.decide([row], received=received, remaining=remaining)
        except RouterError as exc:
            return "refused" if exc.problem is Problem.OVERLOADED else str(exc)
        return str(decision.outcome)

    @property
    def refused(self) -> float | None:
        return self.registry.get_sample_value("signalyard_refused_total", {"reason": "wait"})


def test_who_waited_too_long_is_refused_until_the_queue_is_gone(tmp_path: Any) -> None:
    async def scenario() -> None:
        async with Stage(tmp_path, document("slow", "rb*.SHFE", "100ms")) as stage:
            assert stage.refused == 0
            early = [await stage.ask(60 * MILLISECOND) for _ in range(3)]
            assert "refused" in early
            assert early[0] != "refused"
            assert await stage.ask(60 * MILLISECOND) == "refused"
            assert stage.refused == early.count("refused") + 1
            mean = stage.registry.get_sample_value("signalyard_wait_seconds")
            assert mean is not None
            assert 0.015 < mean < 0.06
            assert await stage.ask(5 * MILLISECOND) != "refused"

    asyncio.run(scenario())


def test_a_tight_route_is_refused_while_a_loose_one_is_served(tmp_path: Any) -> None:
    async def scenario() -> None:
        loose, tight = document("loose", "cu*.SHFE", "1s"), document("tight", "rb*.SHFE", "20ms")
        async with Stage(tmp_path, loose, tight) as stage:
            for _ in range(10):
                assert await stage.ask(15 * MILLISECOND, "cu1.SHFE") != "refused"
            assert await stage.ask(15 * MILLISECOND, "rb1.SHFE") == "refused"
            assert await stage.ask(15 * MILLISECOND, "cu1.SHFE") != "refused"
            assert await stage.ask(46 * MILLISECOND, "cu1.SHFE", remaining=100 * MILLISECOND) == "refused"

    asyncio.run(scenario())


def test_without_routes_there_is_still_an_answer(tmp_path: Any) -> None:
    async def scenario() -> None:
        async with Stage(tmp_path) as stage:
            for _ in range(10):
                assert await stage.ask(10 * MILLISECOND) == "rejected"

    asyncio.run(scenario())
