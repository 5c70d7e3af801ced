"""What the journal holds: one record a line."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from signalyard.problems import ProblemDetails
from signalyard.wire import Decision, Signal
from signalyard.words import EMITTED, PAPER, Direction, Outcome, Reason, Track
from signalyard_router.rules.compare import Pair
from signalyard_router.rules.inference import Call, Wire
from signalyard_router.rules.levers import Action, Latch, Lever
from signalyard_router.rules.plan import Progress, State
from signalyard_router.rules.proposal import Input, Proposal, Step

VERSION = 1

SIGNALS = (EMITTED, PAPER)
"""The outcomes that are a signal to the gate: they open windows, count towards limits and carry sequence numbers."""


class StartRecord(msgspec.Struct, kw_only=True, frozen=True, tag="start", tag_field="kind"):
    """A router took the journal over."""

    v: int
    seq: int
    t: int
    epoch: int
    software: str
    clock: Literal["wall", "event"]
    durability: Literal["os", "fsync"]
    cut_bytes: int = 0
    prev: str


class RouteRecord(msgspec.Struct, kw_only=True, frozen=True, tag="route", tag_field="kind"):
    """A document was accepted; from here on the route's decisions are made under this generation or a later one.

    Without a document (null) the route was taken away.
    """

    v: int
    seq: int
    t: int
    name: str
    revision: str
    generation: int
    place: str
    document: Any
    prev: str

    @property
    def paper(self) -> bool:
        """Whether the route is in paper mode by this document."""
        spec = self.document.get("spec") if isinstance(self.document, dict) else None
        return isinstance(spec, dict) and spec.get("mode") == "paper"

    @property
    def namespace(self) -> str:
        """The namespace that the document lives in, "" for none."""
        metadata = self.document.get("metadata") if isinstance(self.document, dict) else None
        return str(metadata.get("namespace", "")) if isinstance(metadata, dict) else ""


class GroupRecord(msgspec.Struct, kw_only=True, frozen=True, tag="group", tag_field="kind"):
    """A group's document was accepted, and binds every decision from here on. Without a document (null) it was taken away."""

    v: int
    seq: int
    t: int
    name: str
    revision: str
    place: str
    document: Any
    prev: str


class LeverRecord(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, tag="lever", tag_field="kind"):
    """Somebody pulled a lever, or let it go. ``id`` names what it began, ``lever`` what it ended."""

    v: int
    seq: int
    t: int
    id: str
    action: Action
    by: str
    why: str
    proved: bool = False
    route: str | None = None
    symbol: str | None = None
    lever: str | None = None
    canary: float | None = None
    version: str | None = None
    latch: Latch | None = None
    expires: int | None = None
    base: str = ""
    prev: str

    def as_lever(self) -> Lever:
        """The lever that this record began."""
        return Lever(
            id=self.id,
            action=self.action,
            by=self.by,
            why=self.why,
            at=self.t,
            proved=self.proved,
            route=self.route,
            symbol=self.symbol,
            canary=self.canary,
            version=self.version,
            expires=self.expires,
            base=self.base,
        )


class PlanRecord(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, tag="plan", tag_field="kind"):
    """A plan took a step, or came to its end. ``canary`` is in slots of 10,000; ``evidence`` what the step before was judged by."""

    v: int
    seq: int
    t: int
    route: str
    plan: str
    step: int
    state: State
    canary: int
    why: str
    evidence: dict[str, float] = {}
    prev: str

    def progress(self) -> Progress:
        """Where the plan stands by this record."""
        return Progress(plan=self.plan, step=self.step, state=self.state, canary=self.canary, at=self.t, why=self.why)


