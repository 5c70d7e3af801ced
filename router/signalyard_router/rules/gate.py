"""The gate: the pure state machine that admits or refuses proposals.

`admit` looks and changes nothing; `apply` folds a record in, and is the only way for state to change, so that reading the
journal from its first line gives the state back; `revert` takes the newest records out again when they could not be written.
"""

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from signalyard.wire import Decision, Opinion
from signalyard.words import Direction, Outcome, Reason
from signalyard_router.rules.levers import Lever
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.record import (
    SIGNALS,
    DecisionRecord,
    LeverRecord,
    PlanRecord,
    RouteRecord,
    Settlement,
    decision_of,
)
from signalyard_router.rules.units import LONGEST_RATE_WINDOW, MAX_FLIPS_COUNT, MAX_RATE_COUNT, MINUTE, Rate

Key = tuple[str, str]
"""Book and instrument."""


def book(route: str, paper: bool) -> str:
    """The name of what the gate keeps of a route: paper signals have windows, limits and sequences of their own.

    In one book with the live ones, a paper signal would hold the live signal back that repeats it, and the desk would never
    see it.
    """
    return f"{route}/paper" if paper else route  # no route's name has a slash


def route_of(kept: str) -> str:
    """The route of a book."""
    return kept.removesuffix("/paper")


class Emission(msgspec.Struct, frozen=True, gc=False):
    """The last signal of an instrument on a route. ``side`` is its last direction that was not flat, ``assigned`` the version
    that was to decide then."""

    direction: Direction
    side: Direction | None
    position: float | None
    signal_id: str
    at: int
    seq: int
    epoch: int
    assigned: str = ""


class Instrument(msgspec.Struct, frozen=True, gc=False):
    """What the gate remembers of one instrument on one route.

    ``newest`` is (ts_event, sequence) of the newest committed proposal, ``settled`` the decisions made at exactly that place,
    which are remembered for as long as nothing newer comes. ``flips`` holds the times of recent changes of side; ``latched``
    is set when they were too many.
    """

    newest: tuple[int, int]
    settled: tuple[Decision, ...] = ()
    held: Direction | None = None
    emission: Emission | None = None
    opinion: Opinion | None = None
    flips: tuple[int, ...] = ()
    latched: bool = False


class GateState(msgspec.Struct, frozen=True):
    """All that a gate knows, in a form that can be written down; `Gate.restore` is the way back.

    The members of the sequences never change, so a state may be written piece by piece while its gate goes on. ``keys`` are those
    of ``instruments``, one each; ``signals`` and ``flats`` hold ascending times a route, ``recent`` the remembered decisions, oldest
    first.
    """

    keys: Sequence[Key] = ()
    instruments: Sequence[Instrument] = ()
    routes: Sequence[RouteRecord] = ()
    levers: Sequence[Lever] = ()
    throttled: Sequence[str] = ()
    plans: Mapping[str, Progress] = {}
    signals: Mapping[str, Sequence[int]] = {}
    flats: Mapping[str, Sequence[int]] = {}
    recent: Sequence[Decision] = ()


class _Undo(msgspec.Struct, frozen=True, gc=False):
    key: Key
    before: Instrument | None
    proposal_id: str | None
    signal: bool
    flat: bool
    throttled: bool = False


class _LeverUndo(msgspec.Struct, frozen=True):
    levers: tuple[Lever, ...]
    throttled: frozenset[str]
    instrument: tuple[Key, Instrument] | None
    plan: tuple[str, Progress] | None = None


class _PlanUndo(msgspec.Struct, frozen=True):
    route: str
    before: Progress | None


class _BookUndo(msgspec.Struct, frozen=True):
    instruments: dict[Key, Instrument]
    signals: deque[int] | None
    flats: deque[int] | None
    throttled: frozenset[str]


class _RouteUndo(msgspec.Struct, frozen=True):
    name: str
    before: RouteRecord | None
    mode: _BookUndo | None = None


