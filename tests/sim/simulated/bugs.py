"""Bugs to plant: each is one that somebody could make, and that a promise forbids."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import msgspec

from signalyard import oip
from signalyard.words import Reason
from signalyard_router import main, router
from signalyard_router.adapters.http import server
from signalyard_router.adapters.oip import connection, group, pool
from signalyard_router.adapters.oip import request as asking
from signalyard_router.adapters.oip.errors import ExpiredError
from signalyard_router.control import board, delivery
from signalyard_router.flow import scoring
from signalyard_router.journal import archiver, local, upkeep
from signalyard_router.rules import budget, check, gate, groups, levers, table
from signalyard_router.rules.units import SECOND
from simulated.play import Documents

Change = tuple[Any, str, Any]


@dataclass(frozen=True)
class Bug:
    """``changes`` puts wrong code in the place of right; ``breaks`` says which promise that breaks.

    ``known`` is a seed that found it, to be tried first: searching anew each time takes longer than all else. When worlds change, it may
    find nothing any more; then the others do.
    """

    breaks: str
    changes: Callable[[], list[Change]]
    known: int = 0

    def seeds(self, count: int) -> Iterator[int]:
        """The first ``count`` seeds, from the known one on."""
        yield from range(self.known, count)
        yield from range(self.known)

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Let it be there for a while."""
        with ExitStack() as stack:
            for place, name, wrong in self.changes():
                stack.enter_context(patch.object(place, name, wrong))
            yield


def _window_extended() -> list[Change]:
    right = gate.next_instrument

    def wrong(before: Any, record: Any, decision: Any) -> Any:
        state = right(before, record, decision)
        if record.reason is Reason.DUPLICATE:
            emission = msgspec.structs.replace(state.emission, at=record.t)
            state = msgspec.structs.replace(state, emission=emission)
        return state

    return [(gate, "next_instrument", wrong)]


def _sync_not_awaited() -> list[Change]:
    right = local.LocalJournal.__init__

    def wrong(self: Any, world: Any, settings: Any, *args: Any) -> None:
        right(self, world, settings, *args)
        self._settings = replace(settings, durability="os")

    return [(local.LocalJournal, "__init__", wrong)]


def _visible_before_sync() -> list[Change]:
    write, apply = local.LocalJournal._write_through, local.LocalJournal._apply
    early: dict[int, Any] = {}

    async def wrong(self: Any, group: Any) -> None:
        for record in group.records:
            apply(self, record)
            early[id(record)] = record
        await write(self, group)

    def once(self: Any, record: Any) -> Any:
        return None if early.pop(id(record), None) is record else apply(self, record)

    return [(local.LocalJournal, "_write_through", wrong), (local.LocalJournal, "_apply", once)]


def _connection_reused() -> list[Change]:
    right = connection.Connection.send

    def expire(self: Any) -> None:
        self._timer = None
        self.failure = ExpiredError("no answer within the budget")
        waiter, self._waiter = self._waiter, None
        self._on_closed.__self__._idle.append(self)
        waiter.set_result(None)

    def send(self: Any, request: bytes, seconds: float) -> Any:
        self.failure = None
        return right(self, request, seconds)

    return [(connection.Connection, "_expire", expire), (connection.Connection, "send", send)]


def _exit_swallowed() -> list[Change]:
    return [(gate, "is_exit", lambda direction, position, last: False)]


def _revert_forgotten() -> list[Change]:
    right = local.LocalJournal._take_back

    def wrong(self: Any, group: Any) -> None:
        if self._settings.durability == "fsync":
            right(self, group)

    return [(local.LocalJournal, "_take_back", wrong)]


def _torn_line_kept() -> list[Change]:
    right = local.read

    def wrong(disk: Any, folder: str, tail: Any) -> Iterator[Any]:
        yield from right(disk, folder, tail)
        tail.size, tail.torn = tail.size + tail.torn, 0

    return [(local, "read", wrong)]


def _lookup_skipped() -> list[Change]:
    return [(gate.Gate, "settled", lambda self, proposal_id: None)]


