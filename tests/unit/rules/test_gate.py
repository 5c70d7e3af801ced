"""The gate against a plain model that keeps the whole history and reads the rules off it."""

import itertools
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalyard.words import Direction, Outcome, Reason
from signalyard_router.rules.gate import Gate
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.record import DecisionRecord, LeverRecord, Settlement, record_of
from signalyard_router.rules.route import GateRules
from signalyard_router.rules.units import MINUTE, SECOND, Rate

WINDOW = 5 * SECOND


@dataclass
class PlainModel:
    """Rules 2 to 6 said again, slowly: every question is answered by looking through all that happened."""

    history: list[DecisionRecord] = field(default_factory=list)

    def expect(self, proposal: Proposal, now: int, late: bool) -> tuple[Outcome, Reason | None]:
        rules = proposal.rules
        mine = [r for r in self.history if (r.route, r.symbol) == (proposal.route, proposal.symbol)]
        placed = [r for r in mine if r.reason not in (Reason.PAST_COMMIT_BY, Reason.SUPERSEDED, Reason.OUT_OF_ORDER)]
        if late:
            return Outcome.SUPPRESSED, Reason.PAST_COMMIT_BY
        if any((r.ts_event, r.sequence) > (proposal.ts_event, proposal.sequence) for r in placed):
            return Outcome.SUPPRESSED, Reason.OUT_OF_ORDER
        if proposal.abstain:
            return Outcome.ABSTAINED, proposal.abstain
        emitted = [r for r in mine if r.outcome is Outcome.EMITTED]
        last = emitted[-1] if emitted else None
        reduces = proposal.direction is Direction.FLAT or (
            last is not None
            and last.direction is proposal.direction
            and None not in (last.position, proposal.position)
            and abs(proposal.position) < abs(last.position)
        )
        exempt = reduces and not rules.filter_exits
        if proposal.objection and not exempt:
            return Outcome.SUPPRESSED, proposal.objection
        if last is not None and last.direction is proposal.direction and now - last.t < rules.window:
            return Outcome.SUPPRESSED, Reason.DUPLICATE
        sides = [r for r in emitted if r.direction is not Direction.FLAT]
        flips = [b for a, b in itertools.pairwise(sides) if a.direction is not b.direction]
        is_flip = proposal.direction is not Direction.FLAT and sides and sides[-1].direction is not proposal.direction
        if rules.flips and is_flip:
            latched = any(r.reason is Reason.FLIP_LATCHED for r in mine)
            if latched or sum(1 for r in flips if now - r.t < rules.flips.window) >= rules.flips.count:
                return Outcome.SUPPRESSED, Reason.FLIP_LATCHED
        if rules.signals and not exempt:
            of_route = [r for r in self.history if r.route == proposal.route and r.outcome is Outcome.EMITTED]
            latched = any(r.route == proposal.route and r.reason is Reason.RATE_LIMITED for r in self.history)
            if latched or sum(1 for r in of_route if now - r.t < rules.signals.window) >= rules.signals.count:
                return Outcome.SUPPRESSED, Reason.RATE_LIMITED
        return Outcome.EMITTED, None


@st.composite
def worlds(draw):
    rules = GateRules(
        window=WINDOW,
        valid_for=SECOND,
        filter_exits=draw(st.booleans()),
        signals=draw(st.sampled_from([None, Rate(3, MINUTE), Rate(2, SECOND)])),
        flips=draw(st.sampled_from([None, Rate(1, MINUTE), Rate(2, MINUTE)])),
    )
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["A.X", "B.X"]),
                st.sampled_from(["long", "short", "flat", "no_direction", "no_answer"]),
                st.sampled_from([0, 1, SECOND, WINDOW - 1, WINDOW, 30 * SECOND]),  # time that passes before
                st.integers(-2, 3),  # step of ts_event
                st.sampled_from([None, 0.2, 0.5, 1.0]),  # size
                st.sampled_from([None, None, Reason.LOW_CONFIDENCE, Reason.DIRECTION_FILTERED]),
                st.sampled_from([False] * 9 + [True]),  # late
                st.sampled_from(["r1"] * 5 + ["r2"]),  # revision
            ),
            max_size=40,
        )
    )
    return rules, steps


def propose(index, rules, symbol, what, ts_event, size, objection, revision) -> Proposal:
    direction = Direction(what) if what in ("long", "short", "flat") else None
    sized = None if size is None or direction is None else direction.sign * size
    return Proposal(
        proposal_id=f"{index:032x}",
        symbol=symbol,
        ts_event=ts_event,
        ts_recv=0,
        received=0,
        route="route",
        revision=revision,
        direction=direction,
        abstain=None if direction else Reason(what),
        position=sized,
        objection=objection if direction else None,
        rules=rules,
    )


