"""The replay: snapshots in the order of their event time, a frozen model server on the way, a killed router, no decision lost."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from signalyard.problems import CATALOGUE, SignalyardError
from signalyard.wire import Decision, Snapshot
from signalyard.words import Outcome, Reason
from signalyard_demo.audit import Answered

CALM, FROZEN, KILLED = "calm", "frozen", "killed"
BATCH_EVERY = 10
"""Every so many calls carry a small batch instead of one snapshot."""
BATCH = 4
KILL_BATCH = 10
GIVE_UP_SECONDS = 30.0
_REPEATS = 20
_RETRY_SECONDS = 0.05


class ReplayError(Exception):
    """A snapshot did not get exactly one decision."""


class Faults(Protocol):
    """What goes wrong on the way."""

    def freeze(self) -> None:
        """Stop the stable model server where it stands."""

    def thaw(self) -> None:
        """Let it go on."""

    def kill_soon(self) -> None:
        """Kill the router in a moment, while a call is in flight. Returns at once."""

    def restart(self) -> None:
        """Start the router again on the same journal, and return when it is ready."""


@dataclass(frozen=True, slots=True)
class Plan:
    """When what happens. ``rate`` is snapshots a second at most, ``frozen_seconds`` wall time; the rest are shares of the way."""

    rate: float
    frozen_seconds: float
    freeze_at: float = 1 / 3
    kill_at: float = 2 / 3


@dataclass(slots=True)
class Tally:
    """What has happened so far. ``latencies`` are seconds a call as the caller sees them, calls that the kill hit left out."""

    total: int
    phase: str = CALM
    answers: list[Answered] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    latencies: dict[str, list[float]] = field(default_factory=lambda: {CALM: [], FROZEN: []})
    calls: int = 0
    failed_calls: int = 0
    asked_again: int = 0
    frozen_decisions: int = 0
    frozen_seconds: float = 0.0
    kills: int = 0
    router_away_seconds: float = 0.0
    repeated: int = 0
    repeated_equal: int = 0
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0


class Replay:
    """Sends the snapshots through ``call``, which gives one decision a row or raises."""

    def __init__(
        self,
        call: Callable[[Sequence[Snapshot]], list[Decision]],
        snapshots: Sequence[Snapshot],
        faults: Faults,
        plan: Plan,
        progress: Callable[[Tally], None],
    ) -> None:
        self._call = call
        self._snapshots = snapshots
        self._faults = faults
        self._plan = plan
        self._progress = progress
        self.tally = Tally(len(snapshots))
        self._frozen_at: float | None = None
        self._kill_asked = False
        self._kill_over = False
        self._newest: deque[tuple[Snapshot, Answered]] = deque(maxlen=_REPEATS)

    def run(self) -> Tally:
        """Replay everything. Raises ReplayError, or what the faults raise."""
        tally, total = self.tally, len(self._snapshots)
        freeze_from, kill_from = int(total * self._plan.freeze_at), int(total * self._plan.kill_at)
        freeze_due, place, due = True, 0, time.monotonic()
        while place < total:
            if freeze_due and place >= freeze_from:
                freeze_due = False
                self._freeze()
            self._thaw_when_due()
            if place >= kill_from and not self._kill_over:
                self._wait_for_thaw()
                batch = self._take(place, KILL_BATCH)
                if not self._kill_asked:
                    self._kill_asked = True
                    tally.phase = KILLED
                    self._faults.kill_soon()
            else:
                batch = self._take(place, BATCH if tally.calls % BATCH_EVERY == BATCH_EVERY - 1 else 1)
            self._settle(batch)
            place += len(batch)
            self._progress(tally)
            if self._kill_asked and not self._kill_over:
                continue  # without a pause, so that the end finds a call in flight
            due = max(due + len(batch) / self._plan.rate, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
        if self._kill_asked and not self._kill_over:
            self._bring_back()
        tally.phase = CALM
        tally.seconds = time.monotonic() - tally.started
        return tally

    def _take(self, place: int, count: int) -> Sequence[Snapshot]:
        """The next snapshots, at most ``count``; several may be of one instrument."""
        return self._snapshots[place : place + count]

    def _freeze(self) -> None:
        self._faults.freeze()
        self._frozen_at = time.monotonic()
        self.tally.phase = FROZEN

    def _wait_for_thaw(self) -> None:
        while self._frozen_at is not None:
            time.sleep(0.01)
            self._thaw_when_due()

    def _thaw_when_due(self) -> None:
        if self._frozen_at is None or time.monotonic() - self._frozen_at < self._plan.frozen_seconds:
            return
        self._faults.thaw()
        self.tally.frozen_seconds = time.monotonic() - self._frozen_at
        self._frozen_at = None
        self.tally.phase = CALM

    def _settle(self, batch: Sequence[Snapshot]) -> None:
        """Ask until each snapshot of the batch has its decision."""
        open_rows = list(batch)
        give_up = time.monotonic() + GIVE_UP_SECONDS
        tally = self.tally
        while open_rows:
            if time.monotonic() > give_up:
                raise ReplayError(f"{len(open_rows)} snapshots had no decision after {GIVE_UP_SECONDS:.0f} s")
            started = time.perf_counter()
            tally.calls += 1
            try:
                decisions = self._call(open_rows)
            except SignalyardError as exc:
                if not CATALOGUE[exc.problem].retryable:
                    raise
                tally.failed_calls += 1
                tally.asked_again += len(open_rows)
                if self._kill_asked and not self._kill_over:
                    self._bring_back()
                else:
                    time.sleep(_RETRY_SECONDS)
                continue
            if tally.phase in tally.latencies:
                tally.latencies[tally.phase].append(time.perf_counter() - started)
            open_rows = self._record(open_rows, decisions)
            tally.asked_again += len(open_rows)

    def _record(self, rows: Sequence[Snapshot], decisions: Sequence[Decision]) -> list[Snapshot]:
        """Keep the answers; the rows that must be asked again are given back."""
        if sorted(decision.row for decision in decisions) != list(range(len(rows))):
            raise ReplayError(f"{len(rows)} snapshots got {len(decisions)} decisions, where each is owed exactly one")
        again = []
        for decision in decisions:
            row = rows[decision.row]
            if decision.symbol != row.symbol or decision.ts_event != row.ts_event:
                raise ReplayError(
                    f"{row.symbol} at {row.ts_event} was answered as {decision.symbol} at {decision.ts_event}"
                )
            if decision.outcome is Outcome.UNKNOWN or decision.reason is Reason.JOURNAL_UNAVAILABLE:
                again.append(row)
                continue
            answer = answered(row, decision)
            self.tally.answers.append(answer)
            self._newest.append((row, answer))
            self.tally.outcomes[decision.outcome] += 1
            if decision.reason is not None:
                self.tally.reasons[decision.reason] += 1
            self.tally.frozen_decisions += self.tally.phase == FROZEN
        return again

    def _bring_back(self) -> None:
        """Restart the router, then send the newest settled snapshots again: they must get the decisions that they had."""
        self._progress(self.tally)
        away = time.monotonic()
        self._faults.restart()
        self.tally.router_away_seconds = time.monotonic() - away
        self._kill_over = True
        self.tally.kills += 1
        if self._newest:
            rows = [row for row, _ in self._newest]
            for decision in self._insist(rows):
                row, before = self._newest[decision.row]
                self.tally.repeated += 1
                self.tally.repeated_equal += answered(row, decision) == before
        self.tally.phase = CALM

    def _insist(self, rows: Sequence[Snapshot]) -> list[Decision]:
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while True:
            try:
                return self._call(rows)
            except SignalyardError as exc:
                if not CATALOGUE[exc.problem].retryable or time.monotonic() > give_up:
                    raise
                time.sleep(_RETRY_SECONDS)


def answered(row: Snapshot, decision: Decision) -> Answered:
    """A decision as the audit compares it."""
    return Answered(
        symbol=row.symbol,
        ts_event=row.ts_event,
        sequence=row.sequence,
        proposal_id=decision.proposal_id,
        outcome=str(decision.outcome),
        reason=str(decision.reason) if decision.reason is not None else None,
        signal_id=decision.signal.signal_id if decision.signal is not None else None,
        duplicate_of=decision.duplicate_of,
    )