def _held_from_emitted() -> list[Change]:
    right = gate.next_instrument

    def wrong(before: Any, record: Any, decision: Any) -> Any:
        state = right(before, record, decision)
        return msgspec.structs.replace(state, held=state.emission.direction if state.emission is not None else None)

    return [(gate, "next_instrument", wrong)]


def _out_of_order_accepted() -> list[Change]:
    right = gate.Gate.admit

    def wrong(self: Any, proposal: Any, now: int, *, late: bool) -> Any:
        ts_event, proposal.ts_event = proposal.ts_event, 1 << 62
        try:
            return right(self, proposal, now, late=late)
        finally:
            proposal.ts_event = ts_event

    return [(gate.Gate, "admit", wrong)]


def _answered_before_write() -> list[Change]:
    right = local.LocalJournal._open

    class Later:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def write(self, data: bytes) -> None:
            asyncio.get_running_loop().call_soon(self._file.write, data)

    def wrong(self: Any, software: str) -> Any:
        file = right(self, software)
        return Later(file) if self._settings.durability == "os" else file

    return [(local.LocalJournal, "_open", wrong)]


def _last_rung_unbounded() -> list[Change]:
    right = budget.Budget.rung_until

    def wrong(self: Any, now: int, calls_left: int) -> int:
        return now + SECOND if calls_left <= 1 else right(self, now, calls_left)

    return [(budget.Budget, "rung_until", wrong)]


def _sequence_stale_after_restart() -> list[Change]:
    right = local.LocalJournal._open

    def wrong(self: Any, software: str) -> Any:
        file = right(self, software)
        for key, state in self._gate._instruments.items():
            if state.emission is not None and state.emission.seq > 1:
                emission = msgspec.structs.replace(state.emission, seq=state.emission.seq - 1)
                self._gate._instruments[key] = msgspec.structs.replace(state, emission=emission)
        return file

    return [(local.LocalJournal, "_open", wrong)]


def _latch_forgotten_at_restart() -> list[Change]:
    right = local.LocalJournal._open

    def wrong(self: Any, software: str) -> Any:
        file = right(self, software)
        for key, state in self._gate._instruments.items():
            self._gate._instruments[key] = msgspec.structs.replace(state, latched="", flips=())
        return file

    return [(local.LocalJournal, "_open", wrong)]


def _documents_never_looked_at() -> list[Change]:
    return [(Documents, "version", lambda self: 0)]


def _clock_steps_back() -> list[Change]:
    return [(local.LocalJournal, "now", property(lambda self: self._world.clock.wall()))]


def _standby_unmarked() -> list[Change]:
    right = scoring.Scoring._take

    def wrong(self: Any, rung: Any, depth: int, cases: Any, *args: Any) -> None:
        right(self, rung, depth, cases, *args)
        for case in cases:
            if case.answer is not None:
                case.answer = msgspec.structs.replace(case.answer, failover=False)

    return [(scoring.Scoring, "_take", wrong)]


def _wrong_id_accepted() -> list[Change]:
    right = asking.decode_response

    def wrong(body: bytes, *, request_id: str, **more: Any) -> Any:
        with suppress(ValueError):
            request_id = msgspec.json.decode(body, type=oip.InferResponse).id or request_id
        return right(body, request_id=request_id, **more)

    return [(asking, "decode_response", wrong)]


def _budget_constant() -> list[Change]:
    right = pool.at_budget
    return [(pool, "at_budget", lambda head, microseconds, body: right(head, 100_000, body))]


def _flat_without_position() -> list[Change]:
    right = gate.Gate._admit_direction

    def wrong(self: Any, proposal: Any, direction: Any, state: Any, now: int) -> Any:
        return right(self, msgspec.structs.replace(proposal, reduce_only=False), direction, state, now)

    return [(gate.Gate, "_admit_direction", wrong)]


def _outage_on_wall_clock() -> list[Change]:
    return [(scoring.Scoring, "_time", lambda self: self._journal.now)]


def _range_unchecked() -> list[Change]:
    right = check.Checker.vector

    def wrong(self: Any, columns: Any, values: Any) -> Any:
        return right(self, columns, [None if value is None else min(value, 1.0) if name == "p" else value
                                     for name, value in zip(columns, values, strict=False)])  # fmt: skip

    return [(check.Checker, "vector", wrong)]


