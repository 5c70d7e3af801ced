"""What has happened on a route: when something was last seen, and counts over a sliding window. Folded from records."""

from collections import deque

import msgspec

from signalyard.words import REJECTED, Reason
from signalyard_router.rules.record import SIGNALS, DecisionRecord

_PAST_COMMIT_BY = Reason.PAST_COMMIT_BY

_BUCKETS = 60
"""The window slides by a sixtieth of itself."""


class Tally(msgspec.Struct):
    """Counts. ``unrecorded`` are snapshots whose decision did not get into the journal; ``confidence_sum`` is in billionths,
    so that adding and taking away leave nothing behind; ``reasons`` count what became of those that were not emitted."""

    snapshots: int = 0
    rejected: int = 0
    unrecorded: int = 0
    answers: int = 0
    emitted: int = 0
    degraded: int = 0
    late: int = 0
    confidences: int = 0
    confidence_sum: int = 0
    reasons: dict[str, int] = {}

    def add(self, other: "Tally", sign: int = 1) -> None:
        """Add, or take away, another's counts."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + sign * getattr(other, name))
        for reason, count in other.reasons.items():
            left = self.reasons.get(reason, 0) + sign * count
            if left:
                self.reasons[reason] = left
            else:
                self.reasons.pop(reason, None)


_NUMBERS = tuple(name for name in Tally.__struct_fields__ if name != "reasons")


class Activity:
    """One route's. ``window`` is nanoseconds; times are the journal's, 0 where there was nothing yet."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.last_snapshot = 0
        self.last_answer = 0
        self.last_signal = 0
        self._width = max(1, window // _BUCKETS)
        self._tally = Tally()
        self._until = 0
        self._closed: deque[tuple[int, Tally]] = deque()
        self._sum = Tally()

    def fold(self, record: DecisionRecord) -> None:
        """Take a decision in. Records come in the order of the journal."""
        t = record.t
        tally = self._tally if t < self._until else self._next(t)
        tally.snapshots += 1
        self.last_snapshot = t
        outcome, reason = record.outcome, record.reason
        if outcome is REJECTED:
            tally.rejected += 1
            if record.problem is not None:
                code = record.problem.code
                tally.reasons[code] = tally.reasons.get(code, 0) + 1
            return
        if record.score is not None:
            self.last_answer = t
            tally.answers += 1
            if record.confidence is not None:
                tally.confidences += 1
                tally.confidence_sum += round(record.confidence * 1e9)
        if outcome in SIGNALS:
            self.last_signal = t
            tally.emitted += 1
        elif reason is not None:
            tally.reasons[reason] = tally.reasons.get(reason, 0) + 1
        if record.degraded or record.failover:
            tally.degraded += 1
        if reason is _PAST_COMMIT_BY or record.elapsed_us > record.budget_us > 0:
            tally.late += 1

    def unrecorded(self, t: int, *, answered: bool, late: bool) -> None:
        """A snapshot came, and its decision is in no record that is known of."""
        tally = self._tally if t < self._until else self._next(t)
        tally.snapshots += 1
        tally.unrecorded += 1
        tally.answers += answered
        tally.late += late
        self.last_snapshot = t
        if answered:
            self.last_answer = t

    def totals(self, now: int) -> Tally:
        """The counts of the window that ends now."""
        if now >= self._until:
            self._next(now)
        total = Tally()
        total.add(self._sum)
        total.add(self._tally)
        return total

    def resume(self, other: "Activity") -> None:
        """Go on from another's times; its counts are of another window and are left behind."""
        self.last_snapshot, self.last_answer, self.last_signal = (
            other.last_snapshot,
            other.last_answer,
            other.last_signal,
        )

    def _next(self, t: int) -> Tally:
        if self._tally.snapshots:
            self._closed.append((self._until, self._tally))
            self._sum.add(self._tally)
        while self._closed and self._closed[0][0] <= t - self.window:
            self._sum.add(self._closed.popleft()[1], -1)
        self._tally = Tally()
        self._until = t - t % self._width + self._width
        return self._tally
