"""Chunks and drift, as the flow of a request treats them."""

import asyncio

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from signalyard import Columnar, ColumnarRow, Outcome, Problem, Reason, Snapshot, Track
from signalyard.profile import Feature, FeatureSchema
from signalyard_router.journal.explain import explain
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.ports import CallFailed, Try
from signalyard_router.router import Router
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.record import DecisionRecord
from signalyard_router.settings import RouterSettings
from signalyard_router.testing.disk import FaultyDisk
from signalyard_router.testing.upstream import FakeUpstream
from signalyard_router.testing.world import ManualWorld

SCHEMA = FeatureSchema((Feature(name="p", minimum=0.0, maximum=1.0),))
TWO = [{"service": "a", "port": 1}, {"service": "b", "port": 1}]
SPEC = {
    "model": "rb-trend",
    "instruments": ["*.SHFE"],
    "tracks": [
        {"name": "stable", "version": "7", "weight": 100, "endpoints": TWO},
        {"name": "standby", "version": "6", "endpoint": {"service": "c", "port": 1}},
    ],
    "mapping": {"long": {"enter": 0.6}},
}


@pytest.fixture
def desk(tmp_path):
    def run(scenario, **spec):
        async def main():
            world, registry = ManualWorld(FaultyDisk()), CollectorRegistry()
            journal = LocalJournal(world, JournalSettings(folder=str(tmp_path)), registry)
            upstream = FakeUpstream(SCHEMA, lambda row: row["p"])
            head = {"apiVersion": "signalyard.io/v1alpha1", "kind": "SignalRoute", "metadata": {"name": "rb"}}
            document = parse_document({**head, "spec": SPEC | spec}, "test")
            routes = await journal.accept([(document, "test")])
            router = Router(world, RouterSettings(), routes, journal, upstream, registry)
            try:
                await scenario(Desk(world, registry, upstream, router, tmp_path))
            finally:
                await journal.close()

        asyncio.run(main())

    return run


class Desk:
    def __init__(self, world, registry, upstream, router, folder):
        self.world, self.registry, self.upstream, self.router, self.folder = world, registry, upstream, router, folder

    async def ask(self, p=0.7):
        self.world.clock.advance(10_000_000)
        snapshot = Snapshot(symbol="rb.SHFE", ts_event=self.world.clock.wall(), features={"p": p})
        (decision,) = await self.router.predict(snapshot)
        return decision

    async def batch(self, count):
        self.world.clock.advance(10_000_000)
        now = self.world.clock.wall()
        rows = [ColumnarRow(f"rb{index}.SHFE", now, [0.7]) for index in range(count)]
        return await self.router.predict(Columnar(columns=("p",), rows=rows))

    def drift(self, track="stable", version="7"):
        labels = {"route": "rb", "track": track, "version": version}
        return self.registry.get_sample_value("signalyard_version_drift", labels)

    def last(self):
        line = (self.folder / "journal-00000001.jsonl").read_text().splitlines()[-1]
        return msgspec.json.decode(line, type=DecisionRecord)


def test_a_large_batch_travels_in_chunks_of_equal_size(desk):
    async def scenario(desk):
        desk.upstream.chunk_rows = 40
        decisions = await desk.batch(100)
        assert desk.upstream.calls == [("7", 33), ("7", 33), ("7", 34)]
        assert {decision.outcome for decision in decisions} == {Outcome.EMITTED}
        assert [decision.symbol for decision in decisions] == [f"rb{index}.SHFE" for index in range(100)]

    desk(scenario)


def test_chunks_that_answered_count_and_the_rows_of_the_others_climb_down(desk):
    async def scenario(desk):
        desk.upstream.chunk_rows = 25
        desk.upstream.script.extend([None, Problem.MODEL_TIMEOUT, None, Problem.MODEL_FAILED])
        decisions = await desk.batch(100)
        assert {decision.outcome for decision in decisions} == {Outcome.EMITTED}
        stood_in = [index for index, decision in enumerate(decisions) if decision.signal.failover]
        assert stood_in == [*range(25, 50), *range(75, 100)]
        assert desk.upstream.calls[4:] == [("6", 25), ("6", 25)]

    desk(scenario)


def test_a_chunk_that_fails_is_no_outage(desk):
    async def scenario(desk):
        desk.upstream.chunk_rows = 1
        await desk.ask(0.7)
        desk.upstream.script.extend([None, Problem.MODEL_TIMEOUT])
        decisions = await desk.batch(2)
        desk.world.clock.advance(1_500_000_000)
        desk.upstream.fail["7"] = Problem.MODEL_FAILED
        later = await desk.batch(1)
        assert [decision.reason for decision in (*decisions, *later)] == [None, Reason.NO_ANSWER, Reason.NO_ANSWER]

    desk(scenario, ladder=[{"flat": {"after": "1s"}}])


def test_the_version_that_is_there_serves_and_is_marked(desk):
    async def scenario(desk):
        assert desk.drift() == desk.drift("standby", "6") == 0
        desk.upstream.drift["7"] = "5"
        signal = (await desk.ask()).signal
        assert (signal.version, signal.track, signal.drift, signal.failover) == ("5", Track.STABLE, True, False)
        assert desk.drift() == 1
        (track, standby) = desk.router.status().routes[0].tracks
        assert (track.version, track.serving, track.drift) == ("7", "5", True)
        assert [one.endpoint for one in track.endpoints] == ["a:1", "b:1"]
        assert (standby.drift, standby.serving) == (False, "6")
        record = desk.last()
        assert (record.version, record.drift, record.steps[0].version) == ("5", True, "5")
        assert any("drift" in line for line in explain(record, None))

    desk(scenario)