def _drain_cuts() -> list[Change]:
    async def wrong(self: Any, grace_seconds: float) -> None:
        if self._listener is not None:
            self._listener.close()
        for open_connection in list(self._open.connections):
            open_connection.transport.abort()

    return [(server.HttpServer, "drain", wrong)]


def _deadline_not_shared() -> list[Change]:
    return [(router.Router, "_share_deadline", lambda self, *args: None)]


def _changed_at_restart(change: Callable[[gate.Gate], None]) -> list[Change]:
    """A journal whose gate is not what its records say."""
    right = local.LocalJournal._open

    def wrong(self: Any, software: str) -> Any:
        file = right(self, software)
        change(self._gate)
        return file

    return [(local.LocalJournal, "_open", wrong)]


def _weight_forgotten_at_restart() -> list[Change]:
    def forget(kept: gate.Gate) -> None:
        kept._set_levers(tuple(lever for lever in kept.levers if lever.action not in ("weight", "rollback")))

    return _changed_at_restart(forget)


def _halt_forgotten_at_restart() -> list[Change]:
    def forget(kept: gate.Gate) -> None:
        kept._set_levers(tuple(lever for lever in kept.levers if lever.action in ("weight", "rollback")))

    return _changed_at_restart(forget)


def _plan_forgotten_at_restart() -> list[Change]:
    return _changed_at_restart(lambda kept: kept._plans.clear())


def _evidence_forgotten_at_restart() -> list[Change]:
    return [(main, "follow", lambda *args: iter(()))]


def _handover_at_once() -> list[Change]:
    return [(table.Table, "rung", lambda self, route, symbol, owner: route.rung(self.track(route, symbol)))]


def _rollback_waits_for_flat() -> list[Change]:
    right = router.effective

    def wrong(route: Any, *args: Any) -> Any:
        made = right(route, *args)
        return msgspec.structs.replace(made, handover_now=route.handover_now)

    return [(router, "effective", wrong)]


def _interruption_forgotten() -> list[Change]:
    right = gate.Gate.pull

    def wrong(self: Any, record: Any) -> Any:
        plans = dict(self._plans)
        undo = right(self, record)
        if record.action != "replan":
            self._plans.update(plans)
        return undo

    return [(gate.Gate, "pull", wrong)]


def _pause_outlives_its_time() -> list[Change]:
    return [(levers.Lever, "expired", lambda self, now: False)]


def _reset_frees_nothing() -> list[Change]:
    right = gate.Gate.pull

    def wrong(self: Any, record: Any) -> Any:
        throttled, instruments = self._throttled, dict(self._instruments)
        undo = right(self, record)
        self._throttled, self._instruments = throttled, instruments
        return undo

    return [(gate.Gate, "pull", wrong)]


def _weight_ends_with_a_standby() -> list[Change]:
    right = levers.base

    def wrong(route: Any) -> str:
        return " ".join((right(route), *(f"also:{rung.target.version}" for rung in route.standbys)))

    return [(levers, "base", wrong), (board, "base", wrong)]


def _step_before_its_time() -> list[Change]:
    right = delivery.judge

    def wrong(plan: Any, progress: Any, evidence: Any, now: int, disagreement: Any) -> Any:
        return right(plan, progress, evidence, now + SECOND, disagreement)

    return [(delivery, "judge", wrong)]


def _checkpoint_forgets_latches() -> list[Change]:
    right = gate.Gate.snapshot

    def wrong(self: Any) -> Any:
        state = right(self)
        instruments = [msgspec.structs.replace(kept, latched=False, flips=()) for kept in state.instruments]
        return msgspec.structs.replace(state, throttled=(), instruments=instruments)

    return [(gate.Gate, "snapshot", wrong)]


def _checkpoint_too_few() -> list[Change]:
    return [(upkeep, "_CHECKPOINTS", 1)]


def _dropped_before_archived() -> list[Change]:
    right = upkeep.expendable
    return [(upkeep, "expendable", lambda complete, **more: right(complete, **more | {"archived": None}))]