class _Settled(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The members of a decision's record but the last, in the order in which `record_of` gives them."""

    v: int
    seq: int
    t: int
    proposal_id: str
    outcome: Outcome
    symbol: str
    ts_event: int
    ts_recv: int
    route: str = ""
    revision: str = ""
    generation: int = 0
    sequence: int = 0
    consumer: str = ""
    reason: Reason | None = None
    problem: ProblemDetails | None = None
    direction: Direction | None = None
    held: Direction | None = None
    score: float | None = None
    confidence: float | None = None
    position: float | None = None
    objection: Reason | None = None
    reduces: bool = False
    model: str = ""
    version: str | None = None
    digest: str | None = None
    track: Track | None = None
    assigned: str = ""
    failover: bool = False
    drift: bool = False
    degraded: bool = False
    reduce_only: bool = False
    handover: bool = False
    paper: bool = False
    signal_id: str | None = None
    epoch: int = 0
    signal_seq: int = 0
    prev_seq: int = 0
    duplicate_of: str | None = None
    group: str = ""
    against: str = ""
    ts_expire: int = 0
    budget_us: int = 0
    elapsed_us: int = 0
    request_id: str = ""
    replica: str = ""
    steps: Sequence[Step] = ()
    input: Input | None = None


class DecisionRecord(
    _Settled, kw_only=True, frozen=True, omit_defaults=True, tag="decision", tag_field="kind", gc=False
):
    """One settled decision, with everything that explains it. Times are UTC nanoseconds; ``t`` is the journal's time.

    ``held`` is the direction that hysteresis started from, ``objection`` what the filters had against the direction,
    ``reduces`` whether the gate took it for an exit, ``paper`` whether the route was in paper mode. ``elapsed_us`` counts from
    the request's receipt to the commit. ``request_id`` is the correlation id of the request that it was
    decided for, as the log has it. ``group`` is the group by whose rules it was suppressed, ``against`` the member that it
    contradicts. ``replica`` is the one that decided, where there are several: its own journal has the input and the steps, the others'
    have neither.
    """

    prev: str


class ShadowRecord(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, tag="shadow", tag_field="kind"):
    """A live decision and what a shadow (or, ``baseline``, a strategy outside the router) made of the same snapshot.

    ``live_signal`` and ``signal`` say whether each would have been a signal after its own dedupe window.
    """

    v: int
    seq: int
    t: int
    route: str
    name: str
    symbol: str
    ts_event: int
    proposal_id: str
    baseline: bool = False
    live: Direction | None = None
    direction: Direction | None = None
    live_score: float | None = None
    score: float | None = None
    live_confidence: float | None = None
    confidence: float | None = None
    live_signal: bool = False
    signal: bool = False
    digest: str = ""
    prev: str


class CallRecord(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True, tag="call", tag_field="kind"):
    """An inference call that was passed through: who answered it, and under which digest. It changes nothing.

    ``id`` is the call's name, as its answer carries it, ``client_id`` its caller's own, ``asked`` the model that it named, with the
    version where it named one. ``input`` and ``output`` are sha256 of the tensors (`rules.inference.digest_of`); ``inputs`` the inputs
    themselves, where they are kept. A call that nobody answered has a ``problem`` and neither version nor output.
    """

    v: int
    seq: int
    t: int
    id: str
    route: str
    revision: str
    generation: int
    wire: Wire
    asked: str
    input: str
    ts_recv: int
    symbol: str = ""
    client_id: str = ""
    model: str = ""
    version: str | None = None
    digest: str | None = None
    track: Track | None = None
    assigned: str = ""
    failover: bool = False
    drift: bool = False
    output: str = ""
    problem: ProblemDetails | None = None
    budget_us: int = 0
    elapsed_us: int = 0
    request_id: str = ""
    steps: Sequence[Step] = ()
    inputs: Any = None
    prev: str


class ShadowNote(msgspec.Struct, frozen=True):
    """A pair that is to be recorded."""

    route: str
    name: str
    baseline: bool
    digest: str
    pair: Pair


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What the gate makes of a proposal. The sequence numbers are of an emitted signal; ``group`` and ``against`` are the record's."""

    outcome: Outcome
    reason: Reason | None = None
    reduces: bool = False
    duplicate_of: str | None = None
    seq: int = 0
    prev_seq: int = 0
    handover: bool = False
    group: str = ""
    against: str = ""


Record = StartRecord | RouteRecord | GroupRecord | LeverRecord | PlanRecord | DecisionRecord | ShadowRecord | CallRecord


def record_of(
    proposal: Proposal, settlement: Settlement, *, seq: int, t: int, epoch: int, elapsed: int, replica: str = ""
) -> DecisionRecord:
    """The record of a proposal as the gate settled it; ``elapsed`` is nanoseconds since its receipt, ``replica`` who decided, where there
    are several."""
    answer = proposal.answer
    emitted = settlement.outcome in SIGNALS
    # By place: with so many members, finding each by its name costs three times as much as all the rest.
    return DecisionRecord(
        VERSION,
        seq,
        t,
        proposal.proposal_id,
        settlement.outcome,
        proposal.symbol,
        proposal.ts_event,
        proposal.ts_recv,
        proposal.route,
        proposal.revision,
        proposal.generation,
        proposal.sequence,
        proposal.consumer,
        settlement.reason,
        proposal.problem,
        proposal.direction,
        proposal.held,
        answer.score if answer else None,
        answer.confidence if answer else None,
        proposal.position,
        proposal.objection,
        settlement.reduces,
        answer.model if answer else proposal.model,
        answer.version if answer else None,
        answer.digest if answer else None,
        answer.track if answer else None,
        proposal.assigned,
        answer.failover if answer else False,
        answer.drift if answer else False,
        proposal.degraded,
        proposal.reduce_only,
        settlement.handover,
        proposal.rules.paper,
        signal_id(proposal) if emitted else None,
        epoch if emitted else 0,
        settlement.seq,
        settlement.prev_seq,
        settlement.duplicate_of,
        settlement.group,
        settlement.against,
        t + proposal.rules.valid_for if emitted else 0,
        proposal.budget // 1000,
        elapsed // 1000,
        proposal.request_id,
        replica,
        proposal.steps,
        proposal.input,
        prev="",
    )


def shadow_record(note: ShadowNote, *, seq: int, t: int) -> ShadowRecord:
    """The record of a pair."""
    pair, live = note.pair, note.pair.live
    return ShadowRecord(
        v=VERSION,
        seq=seq,
        t=t,
        route=note.route,
        name=note.name,
        symbol=live.symbol,
        ts_event=live.ts_event,
        proposal_id=live.proposal_id,
        baseline=note.baseline,
        live=live.direction,
        direction=pair.direction,
        live_score=live.score,
        score=pair.score,
        live_confidence=live.confidence,
        confidence=pair.confidence,
        live_signal=pair.live_signal,
        signal=pair.signal,
        digest=note.digest,
        prev="",
    )


def call_record(call: Call, *, seq: int, t: int, elapsed: int) -> CallRecord:
    """The record of a call; ``elapsed`` is nanoseconds since its receipt."""
    answered = call.answered
    return CallRecord(
        v=VERSION,
        seq=seq,
        t=t,
        id=f"c-{seq}",
        route=call.route,
        revision=call.revision,
        generation=call.generation,
        wire=call.wire,
        asked=call.asked,
        input=call.input,
        ts_recv=call.ts_recv,
        symbol=call.symbol,
        client_id=call.client_id,
        model=answered.model if answered else call.model,
        version=answered.version if answered else None,
        digest=answered.digest if answered else None,
        track=call.track,
        assigned=call.assigned,
        failover=call.failover,
        drift=call.drift,
        output=call.output,
        problem=call.problem,
        budget_us=call.budget // 1000,
        elapsed_us=elapsed // 1000,
        request_id=call.request_id,
        steps=call.steps,
        inputs=call.inputs,
        prev="",
    )


def signal_id(proposal: Proposal) -> str:
    """The name of a proposal's signal; a paper one's differs, so that the two are never taken for one another."""
    return f"{'p' if proposal.rules.paper else 's'}-{proposal.proposal_id}"


def decision_of(record: DecisionRecord) -> Decision:
    """The decision that a record stands for, as its caller gets it."""
    outcome = record.outcome
    return Decision(
        outcome,
        record.reason,
        0,
        record.symbol,
        record.ts_event,
        record.route,
        record.proposal_id,
        record.elapsed_us,
        signal_of(record) if outcome is EMITTED else None,
        signal_of(record) if outcome is PAPER else None,
        record.duplicate_of,
        record.problem,
    )


def signal_of(record: DecisionRecord) -> Signal:
    """The signal of an emitted decision, or the one that a paper decision would have sent."""
    if record.signal_id is None or record.direction is None:
        raise ValueError(f"journal record {record.seq} carries no signal")
    return Signal(
        record.symbol,
        record.direction,
        record.score,
        record.ts_event // 1_000_000_000,
        record.signal_id,
        record.epoch,
        record.signal_seq,
        record.prev_seq,
        record.ts_event,
        record.t,
        record.ts_expire,
        record.route,
        record.revision,
        record.model,
        record.version,
        record.digest,
        record.track,
        record.confidence,
        record.position,
        record.failover,
        record.drift,
        record.degraded,
        record.reduce_only,
        record.handover,
        record.paper,
    )