class Gate:
    """Admits or refuses. Not thread-safe; time comes as an argument and must not step back.

    ``remember`` is how many decisions it keeps for callers that send the same proposal again.
    """

    def __init__(self, remember: int = 65_536) -> None:
        self._remember = remember
        self._instruments: dict[Key, Instrument] = {}
        self._routes: dict[str, RouteRecord] = {}
        self._levers: tuple[Lever, ...] = ()
        self._stops: tuple[Lever, ...] = ()
        self._throttled: frozenset[str] = frozenset()
        self._plans: dict[str, Progress] = {}
        self._signals: dict[str, deque[int]] = {}
        self._flats: dict[str, deque[int]] = {}
        self._recent: dict[str, Decision] = {}
        # beside the dict, because finding a dict's first key scans the slots of all that were deleted
        self._recent_order: deque[str] = deque()

    def snapshot(self) -> GateState:
        """The state as it is now. Copies references alone, and makes no object an instrument, which would wake the collector."""
        return GateState(
            keys=list(self._instruments),
            instruments=list(self._instruments.values()),
            routes=list(self._routes.values()),
            levers=self._levers,
            throttled=sorted(self._throttled),
            plans=dict(self._plans),
            signals={route: tuple(times) for route, times in self._signals.items()},
            flats={route: tuple(times) for route, times in self._flats.items()},
            recent=list(self._recent.values()),
        )

    @classmethod
    def restore(cls, state: GateState, remember: int = 65_536) -> "Gate":
        """A gate that goes on as the one did whose state it was."""
        gate = cls(remember)
        for decision in state.recent:
            gate._keep(decision)
        for key, instrument in zip(state.keys, state.instruments, strict=True):
            # one object for a decision that is remembered twice, as it was before
            settled = tuple(gate._recent.get(decision.proposal_id, decision) for decision in instrument.settled)
            gate._instruments[key] = msgspec.structs.replace(instrument, settled=settled)
        gate._routes = {record.name: record for record in state.routes}
        gate._set_levers(tuple(state.levers))
        gate._throttled = frozenset(state.throttled)
        gate._plans.update(state.plans)
        gate._signals = {route: deque(times, MAX_RATE_COUNT) for route, times in state.signals.items()}
        gate._flats = {route: deque(times, MAX_RATE_COUNT) for route, times in state.flats.items()}
        return gate

    def settled(self, proposal_id: str, route: str, symbol: str) -> Decision | None:
        """The stored decision of a proposal that was committed before."""
        decision = self._recent.get(proposal_id)
        if decision is not None:
            return decision
        for paper in (False, True):
            instrument = self._instruments.get((book(route, paper), symbol))
            if instrument is not None:
                for decision in instrument.settled:
                    if decision.proposal_id == proposal_id:
                        return decision
        return None

    def held(self, route: str, symbol: str, *, paper: bool = False) -> Direction | None:
        """The direction that the mapping last gave."""
        instrument = self._instruments.get((book(route, paper), symbol))
        return instrument.held if instrument else None

    def opinions(self, now: int) -> list[Opinion]:
        """The last emitted signal of every instrument on every route."""
        return [
            msgspec.structs.replace(opinion, live=now < opinion.ts_expire)
            for instrument in self._instruments.values()
            if (opinion := instrument.opinion) is not None
        ]

    def owner(self, route: str, symbol: str) -> str | None:
        """The version that was to decide when the instrument's position was last opened or kept; None while it is flat."""
        instrument = self._instruments.get((self._in_force(route), symbol))
        emission = instrument.emission if instrument else None
        return None if emission is None or emission.direction is Direction.FLAT else emission.assigned

    @property
    def routes(self) -> dict[str, RouteRecord]:
        """The newest accepted document of each route that was ever seen; one that was taken away has none in its record."""
        return self._routes

    @property
    def levers(self) -> tuple[Lever, ...]:
        """The levers that were pulled and not let go, oldest first; some may have lapsed by themselves."""
        return self._levers

    @property
    def plans(self) -> dict[str, Progress]:
        """Where each route's plan stands."""
        return self._plans

    def step(self, record: PlanRecord) -> object:
        """A plan took a step; the answer is what `revert` takes to undo it."""
        undo = _PlanUndo(record.route, self._plans.get(record.route))
        self._plans[record.route] = record.progress()
        return undo

    def latches(self) -> list[tuple[str, str | None]]:
        """What is latched in the routes' present modes: a route whose rate was reached, or (route, instrument) that changed sides too often."""
        flips = [
            (route, symbol)
            for (kept, symbol), instrument in self._instruments.items()
            if instrument.latched and kept == self._in_force(route := route_of(kept))
        ]
        throttled = [route for kept in self._throttled if kept == self._in_force(route := route_of(kept))]
        return [*((route, None) for route in sorted(throttled)), *sorted(flips)]

    def admit(self, proposal: Proposal, now: int, *, late: bool) -> Settlement:
        """Settle a proposal that was not settled before. ``late``: it reached the gate after its ``commit_by``."""
        if proposal.problem is not None:
            return Settlement(Outcome.REJECTED)
        if late:
            return _suppressed(Reason.PAST_COMMIT_BY)
        newest = self._routes.get(proposal.route)
        if newest is not None and proposal.generation < newest.generation:
            return _suppressed(Reason.SUPERSEDED)
        state = self._instruments.get((book(proposal.route, proposal.rules.paper), proposal.symbol))
        if state is not None and (proposal.ts_event, proposal.sequence) < state.newest:
            return _suppressed(Reason.OUT_OF_ORDER)
        if proposal.abstain is not None:
            return Settlement(Outcome.ABSTAINED, proposal.abstain)
        if proposal.direction is None:
            raise ValueError(f"proposal {proposal.proposal_id} has neither direction nor problem nor reason to abstain")
        return self._admit_direction(proposal, proposal.direction, state, now)

    def _admit_direction(
        self, proposal: Proposal, direction: Direction, state: Instrument | None, now: int
    ) -> Settlement:
        rules = proposal.rules
        kept = book(proposal.route, rules.paper)
        last = state.emission if state else None
        reduces = _reduces(direction, proposal.position, last)
        exempt = reduces and not rules.filter_exits
        for lever in self._stops:
            if not lever.covers(proposal.route, proposal.symbol) or lever.expired(now):
                continue
            if lever.action == "halt":
                return _suppressed(Reason.HALTED, reduces=reduces)
            if not reduces:
                return _suppressed(Reason.PAUSED)
        if proposal.reduce_only:
            if last is None or last.direction is Direction.FLAT:
                return Settlement(Outcome.ABSTAINED, Reason.NO_ANSWER)
            if _reached(self._flats.get(kept), Rate(rules.flats_per_minute, MINUTE), now):
                return _suppressed(Reason.FLAT_CEILING, reduces=reduces)
        if proposal.objection is not None and not exempt:
            return _suppressed(proposal.objection, reduces=reduces)
        if last is not None and last.direction is direction and now < last.at + rules.window:
            return _suppressed(Reason.DUPLICATE, reduces=reduces, duplicate_of=last.signal_id)
        if (
            state is not None
            and rules.flips is not None
            and _flips(direction, last)
            and (state.latched or _reached(state.flips, rules.flips, now))
        ):
            return _suppressed(Reason.FLIP_LATCHED, reduces=reduces)
        if (
            rules.signals is not None
            and not exempt
            and (kept in self._throttled or _reached(self._signals.get(kept), rules.signals, now))
        ):
            return _suppressed(Reason.RATE_LIMITED, reduces=reduces)
        previous = last.seq if last else 0
        handover = (
            last is not None
            and last.direction is not Direction.FLAT
            and bool(last.assigned)
            and last.assigned != proposal.assigned
        )
        outcome = Outcome.PAPER if rules.paper else Outcome.EMITTED
        return Settlement(outcome, reduces=reduces, seq=previous + 1, prev_seq=previous, handover=handover)

    def apply(self, record: DecisionRecord, decision: Decision | None = None) -> object | None:
        """Fold a decision in; the answer is what `revert` takes to undo it. ``decision`` is the record's, where it is at hand."""
        if record.outcome is Outcome.REJECTED:
            return None
        key = (book(record.route, record.paper), record.symbol)
        before = self._instruments.get(key)
        decision = decision or decision_of(record)
        self._keep(decision)
        if record.reason in _WITHOUT_PLACE:
            return _Undo(key, None, record.proposal_id, False, False)
        emitted = record.outcome in SIGNALS
        flat = emitted and record.reduce_only
        self._instruments[key] = _next(before, record, decision)
        if emitted:
            _note(self._signals, key[0], record.t)
        if flat:
            _note(self._flats, key[0], record.t)
        throttles = record.reason is Reason.RATE_LIMITED and key[0] not in self._throttled
        if throttles:
            self._throttled |= {key[0]}
        return _Undo(key, before or _NEVER, record.proposal_id, emitted, flat, throttles)

    def accept(self, record: RouteRecord) -> object:
        """A document was accepted, or a route taken away; the answer is what `revert` takes to undo it.

        Where it changes the route's mode, the new one begins clean; see `_change_mode`.
        """
        before = self._routes.get(record.name)
        changes = record.paper != (before is not None and before.paper)
        undo = _RouteUndo(record.name, before, self._change_mode(record.name, record.paper) if changes else None)
        self._routes[record.name] = record
        return undo

    def pull(self, record: LeverRecord) -> object:
        """A lever was pulled or let go; the answer is what `revert` takes to undo it."""
        undo = _LeverUndo(self._levers, self._throttled, None)
        match record.action:
            case "resume" | "end":
                self._set_levers(tuple(lever for lever in self._levers if lever.id != record.lever))
            case "reset" if record.latch == "throttle":
                self._throttled -= {self._in_force(record.route or "")}
            case "reset":
                key = (self._in_force(record.route or ""), record.symbol or "")
                instrument = self._instruments.get(key)
                if instrument is not None:
                    undo = _LeverUndo(self._levers, self._throttled, (key, instrument))
                    self._instruments[key] = msgspec.structs.replace(instrument, latched=False, flips=())
            case "replan":
                before = self._plans.pop(record.route or "", None)
                if before is not None:
                    undo = _LeverUndo(self._levers, self._throttled, None, (record.route or "", before))
            case "weight" | "rollback":
                # Two of them never hold at once for one route: the newest takes the place of those before.
                others = tuple(
                    lever
                    for lever in self._levers
                    if lever.route != record.route or lever.action not in ("weight", "rollback")
                )
                self._set_levers((*others, record.as_lever()))
                before = self._plans.get(record.route or "")
                if before is not None and before.state == "running":
                    # Here, and not by a look later: the lever may end, or this process, before anybody looks.
                    undo = _LeverUndo(undo.levers, self._throttled, None, (record.route or "", before))
                    why = f"{record.action} {record.id} was pulled by hand"
                    self._plans[record.route or ""] = msgspec.structs.replace(before, state="interrupted", why=why)
            case _:
                self._set_levers((*self._levers, record.as_lever()))
        return undo

    def _set_levers(self, levers: tuple[Lever, ...]) -> None:
        self._levers = levers
        self._stops = tuple(lever for lever in levers if lever.action in ("halt", "pause"))

    def revert(self, undo: object | None) -> None:
        """Take a record out again. Records are reverted newest first."""
        if isinstance(undo, _LeverUndo):
            self._set_levers(undo.levers)
            self._throttled = undo.throttled
            if undo.instrument is not None:
                self._instruments[undo.instrument[0]] = undo.instrument[1]
            if undo.plan is not None:
                self._plans[undo.plan[0]] = undo.plan[1]
        elif isinstance(undo, _PlanUndo):
            if undo.before is None:
                self._plans.pop(undo.route, None)
            else:
                self._plans[undo.route] = undo.before
        elif isinstance(undo, _RouteUndo):
            if undo.mode is not None:
                self._revert_mode(self._in_force(undo.name), undo.mode)
            if undo.before is None:
                self._routes.pop(undo.name, None)
            else:
                self._routes[undo.name] = undo.before
        elif isinstance(undo, _Undo):
            self._revert_decision(undo)

    def _revert_decision(self, undo: _Undo) -> None:
        if undo.proposal_id is not None and self._recent.pop(undo.proposal_id, None) is not None:
            self._recent_order.pop()
        if undo.before is None:
            return
        if undo.before is _NEVER:
            self._instruments.pop(undo.key, None)
        else:
            self._instruments[undo.key] = undo.before
        if undo.signal:
            self._signals[undo.key[0]].pop()
        if undo.flat:
            self._flats[undo.key[0]].pop()
        if undo.throttled:
            self._throttled -= {undo.key[0]}

    def _in_force(self, route: str) -> str:
        """The book of a route's mode."""
        record = self._routes.get(route)
        return book(route, record is not None and record.paper)

    def _change_mode(self, route: str, paper: bool) -> "_BookUndo":
        """Paper begins from nothing. Live goes on from what the desk was last told, and enters directions anew: what
        hysteresis holds is as old as the day on which the route went to paper, and must not open a position."""
        entered = book(route, paper)
        instruments = {key: state for key, state in self._instruments.items() if key[0] == entered}
        undo = _BookUndo(instruments, self._signals.get(entered), self._flats.get(entered), self._throttled)
        for key, state in instruments.items():
            if paper:
                del self._instruments[key]
            else:
                self._instruments[key] = msgspec.structs.replace(state, held=None)
        if paper:
            self._signals.pop(entered, None)
            self._flats.pop(entered, None)
            self._throttled -= {entered}
        return undo

    def _revert_mode(self, entered: str, undo: "_BookUndo") -> None:
        self._instruments.update(undo.instruments)
        if undo.signals is not None:
            self._signals[entered] = undo.signals
        if undo.flats is not None:
            self._flats[entered] = undo.flats
        self._throttled = undo.throttled

    def _keep(self, decision: Decision) -> None:
        self._recent[decision.proposal_id] = decision
        self._recent_order.append(decision.proposal_id)
        if len(self._recent_order) > self._remember:
            self._recent.pop(self._recent_order.popleft(), None)


