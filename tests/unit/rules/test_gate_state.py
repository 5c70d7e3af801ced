"""A gate that was written down and read again is the gate that it was."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from signalyard.words import Direction, Reason
from signalyard_router.rules.gate import Gate, GateState
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.record import GroupRecord, LeverRecord, PlanRecord, RouteRecord, record_of
from signalyard_router.rules.route import GateRules
from signalyard_router.rules.units import MINUTE, SECOND, Rate

REMEMBER = 6
GROUP_STEPS = ["priority", "priority", "agree", "independent", "apart"]


def test_every_member_of_a_gate_is_in_its_state():
    # Who gives the gate another member has to take it into GateState, snapshot and restore; then into this list.
    assert set(vars(Gate())) == {
        "_remember",
        "_instruments",
        "_routes",
        "_levers",
        "_stops",
        "_throttled",
        "_plans",
        "_signals",
        "_flats",
        "_recent",
        "_recent_order",
        "_outlasting",
        "_groups",
        "_sides",
        "_compiled",
        "_books",
        "_members",
    }


steps = st.lists(
    st.tuples(
        st.sampled_from(["A.X", "B.X", "C.X"]),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(["long", "short", "flat", "flat_rung", "no_direction", "no_answer"]),
        st.sampled_from([0, 1, SECOND, 5 * SECOND, 30 * SECOND, 61 * MINUTE]),
        st.integers(-2, 3),
        st.sampled_from([None, 0.2, 1.0]),
        st.sampled_from([None, None, Reason.LOW_CONFIDENCE]),
        st.sampled_from([False] * 9 + [True]),
        st.sampled_from(
            [None] * 9
            + ["route", "away", "halt", "pause", "weight", "resume", "throttle", "flips", "plan", "replan"]
            + GROUP_STEPS
        ),
    ),
    max_size=60,
)


def group_document(conflict):
    """A group of both routes, with limits that these steps reach."""
    return {
        "apiVersion": "signalyard.io/v1alpha1",
        "kind": "SignalGroup",
        "metadata": {"name": "g"},
        "spec": {
            "routes": ["r1", "r2"],
            "conflict": conflict,
            "dedupe": {"window": "1s"},
            "limits": {"signals": "5/min", "flips": "2/min"},
        },
    }


def records(steps_, gate):
    """Play the steps on ``gate``, and give what it made of them."""
    now, ts_event, generation = 10 * MINUTE, 1_000, 1
    rules = GateRules(window=5 * SECOND, valid_for=SECOND, signals=Rate(4, MINUTE), flips=Rate(2, MINUTE))
    levers = 0
    for index, (symbol, route, what, pause, step, size, objection, late, other) in enumerate(steps_):
        now += pause
        ts_event = max(1, ts_event + step)
        if other in ("route", "away"):
            generation += 1
            document = {"spec": {"deadline": "90ms"}} if other == "route" else None
            record = RouteRecord(
                v=1,
                seq=index,
                t=now,
                name=route,
                revision=f"v{generation}",
                generation=generation,
                place="",
                document=document,
                prev="",
            )
            yield gate.accept(record), record
            continue
        if other in GROUP_STEPS:
            document = None if other == "apart" else group_document(other)
            record = GroupRecord(v=1, seq=index, t=now, name="g", revision=other, place="", document=document, prev="")
            yield gate.group(record), record
            continue
        if other == "plan":
            record = PlanRecord(
                v=1,
                seq=index,
                t=now,
                route=route,
                plan="p",
                step=index,
                state="running",
                canary=500,
                why="enough",
                evidence={"decisions": 3.0},
                prev="",
            )
            yield gate.step(record), record
            continue
        if other is not None:
            levers += 1
            record = LeverRecord(
                v=1,
                seq=index,
                t=now,
                id=f"l-{levers}",
                action="reset" if other in ("throttle", "flips") else other,
                by="me",
                why="because",
                route=route,
                symbol=symbol if other == "flips" else None,
                lever=f"l-{levers - 1}" if other == "resume" else None,
                canary=12.5 if other == "weight" else None,
                latch=other if other in ("throttle", "flips") else None,
                expires=now + SECOND if other == "pause" else None,
                prev="",
            )
            yield gate.pull(record), record
            continue
        direction = None if what.startswith("no_") else Direction.FLAT if what == "flat_rung" else Direction(what)
        proposal = Proposal(
            proposal_id=f"{index:032x}",
            symbol=symbol,
            ts_event=ts_event,
            ts_recv=0,
            received=0,
            route=route,
            revision=f"v{generation}",
            generation=generation,
            direction=direction,
            abstain=None if direction else Reason(what),
            position=None if size is None or direction is None else direction.sign * size,
            objection=objection if direction else None,
            reduce_only=what == "flat_rung",
            rules=rules,
        )
        settlement = gate.admit(proposal, now, late=late)
        record = record_of(proposal, settlement, seq=index, t=now, epoch=3, elapsed=0)
        yield gate.apply(record), record


def fold(gate, part):
    for _, record in part:
        match record:
            case RouteRecord():
                gate.accept(record)
            case LeverRecord():
                gate.pull(record)
            case PlanRecord():
                gate.step(record)
            case GroupRecord():
                gate.group(record)
            case _:
                gate.apply(record)
    return gate


@settings(max_examples=300, deadline=None)
@given(steps, st.integers(0, 60))
def test_restoring_and_folding_is_folding(steps_, at):
    live = Gate(REMEMBER)
    played = list(records(steps_, live))
    at = min(at, len(played))

    before = fold(Gate(REMEMBER), played[:at])
    written = msgspec.json.encode(before.snapshot())
    restored = Gate.restore(msgspec.json.decode(written, type=GateState), REMEMBER)
    assert vars(restored) == vars(before)
    assert [times.maxlen for times in restored._signals.values()] == [
        times.maxlen for times in before._signals.values()
    ]
    _remembers(before)
    whole = fold(Gate(REMEMBER), played)
    assert vars(fold(restored, played[at:])) == vars(whole) == vars(live)


@settings(max_examples=50, deadline=None)
@given(steps)
def test_a_snapshot_does_not_change_with_its_gate(steps_):
    gate = Gate(REMEMBER)
    taken = []
    for _ in records(steps_, gate):
        state = gate.snapshot()
        taken.append((state, msgspec.json.encode(state)))
    assert all(msgspec.json.encode(state) == written for state, written in taken)


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(0, 60))
def test_taking_records_back_gives_the_gate_that_was(steps_, keep):
    gate, undos = Gate(10_000), []
    before = msgspec.json.encode(gate.snapshot())
    for index, (undo, _) in enumerate(records(steps_, gate)):
        if index >= keep:
            undos.append(undo)
        else:
            before = msgspec.json.encode(gate.snapshot())
    members = None
    for undo in reversed(undos):
        gate.revert(undo)
        members = gate._members
    state = msgspec.json.decode(msgspec.json.encode(gate.snapshot()), type=GateState)
    wanted = msgspec.json.decode(before, type=GateState)
    assert _by_key(state) == _by_key(wanted)
    assert _sides(state) == _sides(wanted)
    assert {record.name: record for record in state.groups} == {record.name: record for record in wanted.groups}
    assert state.throttled == wanted.throttled
    assert members is None or members == Gate.restore(wanted)._members


@settings(max_examples=200, deadline=None)
@given(steps)
def test_a_decision_at_its_instruments_place_is_remembered_also_when_another_is_taken_back(steps_):
    gate = Gate(REMEMBER)
    for undo, record in records(steps_, gate):
        _remembers(gate)
        gate.revert(undo)
        _remembers(gate)
        fold(gate, [(undo, record)])


def _remembers(gate):
    newest = {kept.proposal_id: kept for state in gate._instruments.values() for kept in state.settled}
    assert {name: gate.settled(name) for name in newest} == newest
    assert set(gate._outlasting) <= set(newest)


def _sides(state):
    return dict(zip(state.side_keys, state.sides, strict=True))


def _by_key(state):
    return dict(zip(state.keys, state.instruments, strict=True))