@settings(max_examples=400, deadline=None)
@given(worlds())
def test_the_gate_does_what_the_rules_say(world):
    rules, steps = world
    gate, model = Gate(), PlainModel()
    now, ts_event, seqs = 10 * MINUTE, 1_000, {}
    for index, (symbol, what, pause, step, size, objection, late, revision) in enumerate(steps):
        now += pause
        ts_event = max(1, ts_event + step)
        proposal = propose(index, rules, symbol, what, ts_event, size, objection, revision)
        expected = model.expect(proposal, now, late)
        settlement = gate.admit(proposal, now, late=late)
        assert (settlement.outcome, settlement.reason) == expected
        if settlement.outcome is Outcome.EMITTED:
            assert (settlement.prev_seq, settlement.seq) == (seqs.get(symbol, 0), seqs.get(symbol, 0) + 1)
            seqs[symbol] = settlement.seq
        record = record_of(proposal, settlement, seq=index + 1, t=now, epoch=1, elapsed=0)
        gate.apply(record)
        model.history.append(record)
        stored = gate.settled(proposal.proposal_id)
        assert stored is not None
        assert (stored.outcome, stored.reason) == expected


@settings(max_examples=200, deadline=None)
@given(worlds(), st.integers(0, 40))
def test_taking_records_back_leaves_no_trace(world, keep):
    rules, steps = world
    one, other = Gate(), Gate()
    now, ts_event = 10 * MINUTE, 1_000
    undos = []
    for index, (symbol, what, pause, step, size, objection, late, revision) in enumerate(steps):
        now += pause
        ts_event = max(1, ts_event + step)
        proposal = propose(index, rules, symbol, what, ts_event, size, objection, revision)
        settlement = one.admit(proposal, now, late=late)
        record = record_of(proposal, settlement, seq=index + 1, t=now, epoch=1, elapsed=0)
        undo = one.apply(record)
        if index < keep:
            other.apply(record)
        else:
            undos.append(undo)
    for undo in reversed(undos):
        one.revert(undo)
    # Only what is too old for any window may differ, and none of it is older than the longest one here.
    for attribute in ("_instruments", "_recent", "_routes", "_throttled"):
        assert getattr(one, attribute) == getattr(other, attribute)
    for attribute in ("_signals", "_flats"):
        mine = {route: list(times) for route, times in getattr(one, attribute).items() if times}
        theirs = {route: list(times) for route, times in getattr(other, attribute).items() if times}
        assert mine == theirs


def test_folding_the_records_gives_the_gate_back():
    rules = GateRules(window=WINDOW, valid_for=SECOND, flips=Rate(1, MINUTE))
    gate, again = Gate(), Gate()
    for index, what in enumerate(["long", "long", "short", "long", "flat", "no_direction"]):
        proposal = propose(index, rules, "A.X", what, 1_000 + index, 0.5, None, "r1")
        settlement = gate.admit(proposal, MINUTE + index * SECOND, late=False)
        record = record_of(proposal, settlement, seq=index + 1, t=MINUTE + index * SECOND, epoch=1, elapsed=0)
        gate.apply(record)
        again.apply(msgspec.json.decode(msgspec.json.encode(record), type=DecisionRecord))
    assert gate._instruments == again._instruments
    assert gate.opinions(0) == again.opinions(0)


def emit(gate: Gate, index: int, what: str, now: int, rules: GateRules, **more) -> Settlement:
    proposal = propose(index, rules, "A.X", what, 1_000 + index, more.get("size"), more.get("objection"), "r1")
    proposal.reduce_only = more.get("reduce_only", False)
    settlement = gate.admit(proposal, now, late=False)
    gate.apply(record_of(proposal, settlement, seq=index + 1, t=now, epoch=1, elapsed=0))
    return settlement


def test_a_window_begins_with_the_emission_and_no_duplicate_extends_it():
    rules = GateRules(window=WINDOW, valid_for=SECOND)
    gate = Gate()
    first = emit(gate, 0, "long", 0, rules)
    assert first.outcome is Outcome.EMITTED
    for index in range(1, 5):
        duplicate = emit(gate, index, "long", index * SECOND, rules)
        assert (duplicate.reason, duplicate.duplicate_of) == (Reason.DUPLICATE, f"s-{0:032x}")
    assert emit(gate, 5, "long", WINDOW - 1, rules).reason is Reason.DUPLICATE
    assert emit(gate, 6, "long", WINDOW, rules).outcome is Outcome.EMITTED