_NEVER = Instrument(newest=(0, 0))
_WITHOUT_PLACE = (Reason.PAST_COMMIT_BY, Reason.SUPERSEDED, Reason.OUT_OF_ORDER)
"""Refused before they took a place in the order: they change nothing but what is remembered of themselves."""
_MAPPED = (Reason.NO_ANSWER, Reason.ROW_ERROR, Reason.VERSION_DRIFT)
"""Abstentions that no mapping made; they leave hysteresis as it is."""


def _suppressed(reason: Reason, *, reduces: bool = False, duplicate_of: str | None = None) -> Settlement:
    return Settlement(Outcome.SUPPRESSED, reason, reduces=reduces, duplicate_of=duplicate_of)


def _reduces(direction: Direction, position: float | None, last: Emission | None) -> bool:
    """Flat, or a smaller position of the same sign."""
    if direction is Direction.FLAT:
        return True
    return (
        last is not None
        and last.direction is direction
        and position is not None
        and last.position is not None
        and abs(position) < abs(last.position)
    )


def _flips(direction: Direction, last: Emission | None) -> bool:
    """A change of side: long after short or short after long, whether or not a flat came between."""
    return direction is not Direction.FLAT and last is not None and last.side is not None and last.side is not direction


def _reached(times: Sequence[int] | None, limit: Rate, now: int) -> bool:
    """Whether ``limit.count`` of the ascending times lie within the window that ends now."""
    return times is not None and len(times) >= limit.count and times[-limit.count] > now - limit.window


