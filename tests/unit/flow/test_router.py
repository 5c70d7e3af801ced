"""The whole router in process: a snapshot in, a decision out, over fake model servers and a real journal."""

import asyncio
import json
import math
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry

from signalyard import Columnar, ColumnarRow, Direction, Outcome, Problem, Reason, SignalyardError, Snapshot, Track
from signalyard.problems import describe
from signalyard.profile import Feature, FeatureSchema
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.ports import CallFailed
from signalyard_router.router import Router
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.rules.units import MILLISECOND, SECOND
from signalyard_router.settings import RouterSettings
from signalyard_router.testing.disk import FaultyDisk
from signalyard_router.testing.upstream import FakeUpstream
from signalyard_router.testing.world import ManualWorld

SCHEMA = FeatureSchema((Feature(name="p", minimum=0.0, maximum=1.0), Feature(name="x", missing="native")))
NAME = "rb2410.SHFE"


def spec(**more):
    return {
        "model": "rb-trend",
        "instruments": ["rb*.SHFE"],
        "tracks": [
            {"name": "stable", "version": "7", "weight": 100, "endpoint": {"service": "stable", "port": 1}},
            {"name": "canary", "version": "8", "weight": 0, "endpoint": {"service": "canary", "port": 1}},
            {"name": "standby", "version": "6", "endpoint": {"service": "standby", "port": 1}},
        ],
        "mapping": {
            "long": {"enter": 0.6, "exit": 0.52},
            "short": {"enter": 0.4, "exit": 0.48},
            "position": {"scale": "linear", "max": 1.0},
        },
        "filters": {"minConfidence": 0.55},
    } | more


def document(name="rb-trend", **more):
    return {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": "SignalRoute",
        "metadata": {"name": name},
        "spec": spec(**more),
    }


class Desk:
    """A router with all its surroundings in hand."""

    def __init__(self, folder, *documents, durability="os", settings=None, confidence=lambda s: max(s, 1 - s)):
        self.disk = FaultyDisk()
        self.world = ManualWorld(self.disk)
        self.registry = CollectorRegistry()
        self.folder = folder
        self.journal = LocalJournal(
            self.world, JournalSettings(folder=str(folder), durability=durability), self.registry
        )
        self.upstream = FakeUpstream(SCHEMA, lambda row: row["p"], confidence=confidence)
        self.settings = settings or RouterSettings()
        self.documents = [(parse_document(data, "test"), "test") for data in documents or [document()]]

    async def open(self):
        routes = await self.journal.accept(self.documents)
        self.router = Router(self.world, self.settings, routes, self.journal, self.upstream, self.registry)
        self.router.asked()

    def snapshot(self, p, symbol=NAME, **more):
        self.world.clock.advance(10 * MILLISECOND)
        features = {"p": p} if not isinstance(p, dict) else p
        return Snapshot(symbol=symbol, ts_event=self.world.clock.wall(), features=features, **more)

    async def ask(self, p, **more):
        (decision,) = await self.router.predict(self.snapshot(p, **more))
        return decision

    def records(self, kind="decision"):
        lines = (self.folder / "journal-00000001.jsonl").read_text().splitlines()
        return [record for line in lines if (record := json.loads(line))["kind"] == kind]

    def count(self, outcome, reason, route="rb-trend"):
        labels = {"route": route, "outcome": outcome, "reason": reason}
        return self.registry.get_sample_value("signalyard_decisions_total", labels)


@asynccontextmanager
async def desk(folder, *documents, **more):
    made = Desk(folder, *documents, **more)
    await made.open()
    try:
        yield made
    finally:
        made.disk.room = None
        await made.journal.close()


def run(scenario, *args, **more):
    async def main():
        async with desk(*args, **more) as made:
            await scenario(made)

    asyncio.run(main())


