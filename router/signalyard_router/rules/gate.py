"""The gate: the pure state machine that admits or refuses proposals.

`admit` looks, and changes nothing but the proposal; `apply` folds a record in, and is the only way for state to change, so that reading the
journal from its first line gives the state back; `revert` takes the newest records out again when they could not be written.
"""

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from signalyard.wire import Decision, Opinion
from signalyard.words import ABSTAINED, EMITTED, FLAT, PAPER, REJECTED, SUPPRESSED, Direction, Reason
from signalyard_router.rules.books import (
    NEVER,
    Emission,
    Instrument,
    Key,
    book,
    changes,
    is_exit,
    next_instrument,
    route_of,
    turns,
)
from signalyard_router.rules.conclude import conclude
from signalyard_router.rules.groups import (
    Group,
    GroupStanding,
    Member,
    Sides,
    contradicted,
    group_book,
    group_of,
    is_group_book,
    members,
    missing,
    repeats,
)
from signalyard_router.rules.levers import Lever
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.record import (
    SIGNALS,
    DecisionRecord,
    GroupRecord,
    LeverRecord,
    PlanRecord,
    RouteRecord,
    Settlement,
    decision_of,
)
from signalyard_router.rules.undo import BookUndo, DecisionUndo, GroupUndo, LeverUndo, PlanUndo, RouteUndo
from signalyard_router.rules.units import LONGEST_RATE_WINDOW, MAX_FLIPS_COUNT, MAX_RATE_COUNT, MINUTE, Rate