def test_long_short_long_are_three_signals():
    rules = GateRules(window=WINDOW, valid_for=SECOND)
    gate = Gate()
    outcomes = [emit(gate, index, what, index, rules).outcome for index, what in enumerate(["long", "short", "long"])]
    assert outcomes == [Outcome.EMITTED] * 3


def test_an_exit_passes_the_filters_and_the_rate_unless_the_route_filters_exits():
    for filter_exits, expected in ((False, Outcome.EMITTED), (True, Outcome.SUPPRESSED)):
        rules = GateRules(window=WINDOW, valid_for=SECOND, filter_exits=filter_exits, signals=Rate(1, MINUTE))
        gate = Gate()
        emit(gate, 0, "long", 0, rules)
        assert emit(gate, 1, "flat", 1, rules, objection=Reason.LOW_CONFIDENCE).outcome is expected
        # Within the window the second flat repeats the first; where the first was held back, so is the second.
        assert emit(gate, 2, "flat", 2, rules).reason is (Reason.RATE_LIMITED if filter_exits else Reason.DUPLICATE)


def test_a_latched_instrument_still_exits_and_only_a_reset_frees_it():
    rules = GateRules(window=0, valid_for=SECOND, flips=Rate(1, MINUTE))
    gate = Gate()
    story = [("long", None), ("short", None), ("long", Reason.FLIP_LATCHED), ("short", None), ("flat", None)]
    for index, (what, reason) in enumerate(story):
        assert emit(gate, index, what, index, rules).reason is reason
    # The minute has passed, and the latch still holds ...
    assert emit(gate, 6, "long", 2 * MINUTE, rules).reason is Reason.FLIP_LATCHED
    proposal = propose(7, rules, "A.X", "long", 2_000, None, None, "r2")
    assert gate.admit(proposal, 2 * MINUTE, late=False).reason is Reason.FLIP_LATCHED
    # ... until a person resets it.
    assert gate.latches() == [("route", "A.X")]
    undo = gate.pull(lever("reset", route="route", symbol="A.X", latch="flips"))
    assert gate.admit(proposal, 2 * MINUTE, late=False).outcome is Outcome.EMITTED
    gate.revert(undo)
    assert gate.admit(proposal, 2 * MINUTE, late=False).reason is Reason.FLIP_LATCHED


def test_the_flat_rung_closes_only_what_is_open_and_so_many_a_minute():
    rules = GateRules(window=0, valid_for=SECOND, flats_per_minute=1)
    gate = Gate()
    assert emit(gate, 0, "flat", 0, rules, reduce_only=True).reason is Reason.NO_ANSWER
    emit(gate, 1, "long", 1, rules)
    assert emit(gate, 2, "flat", 2, rules, reduce_only=True).outcome is Outcome.EMITTED
    assert emit(gate, 3, "flat", 3, rules, reduce_only=True).reason is Reason.NO_ANSWER  # once, for it is closed
    emit(gate, 4, "long", 4, rules)
    assert emit(gate, 5, "flat", 5, rules, reduce_only=True).reason is Reason.FLAT_CEILING
    none = GateRules(window=0, valid_for=SECOND, flats_per_minute=0)
    assert emit(gate, 6, "flat", 2 * MINUTE, none, reduce_only=True).reason is Reason.FLAT_CEILING
    assert emit(gate, 6, "flat", 2 + MINUTE, rules, reduce_only=True).outcome is Outcome.EMITTED


def test_what_was_refused_a_place_changes_no_state():
    rules = GateRules(window=0, valid_for=SECOND)
    gate = Gate()
    emit(gate, 5, "long", 0, rules)
    before = dict(gate._instruments)
    old = propose(99, rules, "A.X", "short", 1, None, None, "r1")
    settlement = gate.admit(old, 1, late=False)
    assert settlement.reason is Reason.OUT_OF_ORDER
    gate.apply(record_of(old, settlement, seq=9, t=1, epoch=1, elapsed=0))
    assert gate._instruments == before
    assert gate.settled(old.proposal_id) is not None


def test_decisions_at_the_newest_place_are_remembered_however_many_follow_elsewhere():
    rules = GateRules(window=0, valid_for=SECOND)
    gate = Gate(remember=2)
    emit(gate, 0, "long", 0, rules)
    for index in range(1, 6):
        proposal = propose(index, rules, "B.X", "long", index, None, None, "r1")
        settlement = gate.admit(proposal, index, late=False)
        gate.apply(record_of(proposal, settlement, seq=index + 1, t=index, epoch=1, elapsed=0))
    assert gate.settled(f"{0:032x}") is not None
    assert gate.settled(f"{1:032x}") is None