def test_a_snapshot_becomes_a_signal(tmp_path):
    async def scenario(desk):
        snapshot = desk.snapshot(0.71)
        (decision,) = await desk.router.predict(snapshot)
        signal = decision.signal
        assert decision.outcome is Outcome.EMITTED
        assert (signal.symbol, signal.signal, signal.score) == (NAME, Direction.LONG, 0.71)
        assert signal.timestamp == snapshot.ts_event // SECOND
        assert signal.position == pytest.approx(0.42)
        assert (signal.version, signal.track, signal.failover, signal.degraded) == ("7", Track.STABLE, False, False)
        assert signal.ts_expire == signal.ts_init + 5 * SECOND
        (record,) = desk.records()
        assert record["input"] == {"columns": ["p"], "values": [0.71]}
        assert record["steps"][0]["result"] == "answered"
        assert desk.count("emitted", "long") == 1
        assert desk.router.state(symbol=NAME).opinions[0].signal_id == signal.signal_id
        assert desk.router.state(symbol="other.X").opinions == []

    run(scenario, tmp_path)


def test_the_rules_in_a_row(tmp_path):
    async def scenario(desk):
        story = [
            (0.71, Outcome.EMITTED, None),  # long
            (0.71, Outcome.SUPPRESSED, Reason.DUPLICATE),
            (0.53, Outcome.SUPPRESSED, Reason.DUPLICATE),  # long by hysteresis; a smaller one, so no filter asks
            (0.50, Outcome.ABSTAINED, Reason.NO_DIRECTION),
            (0.53, Outcome.ABSTAINED, Reason.NO_DIRECTION),  # let go, it must be entered anew
            (0.30, Outcome.EMITTED, None),  # short closes the window of long
            (0.47, Outcome.SUPPRESSED, Reason.DUPLICATE),
            (0.71, Outcome.EMITTED, None),
        ]
        for p, outcome, reason in story:
            decision = await desk.ask(p)
            assert (decision.outcome, decision.reason) == (outcome, reason)
        duplicate = desk.records()[1]
        assert duplicate["duplicate_of"] == desk.records()[0]["signal_id"]
        assert [record.get("held") for record in desk.records()] == [
            None,
            "long",
            "long",
            "long",
            None,
            None,
            "short",
            "short",
        ]

    run(scenario, tmp_path)


def test_rows_of_one_request_see_what_those_before_them_left(tmp_path):
    async def scenario(desk):
        # 0.55 holds a long and enters none: each row's meaning hangs on the one before it.
        rows = [desk.snapshot(p) for p in (0.55, 0.7, 0.55, 0.3, 0.55)]
        together = await desk.router.predict(rows)
        assert [d.reason for d in together] == ["no_direction", None, "duplicate", None, "no_direction"]
        assert [record.get("held") for record in desk.records()] == [None, None, "long", "long", "short"]

    run(scenario, tmp_path)


def test_requests_at_once_see_what_was_settled_before_them(tmp_path):
    async def scenario(desk):
        rows = [desk.snapshot(p) for p in (0.7, 0.55, 0.3, 0.47)]
        decisions = await asyncio.gather(*(desk.router.predict(row) for row in rows))
        assert [d.reason for (d,) in decisions] == [None, "duplicate", None, "duplicate"]

    run(scenario, tmp_path)


def test_the_confidence_that_a_route_asks_for(tmp_path):
    async def scenario(desk):
        assert (await desk.ask(0.53)).reason is Reason.LOW_CONFIDENCE
        assert (await desk.ask(0.55)).outcome is Outcome.EMITTED

    run(scenario, tmp_path, document(mapping={"long": {"enter": 0.52}}))


def test_the_same_snapshot_again_gets_the_stored_decision_and_no_call(tmp_path):
    async def scenario(desk):
        snapshot = desk.snapshot(0.71)
        (first,) = await desk.router.predict(snapshot)
        desk.world.clock.advance(600 * SECOND)  # it would be too old by now
        (again,) = await desk.router.predict(snapshot)
        assert again.signal == first.signal
        assert len(desk.upstream.calls) == 1
        assert len(desk.records()) == 1
        other = Snapshot(
            symbol=snapshot.symbol, ts_event=snapshot.ts_event, features=snapshot.features, consumer="another"
        )
        (apart,) = await desk.router.predict(other)
        assert apart.proposal_id != first.proposal_id

    run(scenario, tmp_path)