class GateState(msgspec.Struct, frozen=True):
    """All that a gate knows, in a form that can be written down; `Gate.restore` is the way back.

    The members of the sequences never change, so a state may be written piece by piece while its gate goes on. ``keys`` are those
    of ``instruments``, one each; ``signals`` and ``flats`` hold ascending times a book, ``recent`` the remembered decisions, oldest
    first, for one reader to take out of it; ``side_keys`` are the groups' books and the instruments of ``sides``.
    """

    keys: Sequence[Key] = ()
    instruments: Sequence[Instrument] = ()
    routes: Sequence[RouteRecord] = ()
    levers: Sequence[Lever] = ()
    throttled: Sequence[str] = ()
    plans: Mapping[str, Progress] = {}
    signals: Mapping[str, Sequence[int]] = {}
    flats: Mapping[str, Sequence[int]] = {}
    recent: list[Decision] = []
    groups: Sequence[GroupRecord] = ()
    side_keys: Sequence[Key] = ()
    sides: Sequence[Sides] = ()


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
        # Those that went out of it and are still an instrument's newest: nothing else says that they were settled.
        self._outlasting: dict[str, Decision] = {}
        self._groups: dict[str, GroupRecord] = {}
        self._sides: dict[Key, Sides] = {}
        # What follows from the records of groups and routes: the books in force, the groups, and the members by their books.
        self._books: dict[str, str] = {}
        self._compiled: dict[str, Group] = {}
        self._members: dict[str, Member] = {}

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
            groups=list(self._groups.values()),
            side_keys=list(self._sides),
            sides=list(self._sides.values()),
        )

    @classmethod
    def restore(cls, state: GateState, remember: int = 65_536) -> "Gate":
        """A gate that goes on as the one did whose state it was."""
        gate = cls(remember)
        for decision in state.recent:
            gate._keep(decision)
        gate.forget()
        for key, instrument in zip(state.keys, state.instruments, strict=True):
            # one object for a decision that is remembered twice, as it was before
            settled = tuple(gate._recent.get(decision.proposal_id, decision) for decision in instrument.settled)
            gate._instruments[key] = msgspec.structs.replace(instrument, settled=settled)
            gate._hold(gate._instruments[key])
        for route in state.routes:
            gate._put_route(route.name, route)
        gate._set_levers(tuple(state.levers))
        gate._throttled = frozenset(state.throttled)
        gate._plans.update(state.plans)
        gate._signals = {route: deque(times, MAX_RATE_COUNT) for route, times in state.signals.items()}
        gate._flats = {route: deque(times, MAX_RATE_COUNT) for route, times in state.flats.items()}
        gate._sides = dict(zip(state.side_keys, state.sides, strict=True))
        for record in state.groups:
            gate._put_group(record.name, record)
        return gate

    def settled(self, proposal_id: str) -> Decision | None:
        """The stored decision of a proposal that was committed before."""
        return self._recent.get(proposal_id) or self._outlasting.get(proposal_id)

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
        return None if emission is None or emission.direction is FLAT else emission.assigned

    @property
    def routes(self) -> dict[str, RouteRecord]:
        """The newest accepted document of each route that was ever seen; one that was taken away has none in its record."""
        return self._routes

    @property
    def groups(self) -> dict[str, GroupRecord]:
        """The newest accepted document of each group that was ever seen; one that was taken away has none in its record."""
        return self._groups

    def standing(self) -> list[GroupStanding]:
        """The groups in force, by their names."""
        return [
            GroupStanding(
                group=name,
                revision=group.revision,
                conflict=group.conflict,
                routes=group.routes,
                missing=missing(group, self._members),
            )
            for name, group in sorted(self._compiled.items())
        ]

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
        undo = PlanUndo(record.route, self._plans.get(record.route))
        self._plans[record.route] = record.progress()
        return undo

    def latches(self) -> list[tuple[str, str | None]]:
        """What is latched in the routes' present modes: a route whose rate was reached, or (route, instrument) that changed sides too often.

        What latched a group has latched each of its members.
        """
        flips = {
            (route, symbol)
            for (kept, symbol), instrument in self._instruments.items()
            if instrument.latched and kept == self._in_force(route := route_of(kept))
        }
        throttled = {
            route
            for kept in self._throttled
            if not is_group_book(kept) and kept == self._in_force(route := route_of(kept))
        }
        shared = [key for key, sides in self._sides.items() if sides.latched]
        for kept, member in self._members.items():
            if member.book in self._throttled:
                throttled.add(route_of(kept))
            flips.update((route_of(kept), symbol) for group, symbol in shared if group == member.book)
        return [*((route, None) for route in sorted(throttled)), *sorted(flips)]

    def admit(self, proposal: Proposal, now: int, *, late: bool) -> Settlement:
        """Settle a proposal that was not settled before. ``late``: it reached the gate after its ``commit_by``.

        A proposal with a model's answer gets its direction here, from what was settled last; see `conclude`.
        """
        if proposal.problem is not None:
            return Settlement(REJECTED)
        kept = book(proposal.route, proposal.rules.paper)
        state = self._instruments.get((kept, proposal.symbol))
        conclude(proposal, state.held if state is not None else None)
        if late:
            return _suppressed(Reason.PAST_COMMIT_BY)
        newest = self._routes.get(proposal.route)
        if newest is not None and proposal.generation < newest.generation:
            return _suppressed(Reason.SUPERSEDED)
        if state is not None and (proposal.ts_event, proposal.sequence) < state.newest:
            return _suppressed(Reason.OUT_OF_ORDER)
        if proposal.abstain is not None:
            return Settlement(ABSTAINED, proposal.abstain)
        if proposal.direction is None:
            raise ValueError(f"proposal {proposal.proposal_id} has neither direction nor problem nor reason to abstain")
        return self._admit_direction(proposal, proposal.direction, kept, state, now)

    def _admit_direction(
        self, proposal: Proposal, direction: Direction, kept: str, state: Instrument | None, now: int
    ) -> Settlement:
        rules = proposal.rules
        last = state.emission if state else None
        reduces = is_exit(direction, proposal.position, last)
        exempt = reduces and not rules.filter_exits
        for lever in self._stops:
            if not lever.covers(proposal.route, proposal.symbol) or lever.expired(now):
                continue
            if lever.action == "halt":
                return _suppressed(Reason.HALTED, reduces=reduces)
            if not reduces:
                return _suppressed(Reason.PAUSED)
        if proposal.reduce_only:
            if last is None or last.direction is FLAT:
                return Settlement(ABSTAINED, Reason.NO_ANSWER)
            if _reached(self._flats.get(kept), Rate(rules.flats_per_minute, MINUTE), now):
                return _suppressed(Reason.FLAT_CEILING, reduces=reduces)
        if proposal.objection is not None and not exempt:
            return _suppressed(proposal.objection, reduces=reduces)
        member = self._members.get(kept) if self._members else None
        if member is not None:
            loses = self._in_group(member, proposal, direction, last, reduces, now)
            if loses is not None:
                return loses
        elif last is not None and last.direction is direction and now < last.at + rules.window:
            return _suppressed(Reason.DUPLICATE, reduces=reduces, duplicate_of=last.signal_id)
        if (
            state is not None
            and rules.flips is not None
            and turns(direction, last)
            and (state.latched or _reached(state.flips, rules.flips, now))
        ):
            return _suppressed(Reason.FLIP_LATCHED, reduces=reduces)
        if (
            rules.signals is not None
            and not exempt
            and (kept in self._throttled or _reached(self._signals.get(kept), rules.signals, now))
        ):
            return _suppressed(Reason.RATE_LIMITED, reduces=reduces)
        if member is not None:
            limited = self._group_limits(member, proposal.symbol, direction, reduces, now, exempt=exempt)
            if limited is not None:
                return limited
        previous = last.seq if last else 0
        handover = (
            last is not None
            and last.direction is not FLAT
            and bool(last.assigned)
            and last.assigned != proposal.assigned
        )
        outcome = PAPER if rules.paper else EMITTED
        return Settlement(outcome, reduces=reduces, seq=previous + 1, prev_seq=previous, handover=handover)

    def _in_group(
        self,
        member: Member,
        proposal: Proposal,
        direction: Direction,
        last: Emission | None,
        reduces: bool,
        now: int,
    ) -> Settlement | None:
        """What the rest of its group has against a signal: it repeats one within the shared window, or contradicts one."""
        group, symbol = member.group, proposal.symbol
        if last is not None and last.direction is direction and now < last.at + group.window:
            return _suppressed(Reason.DUPLICATE, reduces=reduces, duplicate_of=last.signal_id, group=group.name)
        exits = reduces and last is not None and last.direction is not FLAT

        def look(kept: str) -> Instrument | None:
            return self._instruments.get((kept, symbol))

        repeated = repeats(member, direction, last, exits, look, now)
        if repeated is not None:
            return _suppressed(Reason.DUPLICATE, reduces=reduces, duplicate_of=repeated, group=group.name)
        against = contradicted(member, direction, last, exits, look, now)
        if against is not None:
            return _suppressed(Reason.CONFLICT, reduces=reduces, group=group.name, against=against)
        return None

    def _group_limits(
        self, member: Member, symbol: str, direction: Direction, reduces: bool, now: int, *, exempt: bool
    ) -> Settlement | None:
        """What the shared limits have against a signal; they are counted as a route's own are."""
        group = member.group
        sides = self._sides.get((member.book, symbol))
        if (
            group.flips is not None
            and sides is not None
            and changes(direction, sides.side)
            and (sides.latched or _reached(sides.flips, group.flips, now))
        ):
            return _suppressed(Reason.FLIP_LATCHED, reduces=reduces, group=group.name)
        if (
            group.signals is not None
            and not exempt
            and (member.book in self._throttled or _reached(self._signals.get(member.book), group.signals, now))
        ):
            return _suppressed(Reason.RATE_LIMITED, reduces=reduces, group=group.name)
        return None

    def apply(self, record: DecisionRecord, decision: Decision | None = None, *, final: bool = True) -> object | None:
        """Fold a decision in; the answer is what `revert` takes to undo it. ``decision`` is the record's, where it is at hand.

        Where it is not ``final``, and may be taken back, nothing is forgotten for its sake before `forget`.
        """
        if record.outcome is REJECTED:
            return None
        key = (book(record.route, record.paper), record.symbol)
        before = self._instruments.get(key)
        decision = decision or decision_of(record)
        if record.reason in _WITHOUT_PLACE:
            self._keep(decision)
            if final:
                self.forget()
            return DecisionUndo(key, None, record.proposal_id, False, False)
        emitted = record.outcome in SIGNALS
        flat = emitted and record.reduce_only
        after = self._instruments[key] = next_instrument(before, record, decision)
        if before is not None and before.newest != after.newest:
            self._release(before)
        self._keep(decision)
        if final:
            self.forget()
        if emitted:
            _note(self._signals, key[0], record.t)
        if flat:
            _note(self._flats, key[0], record.t)
        throttles = ""
        if record.reason is _RATE_LIMITED:
            kept = group_book(record.group, record.paper) if record.group else key[0]
            throttles = kept if kept not in self._throttled else ""
            self._throttled |= {kept}
        member = self._members.get(key[0]) if self._members else None
        counted = member.book if emitted and member is not None else ""
        if counted:
            _note(self._signals, counted, record.t)
        sides = self._take_sides(record, counted)
        return DecisionUndo(key, before or NEVER, record.proposal_id, emitted, flat, throttles, counted, sides)

    def _take_sides(self, record: DecisionRecord, counted: str) -> tuple[Key, Sides | None] | None:
        """Fold a decision into the sides of its group; the answer is what was there before."""
        latches = bool(record.group) and record.reason is _FLIP_LATCHED
        signals_side = counted and record.direction is not None and record.direction is not FLAT
        if not latches and not signals_side:
            return None
        key = (counted or group_book(record.group, record.paper), record.symbol)
        before = self._sides.get(key)
        now = before or Sides()
        if latches:
            now = msgspec.structs.replace(now, latched=True)
        else:
            turned = record.direction is not None and changes(record.direction, now.side)
            flips = (*now.flips[1 - MAX_FLIPS_COUNT :], record.t) if turned else now.flips
            now = Sides(record.direction, flips, now.latched)
        self._sides[key] = now
        return key, before

    def accept(self, record: RouteRecord) -> object:
        """A document was accepted, or a route taken away; the answer is what `revert` takes to undo it.

        Where it changes the route's mode, the new one begins clean; see `_change_mode`.
        """
        before = self._routes.get(record.name)
        changes = record.paper != (before is not None and before.paper)
        undo = RouteUndo(record.name, before, self._change_mode(record.name, record.paper) if changes else None)
        self._put_route(record.name, record)
        return undo

    def group(self, record: GroupRecord) -> object:
        """A group's document was accepted, or the group taken away; the answer is what `revert` takes to undo it.

        What was counted for the group stays, as a route's does.
        """
        undo = GroupUndo(record.name, self._groups.get(record.name))
        self._put_group(record.name, record)
        return undo

    def _put_group(self, name: str, record: GroupRecord | None) -> None:
        compiled = group_of(record) if record is not None else None
        if record is None:
            self._groups.pop(name, None)
        else:
            self._groups[name] = record
        if compiled is None:
            self._compiled.pop(name, None)
        else:
            self._compiled[name] = compiled
        self._members = members(self._compiled, self._routes)

    def pull(self, record: LeverRecord) -> object:
        """A lever was pulled or let go; the answer is what `revert` takes to undo it."""
        undo = LeverUndo(self._levers, self._throttled, None)
        match record.action:
            case "resume" | "end":
                self._set_levers(tuple(lever for lever in self._levers if lever.id != record.lever))
            case "reset" if record.latch == "throttle":
                kept = self._in_force(record.route or "")
                member = self._members.get(kept)
                self._throttled -= {kept, member.book} if member is not None else {kept}
            case "reset":
                key = (self._in_force(record.route or ""), record.symbol or "")
                instrument = self._instruments.get(key)
                if instrument is not None:
                    undo = LeverUndo(self._levers, self._throttled, (key, instrument))
                    self._instruments[key] = msgspec.structs.replace(instrument, latched=False, flips=())
                member = self._members.get(key[0])
                shared = (member.book, key[1]) if member is not None else None
                if shared is not None and (sides := self._sides.get(shared)) is not None:
                    undo = msgspec.structs.replace(undo, sides=(shared, sides))
                    self._sides[shared] = Sides(sides.side)
            case "replan":
                before = self._plans.pop(record.route or "", None)
                if before is not None:
                    undo = LeverUndo(self._levers, self._throttled, None, (record.route or "", before))
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
                    undo = LeverUndo(undo.levers, self._throttled, None, (record.route or "", before))
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
        if isinstance(undo, LeverUndo):
            self._set_levers(undo.levers)
            self._throttled = undo.throttled
            if undo.instrument is not None:
                self._instruments[undo.instrument[0]] = undo.instrument[1]
            if undo.plan is not None:
                self._plans[undo.plan[0]] = undo.plan[1]
            if undo.sides is not None:
                self._sides[undo.sides[0]] = undo.sides[1]
        elif isinstance(undo, PlanUndo):
            if undo.before is None:
                self._plans.pop(undo.route, None)
            else:
                self._plans[undo.route] = undo.before
        elif isinstance(undo, RouteUndo):
            if undo.mode is not None:
                self._revert_mode(self._in_force(undo.name), undo.mode)
            self._put_route(undo.name, undo.before)
        elif isinstance(undo, GroupUndo):
            self._put_group(undo.name, undo.before)
        elif isinstance(undo, DecisionUndo):
            self._revert_decision(undo)

    def _revert_decision(self, undo: DecisionUndo) -> None:
        if self._recent.pop(undo.proposal_id, None) is not None:
            self._recent_order.pop()
        self._outlasting.pop(undo.proposal_id, None)
        if undo.before is None:
            return
        if undo.before is NEVER:
            self._instruments.pop(undo.key, None)
        else:
            self._instruments[undo.key] = undo.before
            self._hold(undo.before)
        if undo.signal:
            _forget(self._signals, undo.key[0])
        if undo.flat:
            _forget(self._flats, undo.key[0])
        if undo.throttled:
            self._throttled -= {undo.throttled}
        if undo.group:
            _forget(self._signals, undo.group)
        if undo.sides is not None:
            key, before = undo.sides
            if before is None:
                del self._sides[key]
            else:
                self._sides[key] = before

    def _in_force(self, route: str) -> str:
        """The book of a route's mode."""
        return self._books.get(route, route)

    def _put_route(self, name: str, record: RouteRecord | None) -> None:
        if record is None:
            self._routes.pop(name, None)
            self._books.pop(name, None)
        else:
            self._routes[name] = record
            self._books[name] = book(name, record.paper)
        if self._compiled:
            self._members = members(self._compiled, self._routes)

    def _change_mode(self, route: str, paper: bool) -> BookUndo:
        """Paper begins from nothing. Live goes on from what the desk was last told, and enters directions anew: what
        hysteresis holds is as old as the day on which the route went to paper, and must not open a position."""
        entered = book(route, paper)
        instruments = {key: state for key, state in self._instruments.items() if key[0] == entered}
        undo = BookUndo(instruments, self._signals.get(entered), self._flats.get(entered), self._throttled)
        for key, state in instruments.items():
            if paper:
                del self._instruments[key]
                self._release(state)
            else:
                self._instruments[key] = msgspec.structs.replace(state, held=None)
        if paper:
            self._signals.pop(entered, None)
            self._flats.pop(entered, None)
            self._throttled -= {entered}
        return undo

    def _revert_mode(self, entered: str, undo: BookUndo) -> None:
        self._instruments.update(undo.instruments)
        for instrument in undo.instruments.values():
            self._hold(instrument)
        if undo.signals is not None:
            self._signals[entered] = undo.signals
        if undo.flats is not None:
            self._flats[entered] = undo.flats
        self._throttled = undo.throttled

    def _keep(self, decision: Decision) -> None:
        self._recent[decision.proposal_id] = decision
        self._recent_order.append(decision.proposal_id)

    def forget(self) -> None:
        """Let the oldest decisions go that are more than are to be remembered."""
        while len(self._recent_order) > self._remember:
            self._let_go(self._recent_order.popleft())

    def _let_go(self, proposal_id: str) -> None:
        """Forget a decision, unless it is its instrument's newest."""
        decision = self._recent.pop(proposal_id, None)
        if decision is None:
            return
        for paper in (False, True):
            instrument = self._instruments.get((book(decision.route, paper), decision.symbol))
            if instrument is not None and any(kept.proposal_id == proposal_id for kept in instrument.settled):
                self._outlasting[proposal_id] = decision

    def _hold(self, instrument: Instrument) -> None:
        """The decisions at an instrument's place are remembered for as long as it stays there."""
        for decision in instrument.settled:
            if decision.proposal_id not in self._recent:
                self._outlasting[decision.proposal_id] = decision

    def _release(self, instrument: Instrument) -> None:
        """An instrument moves on, or begins anew."""
        if self._outlasting:
            for decision in instrument.settled:
                self._outlasting.pop(decision.proposal_id, None)


