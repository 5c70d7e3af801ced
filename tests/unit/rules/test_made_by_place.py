"""Records, decisions and signals are made by place; each member has what its name says."""

import msgspec

from signalyard.problems import Problem, error
from signalyard.wire import Decision, Opinion, Signal
from signalyard.words import Direction, Outcome, Reason, Track
from signalyard_router.rules.books import Emission, next_instrument
from signalyard_router.rules.proposal import Answer, Input, Proposal, Step
from signalyard_router.rules.record import DecisionRecord, Settlement, decision_of, record_of
from signalyard_router.rules.route import GateRules

ANSWER = Answer(
    score=0.71,
    confidence=0.72,
    model="m",
    version="7",
    digest="sha256:7",
    track=Track.CANARY,
    failover=True,
    drift=True,
)
PROPOSAL = Proposal(
    proposal_id="id",
    symbol="A.X",
    ts_event=1_000_000_001,
    ts_recv=2,
    received=3,
    route="r",
    revision="rev",
    generation=4,
    sequence=5,
    consumer="c",
    input=Input(msgspec.Raw(b'["p"]'), [0.5]),
    problem=error(Problem.INTERNAL).details,
    answer=ANSWER,
    model="other",
    assigned="8",
    degraded=True,
    steps=[Step(rung="stable", result="answered")],
    commit_by=6,
    budget=7_000,
    request_id="q",
    rules=GateRules(paper=True, valid_for=8),
    direction=Direction.SHORT,
    held=Direction.LONG,
    objection=Reason.LOW_CONFIDENCE,
    position=-0.25,
    reduce_only=True,
)
SETTLEMENT = Settlement(
    outcome=Outcome.PAPER,
    reason=Reason.DUPLICATE,
    reduces=True,
    duplicate_of="s-1",
    seq=10,
    prev_seq=9,
    handover=True,
    group="g",
    against="a",
)
RECORD = {
    "v": 1,
    "seq": 11,
    "t": 12,
    "proposal_id": "id",
    "outcome": Outcome.PAPER,
    "symbol": "A.X",
    "ts_event": 1_000_000_001,
    "ts_recv": 2,
    "route": "r",
    "revision": "rev",
    "generation": 4,
    "sequence": 5,
    "consumer": "c",
    "reason": Reason.DUPLICATE,
    "problem": PROPOSAL.problem,
    "direction": Direction.SHORT,
    "held": Direction.LONG,
    "score": 0.71,
    "confidence": 0.72,
    "position": -0.25,
    "objection": Reason.LOW_CONFIDENCE,
    "reduces": True,
    "model": "m",
    "version": "7",
    "digest": "sha256:7",
    "track": Track.CANARY,
    "assigned": "8",
    "failover": True,
    "drift": True,
    "degraded": True,
    "reduce_only": True,
    "handover": True,
    "paper": True,
    "signal_id": "p-id",
    "epoch": 13,
    "signal_seq": 10,
    "prev_seq": 9,
    "duplicate_of": "s-1",
    "group": "g",
    "against": "a",
    "ts_expire": 20,
    "budget_us": 7,
    "elapsed_us": 14,
    "request_id": "q",
    "replica": "r1",
    "steps": PROPOSAL.steps,
    "input": PROPOSAL.input,
    "prev": "",
}
SIGNAL = {
    "symbol": "A.X",
    "signal": Direction.SHORT,
    "score": 0.71,
    "timestamp": 1,
    "signal_id": "p-id",
    "epoch": 13,
    "seq": 10,
    "prev_seq": 9,
    "ts_event": 1_000_000_001,
    "ts_init": 12,
    "ts_expire": 20,
    "route": "r",
    "revision": "rev",
    "model": "m",
    "version": "7",
    "digest": "sha256:7",
    "track": Track.CANARY,
    "confidence": 0.72,
    "position": -0.25,
    "failover": True,
    "drift": True,
    "degraded": True,
    "reduce_only": True,
    "handover": True,
    "paper": True,
}


def members(made):
    return {name: getattr(made, name) for name in made.__struct_fields__}


def record() -> DecisionRecord:
    return record_of(PROPOSAL, SETTLEMENT, seq=11, t=12, epoch=13, elapsed=14_000, replica="r1")


def test_a_record():
    assert members(record()) == RECORD


def test_a_decision_and_its_signal():
    made = decision_of(record())
    assert members(made) == {
        "outcome": Outcome.PAPER,
        "reason": Reason.DUPLICATE,
        "row": 0,
        "symbol": "A.X",
        "ts_event": 1_000_000_001,
        "route": "r",
        "proposal_id": "id",
        "elapsed_us": 14,
        "signal": None,
        "paper": Signal(**SIGNAL),
        "duplicate_of": "s-1",
        "problem": PROPOSAL.problem,
    }
    emitted = decision_of(msgspec.structs.replace(record(), outcome=Outcome.EMITTED))
    assert (emitted.signal, emitted.paper) == (Signal(**SIGNAL), None)


def test_what_is_remembered_of_an_instrument():
    made = next_instrument(None, record(), Decision(outcome=Outcome.PAPER))
    assert made.emission == Emission(
        direction=Direction.SHORT,
        side=Direction.SHORT,
        position=-0.25,
        signal_id="p-id",
        at=12,
        seq=10,
        epoch=13,
        assigned="8",
    )
    known = {name: value for name, value in SIGNAL.items() if name in Opinion.__struct_fields__}
    assert made.opinion == Opinion(**known, live=True)