def _note(times: dict[str, deque[int]], route: str, now: int) -> None:
    kept = times.setdefault(route, deque(maxlen=MAX_RATE_COUNT))
    kept.append(now)
    while kept[0] <= now - LONGEST_RATE_WINDOW:
        kept.popleft()


def _next(before: Instrument | None, record: DecisionRecord, decision: Decision) -> Instrument:
    place = (record.ts_event, record.sequence)
    state = before or Instrument(newest=place)
    settled = (*state.settled, decision) if state.newest == place else (decision,)
    held = state.held if record.reason in _MAPPED or record.reduce_only else record.direction
    latched = state.latched or record.reason is Reason.FLIP_LATCHED
    emission, opinion, flips = state.emission, state.opinion, state.flips
    if record.outcome in SIGNALS and record.direction is not None and record.signal_id is not None:
        if _flips(record.direction, emission):
            flips = (*flips[1 - MAX_FLIPS_COUNT :], record.t)
        flat = record.direction is Direction.FLAT
        emission = Emission(
            direction=record.direction,
            side=(emission.side if emission else None) if flat else record.direction,
            position=record.position,
            signal_id=record.signal_id,
            at=record.t,
            seq=record.signal_seq,
            epoch=record.epoch,
            assigned=record.assigned,
        )
        opinion = Opinion(
            symbol=record.symbol,
            route=record.route,
            signal=record.direction,
            signal_id=record.signal_id,
            epoch=record.epoch,
            seq=record.signal_seq,
            ts_event=record.ts_event,
            ts_init=record.t,
            ts_expire=record.ts_expire,
            live=True,
            score=record.score,
            confidence=record.confidence,
            position=record.position,
            paper=record.paper,
        )
    return Instrument(place, settled, held, emission, opinion, flips, latched)