def _upload_not_read_back() -> list[Change]:
    return [(archiver._Meter, "digest", property(lambda self: "0" * 64))]


def _other_digest_asked() -> list[Change]:
    def serves(self: Any, asked: Any, card: Any) -> bool:
        return asked.identity is None or asked.identity.version == card.version

    return [(group.Group, "_serves", serves), (group.Group, "_hold_to_digest", lambda *args: None)]


def _drift_unmarked() -> list[Change]:
    right = scoring.Scoring._take

    def wrong(self: Any, rung: Any, depth: int, cases: Any, *args: Any) -> None:
        right(self, rung, depth, cases, *args)
        for case in cases:
            if case.answer is not None:
                case.answer = msgspec.structs.replace(case.answer, drift=False)

    return [(scoring.Scoring, "_take", wrong)]


def _answers_mixed_up() -> list[Change]:
    right = router.Router._decide

    async def wrong(self: Any, batch: Any) -> Any:
        answers = await right(self, batch)
        return [(asked, other) for (asked, _), (_, other) in zip(answers, reversed(answers), strict=True)]

    return [(router.Router, "_decide", wrong)]


def _exit_against_the_group() -> list[Change]:
    repeats, contradicted = gate.repeats, gate.contradicted

    def repeating(member: Any, direction: Any, last: Any, exits: bool, *args: Any) -> Any:
        return repeats(member, direction, last, False, *args)

    def against(member: Any, direction: Any, last: Any, exits: bool, *args: Any) -> Any:
        return contradicted(member, direction, last, False, *args)

    return [(gate, "repeats", repeating), (gate, "contradicted", against)]


def _change_of_side_taken_for_a_repetition() -> list[Change]:
    right = gate.repeats
    return [(gate, "repeats", lambda member, direction, last, *args: right(member, direction, None, *args))]


def _higher_route_held_back() -> list[Change]:
    right = groups.members

    def wrong(*args: Any) -> Any:
        return {
            kept: msgspec.structs.replace(member, above=len(member.others)) for kept, member in right(*args).items()
        }

    return [(gate, "members", wrong)]


def _silence_taken_for_agreement() -> list[Change]:
    right = gate.next_instrument

    def wrong(*args: Any) -> Any:
        return msgspec.structs.replace(right(*args), unanswered=0)

    return [(gate, "next_instrument", wrong)]


def _shared_limits_forgotten_at_restart() -> list[Change]:
    def forget(kept: gate.Gate) -> None:
        kept._signals.pop("@both", None)
        kept._sides.clear()
        kept._throttled -= {"@both"}

    return _changed_at_restart(forget)


def _group_counts_what_was_not_written() -> list[Change]:
    right = gate.Gate._revert_decision

    def wrong(self: Any, undo: Any) -> None:
        right(self, msgspec.structs.replace(undo, group="", sides=None))

    return [(gate.Gate, "_revert_decision", wrong)]