def test_or_the_standby_does(desk):
    async def scenario(desk):
        desk.upstream.drift["7"] = "5"
        signal = (await desk.ask()).signal
        assert (signal.version, signal.track, signal.drift, signal.failover) == ("6", Track.STANDBY, False, True)
        assert desk.upstream.calls == [("6", 1)]
        step = desk.last().steps[0]
        assert (step.result, step.version) == ("version_drift", "7")
        assert "have version 5" in step.detail

    desk(scenario, onDrift="standby")


@pytest.fixture
def goes_over(desk):
    """The first call of version 7 finds its endpoint gone, and others with version 5 in its place."""

    def run(scenario, then=None, **spec):
        async def with_change(desk):
            score = desk.upstream.score

            async def gone(target, card, rows, until):
                desk.upstream.score = score
                desk.upstream.drift["7"] = "5"
                desk.upstream.fail["5"] = then
                desk.upstream.calls.append((card.version, len(rows)))
                raise CallFailed(Problem.MODEL_UNKNOWN, "no endpoint serves version 7 now")

            desk.upstream.score = gone
            await scenario(desk)

        desk(with_change, **spec)

    return run


def test_a_track_that_goes_over_to_another_bundle_meanwhile_is_asked_once_more(goes_over):
    async def scenario(desk):
        signal = (await desk.ask()).signal
        assert (signal.version, signal.track, signal.drift, signal.failover) == ("5", Track.STABLE, True, False)
        assert desk.upstream.calls == [("7", 1), ("5", 1)]
        assert [(step.result, step.version) for step in desk.last().steps] == [
            ("model_unknown", "7"),
            ("answered", "5"),
        ]

    goes_over(scenario)


def test_and_not_a_third_time(goes_over):
    async def scenario(desk):
        assert (await desk.ask()).signal.version == "6"
        assert desk.upstream.calls == [("7", 1), ("5", 1), ("6", 1)]

    goes_over(scenario, then=Problem.MODEL_UNREACHABLE)


def test_nor_where_what_it_went_over_to_may_not_answer(goes_over):
    async def scenario(desk):
        assert (await desk.ask()).signal.version == "6"
        assert desk.upstream.calls == [("7", 1), ("6", 1)]

    goes_over(scenario, onDrift="standby")


def test_nor_when_the_budget_is_spent(goes_over):
    async def scenario(desk):
        score = desk.upstream.score

        async def slow(*call):
            desk.world.clock.advance(90_000_000)
            return await score(*call)

        desk.upstream.score = slow
        assert (await desk.ask()).outcome is not Outcome.EMITTED
        assert desk.upstream.calls == [("7", 1)]

    goes_over(scenario)


def test_or_nobody_is_asked(desk):
    async def scenario(desk):
        desk.upstream.drift["7"] = "5"
        decision = await desk.ask()
        assert (decision.outcome, decision.reason) == (Outcome.ABSTAINED, Reason.VERSION_DRIFT)
        assert desk.upstream.calls == []
        assert any("onDrift is refuse" in line for line in explain(desk.last(), None))
        desk.upstream.drift.clear()
        assert (await desk.ask()).outcome is Outcome.EMITTED

    desk(scenario, onDrift="refuse")


def test_a_refused_version_is_an_outage_all_the_same(desk):
    async def scenario(desk):
        assert (await desk.ask()).outcome is Outcome.EMITTED
        desk.upstream.drift["7"] = "5"
        assert (await desk.ask()).reason is Reason.VERSION_DRIFT
        desk.world.clock.advance(1_500_000_000)
        signal = (await desk.ask()).signal
        assert (signal.signal, signal.reduce_only) == ("flat", True)

    desk(scenario, onDrift="refuse", ladder=[{"standby": "6"}, {"flat": {"after": "1s"}}])


def test_a_row_is_not_judged_by_the_schema_of_a_version_that_may_not_answer(desk):
    async def scenario(desk):
        desk.upstream.drift["7"] = "5"
        decision = await desk.ask(2.0)  # out of range, says the schema
        assert decision.outcome is Outcome.ABSTAINED

    desk(scenario, onDrift="refuse")


def test_the_story_counts_rungs_and_names_every_endpoint_that_was_asked(desk):
    async def scenario(desk):
        tried = (Try("a:1", Problem.MODEL_UNREACHABLE, "refused", 10), Try("b:1", Problem.MODEL_TIMEOUT, "late", 20))
        score = desk.upstream.score

        async def fail(target, card, rows, until):
            if card.version == "7":
                raise CallFailed(Problem.MODEL_TIMEOUT, "late", tried)
            return await score(target, card, rows, until)

        desk.upstream.score = fail
        assert (await desk.ask()).signal.version == "6"
        told = [line.split(",")[0] for line in explain(desk.last(), None) if line.startswith("rung")]
        assert told == [
            "rung 1    stable rb-trend 7 on a:1: model_unreachable",
            "rung 1    stable rb-trend 7 on b:1: model_timeout",
            "rung 2    standby rb-trend 6 on c:1: answered",
        ]

    desk(scenario)