def test_an_older_snapshot_is_out_of_order(tmp_path):
    async def scenario(desk):
        old = desk.snapshot(0.71)
        await desk.ask(0.71)
        (decision,) = await desk.router.predict(old)
        assert decision.reason is Reason.OUT_OF_ORDER

    run(scenario, tmp_path)


@pytest.mark.parametrize(
    ("features", "problem", "pointer"),
    [
        ({"p": 0.7, "nope": 1.0}, Problem.UNKNOWN_FEATURE, "/features/nope"),
        ({"x": 1.0}, Problem.MISSING_FEATURE, "/features/p"),
        ({"p": None}, Problem.MISSING_FEATURE, "/features/p"),
        ({"p": math.nan}, Problem.MISSING_FEATURE, "/features/p"),
        ({"p": math.inf}, Problem.FEATURE_NOT_FINITE, "/features/p"),
        ({"p": 1.5}, Problem.FEATURE_OUT_OF_RANGE, "/features/p"),
        ({}, Problem.MISSING_FEATURE, "/features/p"),
    ],
)
def test_a_bad_row_is_rejected_by_name_recorded_and_changes_nothing(tmp_path, features, problem, pointer):
    async def scenario(desk):
        before = await desk.ask(0.71)
        decision = await desk.ask(features)
        assert decision.outcome is Outcome.REJECTED
        assert (decision.problem.code, decision.problem.pointer) == (problem, pointer)
        assert len(desk.upstream.calls) == 1
        assert desk.records()[-1]["problem"]["code"] == problem
        assert desk.router.state().opinions[0].signal_id == before.signal.signal_id
        assert desk.count("rejected", problem) == 1

    run(scenario, tmp_path)


def test_a_bad_row_does_not_keep_good_ones_from_going_on(tmp_path):
    async def scenario(desk):
        rows = [desk.snapshot(p, f"rb{n}.SHFE") for n, p in enumerate([0.7, 7.0, 0.3])]
        rows.append(desk.snapshot(0.7, "unknown.CME"))
        rows.append(desk.snapshot(0.7, "no-exchange"))
        decisions = await desk.router.predict(rows)
        assert [d.outcome for d in decisions] == ["emitted", "rejected", "emitted", "rejected", "rejected"]
        assert [d.row for d in decisions] == [0, 1, 2, 3, 4]
        assert [d.problem.code for d in decisions if d.problem] == [
            Problem.FEATURE_OUT_OF_RANGE,
            Problem.NO_ROUTE,
            Problem.INVALID_INSTRUMENT,
        ]
        assert desk.upstream.calls == [("7", 2)]  # one call for the rows of a track

    run(scenario, tmp_path)


def test_a_row_without_the_form_of_a_snapshot_is_recorded_too(tmp_path):
    async def scenario(desk):
        bad = BadRow(0, describe(Problem.INVALID_SNAPSHOT, "ts_event is missing", "/ts_event"), NAME)
        good = desk.snapshot(0.7)
        row = Row(1, good.symbol, good.ts_event, ("p",), [0.7])
        uneven = Row(2, good.symbol, good.ts_event, ("p", "x"), [0.7])
        decisions = await desk.router.decide([bad, row, uneven])
        assert [d.outcome for d in decisions] == ["rejected", "emitted", "rejected"]
        assert [d.problem.code for d in decisions if d.problem] == [Problem.INVALID_SNAPSHOT] * 2
        assert len(desk.records()) == 3

    run(scenario, tmp_path)


def test_columnar(tmp_path):
    async def scenario(desk):
        one = desk.snapshot(0.7)
        request = Columnar(columns=["x", "p"], rows=[ColumnarRow(one.symbol, one.ts_event, [None, 0.7])])
        (decision,) = await desk.router.predict(request)
        assert decision.outcome is Outcome.EMITTED

    run(scenario, tmp_path)