BUGS = {
    "window_extended": Bug(
        "2: a duplicate extends the window, and a signal that is due is swallowed", _window_extended
    ),
    "sync_not_awaited": Bug("3: answered before the record is on the medium", _sync_not_awaited),
    "visible_before_sync": Bug("3: a look-up finds what is not on the medium yet", _visible_before_sync),
    "connection_reused": Bug("2: a connection is used again on which an answer is outstanding", _connection_reused),
    "exit_swallowed": Bug("2: the filters stop an exit", _exit_swallowed),
    "revert_forgotten": Bug("3: memory knows what could not be written", _revert_forgotten, 91),
    "torn_line_kept": Bug("3: a torn last line is written on", _torn_line_kept, 54),
    "lookup_skipped": Bug("2: the same proposal is settled twice", _lookup_skipped),
    "held_from_emitted": Bug("2: hysteresis remembers what was emitted, not what was mapped", _held_from_emitted),
    "out_of_order_accepted": Bug("2: an older snapshot makes a signal", _out_of_order_accepted),
    "answered_before_write": Bug("3: answered before it is recorded", _answered_before_write, 93),
    "last_rung_unbounded": Bug("1: the last rung forgets the deadline", _last_rung_unbounded),
    "sequence_stale_after_restart": Bug("2: a number is used twice after a restart", _sequence_stale_after_restart),
    "latch_forgotten_at_restart": Bug("2: a restart resets the latch", _latch_forgotten_at_restart, 58),
    "halt_forgotten_at_restart": Bug("4: a restart ends a halt", _halt_forgotten_at_restart, 21),
    "documents_never_looked_at": Bug("4: a changed document waits for a restart", _documents_never_looked_at, 13),
    "clock_steps_back": Bug("2: the journal's time follows the clock back", _clock_steps_back, 90),
    "standby_unmarked": Bug("6: a standby's signal is not marked", _standby_unmarked),
    "wrong_id_accepted": Bug("2: an answer to another request is taken", _wrong_id_accepted, 145),
    "budget_constant": Bug("1: the model is told a constant, not what remains", _budget_constant),
    "flat_without_position": Bug("6: the ladder says flat where nothing is open", _flat_without_position),
    "outage_on_wall_clock": Bug("6: a clock that is set forward makes an outage long", _outage_on_wall_clock, 64),
    "range_unchecked": Bug("6: a value out of range is bent into it", _range_unchecked),
    "drain_cuts": Bug("4: a restart cuts what is in hand", _drain_cuts, 44),
    "deadline_not_shared": Bug("1: a slow route makes another one late", _deadline_not_shared),
    "weight_forgotten_at_restart": Bug("4: a restart ends a weight", _weight_forgotten_at_restart, 18),
    "plan_forgotten_at_restart": Bug("4: a restart begins a plan anew", _plan_forgotten_at_restart, 8),
    "evidence_forgotten_at_restart": Bug(
        "4: a restart forgets what a step is judged by", _evidence_forgotten_at_restart, 167
    ),
    "handover_at_once": Bug("4: a change of weight moves an open position at once", _handover_at_once),
    "rollback_waits_for_flat": Bug("4: a rollback waits until an instrument is flat", _rollback_waits_for_flat),
    "interruption_forgotten": Bug("4: a plan goes on after a weight by hand", _interruption_forgotten, 183),
    "pause_outlives_its_time": Bug("4: a lever whose time is over still holds", _pause_outlives_its_time, 25),
    "reset_frees_nothing": Bug("4: a latch stays after its reset", _reset_frees_nothing, 256),
    "weight_ends_with_a_standby": Bug("4: adding a standby ends a weight", _weight_ends_with_a_standby, 18),
    "step_before_its_time": Bug("4: a plan's step is not held for its time", _step_before_its_time, 65),
    "checkpoint_forgets_latches": Bug("2: a checkpoint resets latches", _checkpoint_forgets_latches, 77),
    "checkpoint_too_few": Bug("3: a segment goes that the checkpoint before the newest needs", _checkpoint_too_few, 9),
    "dropped_before_archived": Bug("3: a segment goes that is not in the archive", _dropped_before_archived, 70),
    "upload_not_read_back": Bug("3: the archive holds a damaged segment", _upload_not_read_back, 109),
    "other_digest_asked": Bug(
        "2: an endpoint with another digest than the one in use is asked", _other_digest_asked, 213
    ),
    "answers_mixed_up": Bug("2: of a shared call each request takes the first answer", _answers_mixed_up, 53),
    "drift_unmarked": Bug("6: an answer of another version is not marked", _drift_unmarked, 10),
    "exit_against_the_group": Bug("2: a group holds back an exit", _exit_against_the_group, 81),
    "change_of_side_taken_for_a_repetition": Bug(
        "2: what a route has open stays open, because another one said the new side first",
        _change_of_side_taken_for_a_repetition,
        74,
    ),
    "higher_route_held_back": Bug("2: a lower route of a group outranks a higher one", _higher_route_held_back, 81),
    "silence_taken_for_agreement": Bug(
        "6: a model that could not be asked is taken to agree", _silence_taken_for_agreement, 4
    ),
    "shared_limits_forgotten_at_restart": Bug(
        "2: a restart forgets what a group has counted", _shared_limits_forgotten_at_restart, 283
    ),
    "group_counts_what_was_not_written": Bug(
        "3: a group counts what could not be written", _group_counts_what_was_not_written, 12
    ),
}