def lever(action, at=0, **more) -> LeverRecord:
    return LeverRecord(v=1, seq=1, t=at, id=f"l-{action}", action=action, by="ann", why="a test", prev="", **more)


def test_a_throttled_route_stays_throttled_until_a_reset_and_lets_exits_through():
    rules = GateRules(window=0, valid_for=SECOND, signals=Rate(1, SECOND))
    gate = Gate()
    assert emit(gate, 0, "long", 0, rules).outcome is Outcome.EMITTED
    assert emit(gate, 1, "short", 1, rules).reason is Reason.RATE_LIMITED
    assert emit(gate, 2, "short", MINUTE, rules).reason is Reason.RATE_LIMITED
    assert emit(gate, 3, "flat", MINUTE, rules).outcome is Outcome.EMITTED
    assert gate.latches() == [("route", None)]
    gate.pull(lever("reset", route="route", latch="throttle"))
    assert emit(gate, 4, "short", 2 * MINUTE, rules).outcome is Outcome.EMITTED


def test_a_halt_stops_everything_in_its_scope_until_it_is_named():
    rules = GateRules(window=0, valid_for=SECOND)
    for scope, stopped in (
        ({}, True),
        ({"route": "route"}, True),
        ({"symbol": "A.X"}, True),
        ({"route": "route", "symbol": "A.X"}, True),
        ({"route": "other"}, False),
        ({"symbol": "B.X"}, False),
    ):
        gate = Gate()
        emit(gate, 0, "long", 0, rules)
        gate.pull(lever("halt", **scope))
        for index, what in enumerate(("short", "flat"), start=1):
            assert (emit(gate, index, what, index, rules).reason is Reason.HALTED) is stopped
        gate.pull(lever("resume", lever="l-another"))
        assert len(gate.levers) == 1
        gate.pull(lever("resume", lever="l-halt"))
        assert emit(gate, 9, "long", 9, rules).outcome is Outcome.EMITTED


def test_a_pause_lets_exits_through_and_may_expire():
    rules = GateRules(window=0, valid_for=SECOND)
    gate = Gate()
    emit(gate, 0, "long", 0, rules)
    gate.pull(lever("pause", expires=MINUTE))
    assert emit(gate, 1, "short", 1, rules).reason is Reason.PAUSED
    assert emit(gate, 2, "flat", 2, rules).outcome is Outcome.EMITTED
    assert emit(gate, 3, "short", MINUTE, rules).outcome is Outcome.EMITTED


def test_of_weights_and_rollbacks_the_newest_holds_alone():
    gate = Gate()
    gate.pull(lever("halt"))
    gate.pull(lever("weight", route="a", canary=5.0))
    gate.pull(lever("weight", route="b", canary=5.0))
    gate.pull(lever("rollback", route="a", version="6"))
    assert [(one.action, one.route) for one in gate.levers] == [("halt", None), ("weight", "b"), ("rollback", "a")]


def test_a_position_that_another_version_takes_over_is_marked():
    rules = GateRules(window=0, valid_for=SECOND)
    gate = Gate()

    def by(version, index, what):
        proposal = propose(index, rules, "A.X", what, 1_000 + index, None, None, "r1")
        proposal.assigned = version
        settlement = gate.admit(proposal, index, late=False)
        gate.apply(record_of(proposal, settlement, seq=index + 1, t=index, epoch=1, elapsed=0))
        return settlement.handover

    assert not by("7", 0, "long")
    assert gate.owner("route", "A.X") == "7"
    assert by("8", 1, "short")
    assert not by("8", 2, "flat")
    assert gate.owner("route", "A.X") is None
    assert not by("7", 3, "long")


@pytest.mark.parametrize("reason", ["no_answer", "row_error", "version_drift"])
def test_an_abstention_that_no_mapping_made_leaves_hysteresis_as_it_is(reason):
    gate = Gate()
    emit(gate, 0, "long", 0, GateRules(window=WINDOW, valid_for=SECOND))
    emit(gate, 1, reason, 1, GateRules(window=WINDOW, valid_for=SECOND))
    assert gate._instruments["route", "A.X"].held is Direction.LONG
    emit(gate, 2, "no_direction", 2, GateRules(window=WINDOW, valid_for=SECOND))
    assert gate._instruments["route", "A.X"].held is None