@pytest.mark.parametrize(
    ("age", "problem"),
    [
        (2 * SECOND, None),
        (2 * SECOND + 1, Problem.SNAPSHOT_TOO_OLD),
        (-250 * MILLISECOND, None),
        (-250 * MILLISECOND - 1, Problem.SNAPSHOT_FROM_FUTURE),
    ],
)
def test_a_snapshot_out_of_its_time(tmp_path, age, problem):
    async def scenario(desk):
        at = desk.world.clock.wall() - age
        (decision,) = await desk.router.predict(Snapshot(symbol=NAME, ts_event=at, features={"p": 0.7}))
        assert (decision.problem.code if decision.problem else None) == problem
        if problem:
            assert decision.problem.pointer == "/ts_event"

    run(scenario, tmp_path)


def test_a_version_that_fails_is_stood_in_for(tmp_path):
    async def scenario(desk):
        desk.upstream.fail["7"] = Problem.MODEL_UNREACHABLE
        decision = await desk.ask(0.7)
        assert (decision.signal.version, decision.signal.track) == ("6", Track.STANDBY)
        assert decision.signal.failover
        assert [step["result"] for step in desk.records()[0]["steps"]] == ["model_unreachable", "answered"]
        again = await desk.ask(0.7)  # a stand-in's signal opens a window like any other
        assert again.reason is Reason.DUPLICATE

    run(scenario, tmp_path)


def test_where_nobody_answers_there_is_no_signal(tmp_path):
    async def scenario(desk):
        desk.upstream.fail = {"7": Problem.MODEL_TIMEOUT, "6": Problem.MODEL_FAILED}
        decision = await desk.ask(0.7)
        assert (decision.outcome, decision.reason) == (Outcome.ABSTAINED, Reason.NO_ANSWER)
        assert desk.records()[0]["degraded"]
        labels = {"route": "rb-trend", "rung": "skip"}
        assert desk.registry.get_sample_value("signalyard_degraded_total", labels) == 1

    run(scenario, tmp_path)


def test_a_version_that_was_never_learnt_is_passed_over(tmp_path):
    async def scenario(desk):
        desk.upstream.unknown = {"7"}
        decision = await desk.ask(0.7)
        assert decision.signal.version == "6"
        desk.upstream.unknown = {"7", "6"}
        assert (await desk.ask(0.7)).reason is Reason.NO_ANSWER

    run(scenario, tmp_path)


def test_a_row_that_the_model_cannot_score(tmp_path):
    async def scenario(desk):
        desk.upstream.row_errors = {0: "the row is odd"}
        rows = [desk.snapshot(0.7), desk.snapshot(0.7, "rb2411.SHFE")]
        bad, good = await desk.router.predict(rows)
        assert (bad.outcome, bad.reason) == (Outcome.ABSTAINED, Reason.ROW_ERROR)
        assert good.outcome is Outcome.EMITTED
        assert desk.records()[0]["steps"][-1]["detail"] == "the row is odd"

    run(scenario, tmp_path)


def test_a_strategy_served_as_a_model_is_marked_degraded(tmp_path):
    rung = {"model": {"name": "momentum", "version": "1", "endpoint": {"service": "m", "port": 1}}}

    async def scenario(desk):
        desk.upstream.fail = {"7": Problem.MODEL_TIMEOUT, "6": Problem.MODEL_TIMEOUT}
        signal = (await desk.ask(0.7)).signal
        assert (signal.model, signal.version, signal.track) == ("momentum", "1", None)
        assert (signal.degraded, signal.failover) == (True, True)

    run(scenario, tmp_path, document(ladder=[{"standby": "6"}, rung]))