_RATE_LIMITED, _FLIP_LATCHED = Reason.RATE_LIMITED, Reason.FLIP_LATCHED

_WITHOUT_PLACE = (Reason.PAST_COMMIT_BY, Reason.SUPERSEDED, Reason.OUT_OF_ORDER)
"""Refused before they took a place in the order: they change nothing but what is remembered of themselves."""


def _suppressed(
    reason: Reason, *, reduces: bool = False, duplicate_of: str | None = None, group: str = "", against: str = ""
) -> Settlement:
    return Settlement(SUPPRESSED, reason, reduces=reduces, duplicate_of=duplicate_of, group=group, against=against)


def _reached(times: Sequence[int] | None, limit: Rate, now: int) -> bool:
    """Whether ``limit.count`` of the ascending times lie within the window that ends now; a limit of none always is reached."""
    if not limit.count:
        return True
    return times is not None and len(times) >= limit.count and times[-limit.count] > now - limit.window


def _note(times: dict[str, deque[int]], route: str, now: int) -> None:
    kept = times.setdefault(route, deque(maxlen=MAX_RATE_COUNT))
    kept.append(now)
    while kept[0] <= now - LONGEST_RATE_WINDOW:
        kept.popleft()


def _forget(times: dict[str, deque[int]], kept: str) -> None:
    """Take the newest time out again, unless one that was noted later, and taken out since, was so much newer that it had to go."""
    if times[kept]:
        times[kept].pop()
