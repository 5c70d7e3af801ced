"""A router with all its surroundings in hand, for what runs beside its decisions."""

import asyncio
import json

import pytest
from prometheus_client import CollectorRegistry

from signalyard import Snapshot
from signalyard.profile import Feature, FeatureSchema
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.router import Router
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.units import MILLISECOND
from signalyard_router.settings import RouterSettings
from signalyard_router.testing.disk import FaultyDisk
from signalyard_router.testing.upstream import FakeUpstream
from signalyard_router.testing.world import ManualWorld

SCHEMA = FeatureSchema((Feature(name="p", minimum=0.0, maximum=1.0), Feature(name="x", missing="native")))
NAME = "rb2410.SHFE"


def document(name="rb-trend", shadows=({"version": "9"},), **more):
    """A route with stable 7, standby 6 and shadows; score is the feature ``p``."""
    tracks = [
        {"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": "stable", "port": 1}},
        {"name": "standby", "version": "6", "endpoint": {"service": "standby", "port": 1}},
        *({"name": "shadow", "endpoint": {"service": "shadow", "port": 1}} | shadow for shadow in shadows),
    ]
    mapping = {"long": {"enter": 0.6, "exit": 0.52}, "short": {"enter": 0.4, "exit": 0.48}}
    spec = {"model": "rb-trend", "instruments": ["rb*.SHFE"], "tracks": tracks, "mapping": mapping} | more
    return {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": "SignalRoute",
        "metadata": {"name": name},
        "spec": spec,
    }


class Upstream(FakeUpstream):
    """Versions may score otherwise: ``offset`` is added to what others say. ``gates`` hold a version's calls back in order."""

    def __init__(self):
        super().__init__(SCHEMA, lambda row: row["p"])
        self.offset = {}
        self.gates = {}

    async def score(self, target, card, rows, until):
        gates = self.gates.get(target.version)
        scored = await super().score(target, card, rows, until)
        answer = scored.rows
        if gates:
            await gates.pop(0).wait()
        offset = self.offset.get(target.version, 0.0)
        answer.score[:] = [None if score is None else score + offset for score in answer.score]
        return scored


class Desk:
    def __init__(self, folder):
        self.folder = folder
        self.disk = FaultyDisk()
        self.world = ManualWorld(self.disk)
        self.upstream = Upstream()

    async def start(self, *documents):
        self.registry = CollectorRegistry()
        self.journal = LocalJournal(self.world, JournalSettings(folder=str(self.folder)), self.registry)
        routes = await self.journal.accept([(parse_document(data, "test"), "test") for data in documents])
        self.router = Router(self.world, RouterSettings(), routes, self.journal, self.upstream, self.registry)
        self.router.asked()

    async def restart(self, *documents):
        await self.router.close()
        await self.journal.close()
        await self.start(*documents)

    def snapshot(self, p, symbol=NAME, **more):
        self.world.clock.advance(10 * MILLISECOND)
        features = p if isinstance(p, dict) else {"p": p}
        return Snapshot(symbol=symbol, ts_event=self.world.clock.wall(), features=features, **more)

    async def ask(self, p, **more):
        (decision,) = await self.router.predict(self.snapshot(p, **more))
        return decision

    async def told(self, p, **more):
        """A decision, after which what runs beside it has had its turn."""
        decision = await self.ask(p, **more)
        await settle()
        return decision

    def comparison(self, name="9", route="rb-trend"):
        (found,) = [c for c in self.router.shadow(route).comparisons if c.name == name]
        return found

    def total(self, name="9", route="rb-trend"):
        return self.comparison(name, route).windows["total"]

    def excluded(self, name="9"):
        return {reason: count for reason, count in self.total(name).excluded.items() if count}

    def sample(self, name, /, **labels):
        labels = {"route": "rb-trend", "kind": "shadow", "name": "9"} | labels
        return self.registry.get_sample_value(name, labels)

    def records(self, kind="decision"):
        lines = [line for path in sorted(self.folder.glob("journal-*")) for line in path.read_text().splitlines()]
        return [record for line in lines if (record := json.loads(line))["kind"] == kind]


async def settle():
    for _ in range(12):
        await asyncio.sleep(0)


@pytest.fixture
def play(tmp_path):
    """Runs a scenario at a desk with the documents."""

    def run(scenario, *documents):
        async def main():
            desk = Desk(tmp_path / "journal")
            await desk.start(*(documents or [document()]))
            try:
                await scenario(desk)
            finally:
                await desk.router.close()
                await desk.journal.close()

        asyncio.run(main())

    return run


@pytest.fixture
def doc():
    return document


@pytest.fixture
def turns():
    """Lets everything that is ready run."""
    return settle
