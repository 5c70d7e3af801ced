"""Bundles, router and audit in one process: what the router does, the audit finds in order."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from signalyard.problems import Problem, error
from signalyard.profile import ModelCard
from signalyard.wire import Decision, Snapshot
from signalyard_demo import route
from signalyard_demo.audit import audit
from signalyard_demo.bars import SIZES, instrument_name
from signalyard_demo.bundles import pack_all
from signalyard_demo.data import generated_ticks
from signalyard_demo.replay import Plan, Replay
from signalyard_demo.train import MODEL, snapshots, train
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.ports import CallFailed, EndpointStatus, Scored
from signalyard_router.router import Router
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.route import Target, compile_route
from signalyard_router.rules.split import assign
from signalyard_router.settings import RouterSettings
from signalyard_router.world.real import RealWorld
from signalyard_runtimes import scorer

PORTS = {"stable": 1, "canary": 2, "standby": 3}


def test_the_document_says_what_the_audit_holds_it_to() -> None:
    compiled = compile_route(parse_document(yaml.safe_load(route.document("ES-*.CME", PORTS)), "demo"))
    rules = route.RULES
    gate = compiled.gate
    assert (gate.window, gate.valid_for, compiled.deadline) == (rules.window, rules.valid_for, rules.deadline_us * 1000)
    mapping = gate.mapping
    assert mapping is not None
    assert gate.filters is not None
    assert (mapping.long_enter, mapping.long_exit) == (rules.long_enter, rules.long_exit)
    assert (mapping.short_enter, mapping.short_exit) == (rules.short_enter, rules.short_exit)
    assert gate.filters.min_confidence == rules.min_confidence
    assert gate.signals is not None
    assert gate.flips is not None
    assert (gate.signals.count, gate.flips.count) == (rules.signals, rules.flips)
    assert gate.signals.window == gate.flips.window == 60 * 10**9
    assert {track: rung.target.version for track, rung in compiled.tracks.items()} == rules.tracks
    assert tuple(rung.target.version for rung in compiled.standbys) == rules.standbys


@pytest.mark.parametrize(("root", "venue"), [("ES", "CME"), ("GEN", "DEMO")])
def test_both_tracks_get_instruments(root: str, venue: str) -> None:
    tracks = [assign(MODEL, f"{root}-vol{size}.{venue}", {"stable": 8_000, "canary": 2_000}, {}) for size in SIZES]
    assert sorted(set(tracks)) == ["canary", "stable"]
    assert instrument_name(generated_ticks(10), 100) == "GEN-vol100.DEMO"


class Servers:
    """The three bundles behind the router's port to the model servers."""

    def __init__(self, folder: Path) -> None:
        self._scorers = {
            version: scorer.load(folder / track / f"{MODEL}-{version}") for track, version in route.VERSIONS.items()
        }
        self.frozen: set[str] = set()

    def card(self, target: Target) -> ModelCard | None:
        return self._scorers[target.version].card

    async def score(
        self, target: Target, card: ModelCard, rows: Sequence[Sequence[float | None]], until: int
    ) -> Scored:
        if target.version in self.frozen:
            raise CallFailed(Problem.MODEL_TIMEOUT, "frozen")
        return Scored(self._scorers[card.version].score(card.schema.names, rows), "here")

    def chunk(self, target: Target, budget: int) -> int:
        return 256

    def endpoints(self, target: Target) -> list[EndpointStatus]:
        return []


class Stage:
    """A router in this process whose end is sudden: the journal is given up without a word, and read again."""

    def __init__(self, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._folder = folder
        self._loop = loop
        self._servers = Servers(folder / "models")
        self._dying = False
        self.restart()

    def restart(self) -> None:
        world = RealWorld()
        registry = CollectorRegistry()
        if hasattr(self, "_journal"):
            self._loop.run_until_complete(self._journal.close())
        settings = JournalSettings(folder=str(self._folder / "journal"), clock="event", segment_bytes=200_000)
        self._journal = LocalJournal(world, settings, registry, "test")
        document = parse_document(yaml.safe_load(route.document("GEN-*.DEMO", PORTS)), "demo")
        routes = self._loop.run_until_complete(self._journal.accept([(document, "demo")]))
        self._router = Router(world, RouterSettings(), routes, self._journal, self._servers, registry)
        self._router.asked()
        self._dying = False

    def freeze(self) -> None:
        self._servers.frozen.add("7")

    def thaw(self) -> None:
        self._servers.frozen.clear()

    def kill_soon(self) -> None:
        self._dying = True

    def call(self, rows: Sequence[Snapshot]) -> list[Decision]:
        decisions = self._loop.run_until_complete(self._router.predict(rows))
        if self._dying:
            raise error(Problem.ROUTER_UNREACHABLE, "it died with the answer on its lips")
        return decisions

    def close(self) -> None:
        self._loop.run_until_complete(self._journal.close())


def test_the_audit_agrees_with_the_router(tmp_path) -> None:
    study = train(generated_ticks(40_000), tmp_path / "artifacts")
    pack_all(study, tmp_path / "models")
    rows = snapshots(study.split.held_out, 600)
    with asyncio.Runner() as runner:
        stage = Stage(tmp_path, runner.get_loop())
        tally = Replay(stage.call, rows, stage, Plan(rate=2_000.0, frozen_seconds=0.05), lambda tally: None).run()
        stage.close()
    result = audit(tmp_path / "journal", route.RULES, tally.answers)
    assert result.findings == []
    assert result.decisions == len(tally.answers) == len(rows)
    assert result.starts == 2
    assert result.segments > 1
    assert tally.repeated == tally.repeated_equal == 20
    assert set(result.outcomes) == {"emitted", "suppressed", "abstained"}
    assert result.failover > 0
    assert set(result.answered_by) == {"stable 7", "canary 8", "standby 6"}