def test_the_flat_rung_waits_then_closes_what_is_open_once(tmp_path):
    async def scenario(desk):
        await desk.ask(0.7)
        await desk.ask(0.3, symbol="rb2411.SHFE")
        desk.upstream.fail = {"7": Problem.MODEL_TIMEOUT}
        assert (await desk.ask(0.7)).reason is Reason.NO_ANSWER  # the outage has just begun
        desk.world.clock.advance(30 * SECOND)
        closing = await desk.ask(0.7)
        assert closing.signal.signal is Direction.FLAT
        assert (closing.signal.reduce_only, closing.signal.degraded, closing.signal.score) == (True, True, None)
        assert (await desk.ask(0.7)).reason is Reason.NO_ANSWER  # once an outage
        assert (await desk.ask(0.7, symbol="rb9999.SHFE")).reason is Reason.NO_ANSWER  # nothing is open there
        assert (await desk.ask(0.7, symbol="rb2411.SHFE")).reason is Reason.FLAT_CEILING
        desk.upstream.fail = {}
        assert (await desk.ask(0.7)).signal.signal is Direction.LONG
        desk.upstream.fail = {"7": Problem.MODEL_TIMEOUT}
        assert (await desk.ask(0.7)).reason is Reason.NO_ANSWER  # a new outage begins at nothing

    run(scenario, tmp_path, document(ladder=[{"flat": {"after": "30s", "instrumentsPerMinute": 1}}, {"skip": {}}]))


def test_a_clock_set_forward_makes_no_outage_longer(tmp_path):
    async def scenario(desk):
        await desk.ask(0.7)
        desk.upstream.fail = {"7": Problem.MODEL_TIMEOUT}
        assert (await desk.ask(0.7)).reason is Reason.NO_ANSWER
        desk.world.clock.step_wall(60 * SECOND)
        assert (await desk.ask(0.7)).reason is Reason.NO_ANSWER
        desk.world.clock.advance(30 * SECOND)
        assert (await desk.ask(0.7)).signal.signal is Direction.FLAT

    run(scenario, tmp_path, document(ladder=[{"flat": {"after": "30s"}}, {"skip": {}}]))


def test_two_routes_of_one_instrument_both_decide(tmp_path):
    async def scenario(desk):
        snapshot = desk.snapshot(0.7)
        decisions = await desk.router.predict([snapshot, desk.snapshot(0.7, "cu1.SHFE")])
        assert [(d.row, d.route, d.outcome) for d in decisions] == [
            (0, "one", "emitted"),
            (0, "two", "emitted"),
            (1, "two", "emitted"),
        ]
        named = await desk.router.predict(desk.snapshot(0.3, route="one"))
        assert [d.route for d in named] == ["one"]

    run(scenario, tmp_path, document("one"), document("two", instruments=["*.SHFE"]))


def test_a_canary_decides_for_its_share(tmp_path):
    async def scenario(desk):
        decisions = await desk.router.predict([desk.snapshot(0.7, f"rb{n}.SHFE") for n in range(200)])
        tracks = [d.signal.track for d in decisions]
        assert tracks.count(Track.CANARY) + tracks.count(Track.STABLE) == 200
        assert 60 < tracks.count(Track.CANARY) < 140
        assert sorted(desk.upstream.calls) == sorted(
            [("7", tracks.count(Track.STABLE)), ("8", tracks.count(Track.CANARY))]
        )
        status = desk.router.status().routes[0]
        assert {d.signal.symbol: d.signal.track for d in decisions} == status.assignment

    tracks = spec()["tracks"]
    tracks[0]["weight"] = tracks[1]["weight"] = 50
    run(scenario, tmp_path, document(tracks=tracks))


def test_an_uncalibrated_model_has_no_confidence_and_passes_no_filter_that_asks_for_one(tmp_path):
    async def scenario(desk):
        assert (await desk.ask(0.7)).reason is Reason.NO_CONFIDENCE

    run(scenario, tmp_path, confidence=None)


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_when_the_journal_fails_nothing_is_emitted(tmp_path, durability):
    async def scenario(desk):
        desk.disk.room = 10
        decision = await desk.ask(0.7)
        assert (decision.outcome, decision.reason) == (Outcome.SUPPRESSED, Reason.JOURNAL_UNAVAILABLE)
        assert decision.signal is None
        assert desk.router.unready() == ["the journal cannot record decisions"]
        desk.disk.room = None
        assert (await desk.ask(0.7)).outcome is Outcome.EMITTED
        assert desk.router.unready() == []

    run(scenario, tmp_path, durability=durability)


def test_what_the_journal_does_not_confirm_in_time_is_unknown(tmp_path):
    async def scenario(desk):
        desk.disk.hang = asyncio.Event()
        snapshot = desk.snapshot(0.7)
        (decision,) = await desk.router.predict(snapshot)
        assert (decision.outcome, decision.reason) == (Outcome.UNKNOWN, Reason.UNCONFIRMED)
        assert decision.signal is None
        desk.disk.hang.set()
        (again,) = await desk.router.predict(snapshot)  # the record is the truth
        assert again.outcome is Outcome.EMITTED
        assert len(desk.records()) == 1

    run(scenario, tmp_path, document(deadline="20ms"), durability="fsync")


def test_a_hanging_disk_and_a_hung_model_do_not_hold_more_than_the_cap(tmp_path):
    async def scenario(desk):
        desk.upstream.fail["7"] = "hang"
        waiting = [asyncio.ensure_future(desk.ask(0.7, symbol=f"rb{n}.SHFE")) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(SignalyardError) as refused:
            await desk.ask(0.7)
        assert refused.value.problem is Problem.OVERLOADED
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        desk.upstream.fail = {}
        assert (await desk.ask(0.7)).outcome is Outcome.EMITTED

    run(scenario, tmp_path, settings=RouterSettings(max_rows_in_flight=3))


def test_counters_start_at_zero(tmp_path):
    async def scenario(desk):
        for outcome, reason in (
            ("emitted", "long"),
            ("suppressed", "duplicate"),
            ("suppressed", "journal_unavailable"),
            ("abstained", "no_answer"),
            ("rejected", "missing_feature"),
            ("unknown", "unconfirmed"),
        ):
            assert desk.count(outcome, reason) == 0
        assert desk.count("rejected", "no_route", route="") == 0
        for rung in ("standby", "skip"):
            labels = {"route": "rb-trend", "rung": rung}
            assert desk.registry.get_sample_value("signalyard_degraded_total", labels) == 0

    run(scenario, tmp_path)


def test_readiness_tells_why_not(tmp_path):
    async def scenario(desk):
        assert desk.router.unready() == []
        desk.router.drain()
        assert desk.router.unready() == ["the router is shutting down"]
        assert (await desk.ask(0.7)).outcome is Outcome.EMITTED

    run(scenario, tmp_path)


def test_a_slow_route_does_not_make_another_ones_signal_late(tmp_path):
    async def scenario(desk):
        # Two routes on one instrument; the second has ten times the first one's deadline, and its model hangs.
        desk.upstream.fail["9"] = "hang"
        clock = desk.world.clock
        received = clock.monotonic()
        row = Row(0, NAME, clock.wall(), ("p",), [0.71])
        score = desk.upstream.score

        async def late(target, card, rows, until):
            if target.version == "9":
                clock.advance(until - clock.monotonic())
                raise CallFailed(Problem.MODEL_TIMEOUT, "no answer within the budget")
            return await score(target, card, rows, until)

        desk.upstream.score = late
        first, second = await desk.router.decide([row], received=received)
        assert first.outcome is Outcome.EMITTED
        assert (second.outcome, second.reason) == (Outcome.ABSTAINED, Reason.NO_ANSWER)
        assert clock.monotonic() - received <= 20 * MILLISECOND

    slow = [{"name": "stable", "version": "9", "weight": 100, "endpoint": {"service": "slow", "port": 1}}]
    run(scenario, tmp_path, document("a", deadline="20ms"), document("b", deadline="200ms", tracks=slow))


def test_a_row_that_reached_no_route_takes_no_time_from_the_others(tmp_path):
    async def scenario(desk):
        clock = desk.world.clock
        received = clock.monotonic()
        rows = [Row(0, "nowhere.X", clock.wall(), ("p",), [0.71]), Row(1, NAME, clock.wall(), ("p",), [0.71])]
        score = desk.upstream.score

        async def slow(*args):
            clock.advance(200 * MILLISECOND)  # longer than a rejection on its own may take
            return await score(*args)

        desk.upstream.score = slow
        rejected, emitted = await desk.router.decide(rows, received=received)
        assert (rejected.outcome, emitted.outcome) == (Outcome.REJECTED, Outcome.EMITTED)

    run(scenario, tmp_path, document(deadline="1s"))
