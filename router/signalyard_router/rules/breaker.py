"""When an endpoint is left alone: a breaker is closed, open, or half-open while one call finds out. Pure; times are monotonic nanoseconds.

closed ──`failures` in a row, or `ratio` of at least `least` calls within `window`──▶ open
open ──the back-off is over, and a call is sent──▶ half-open
half-open ──it succeeded──▶ closed          half-open ──it failed──▶ open, with twice the back-off
"""

from enum import StrEnum

import msgspec

from signalyard_router.rules.units import MILLISECOND, SECOND

_BUCKETS = 10
"""The window moves on in tenths: exact enough, and its size does not depend on the load."""


class BreakerState(StrEnum):
    """What a breaker lets through: every call, none, or one."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class BreakerRules(msgspec.Struct, frozen=True):
    """When a breaker opens, and for how long. Durations are nanoseconds."""

    failures: int = 5
    ratio: float = 0.5
    least: int = 20
    window: int = 10 * SECOND
    backoff: int = 500 * MILLISECOND
    backoff_max: int = 10 * SECOND


class Breaker:
    """One endpoint's. Whoever sends a call takes a ticket from :meth:`begin` and hands it in exactly once, with the outcome.

    A ticket from before the last change of state says nothing any more: what was on its way when the breaker opened
    neither closes it nor keeps it open.
    """

    __slots__ = (
        "_backoff",
        "_bad",
        "_buckets",
        "_calls",
        "_due",
        "_period",
        "_row",
        "_rules",
        "_ticket",
        "opened",
        "state",
    )

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._period = max(1, rules.window // _BUCKETS)
        self._ticket = 0
        self._due = 0
        self._backoff = rules.backoff
        self._row = 0
        self._calls = 0
        self._bad = 0
        self._buckets: dict[int, list[int]] = {}
        self.state = BreakerState.CLOSED
        self.opened = 0
        """How often it has opened."""

    def admits(self, now: int) -> bool:
        """Whether a call may be sent now."""
        return self.state is BreakerState.CLOSED or self.due(now)

    def due(self, now: int) -> bool:
        """Whether it is open and waits for the one call that finds out."""
        return self.state is BreakerState.OPEN and now >= self._due

    def begin(self, now: int) -> int:
        """A call is sent, which :meth:`admits` allowed. The ticket for its outcome."""
        if self.due(now):
            self._turn(BreakerState.HALF_OPEN)
        return self._ticket

    def succeeded(self, ticket: int, now: int) -> None:
        """The call was answered."""
        if ticket != self._ticket:
            return
        if self.state is BreakerState.HALF_OPEN:
            self._backoff = self._rules.backoff
            self._turn(BreakerState.CLOSED)
        else:
            self._row = 0
            self._count(now, 0)

    def failed(self, ticket: int, now: int) -> None:
        """The call was not answered, or not rightly, and the endpoint is to blame."""
        if ticket != self._ticket:
            return
        if self.state is BreakerState.HALF_OPEN:
            self._backoff = min(2 * self._backoff, self._rules.backoff_max)
            self._open(now)
            return
        rules = self._rules
        self._row += 1
        self._count(now, 1)
        if self._row >= rules.failures or (self._calls >= rules.least and self._bad >= rules.ratio * self._calls):
            self._open(now)

    def abandoned(self, ticket: int, now: int) -> None:
        """The call was given up for a reason that says nothing of the endpoint; where it was to find out, the next one may."""
        if ticket == self._ticket and self.state is BreakerState.HALF_OPEN:
            self._turn(BreakerState.OPEN)
            self._due = now

    def hint(self, now: int) -> None:
        """The endpoint shows signs of life: the next call may find out, whatever is left of the back-off."""
        if self.state is BreakerState.OPEN:
            self._due = min(self._due, now)

    def _open(self, now: int) -> None:
        self.opened += 1
        self._due = now + self._backoff
        self._turn(BreakerState.OPEN)

    def _turn(self, state: BreakerState) -> None:
        self.state = state
        self._ticket += 1
        self._row = self._calls = self._bad = 0
        self._buckets.clear()

    def _count(self, now: int, bad: int) -> None:
        """Count a call in the bucket of its time, and forget the buckets that have left the window."""
        current = now // self._period
        bucket = self._buckets.get(current)
        if bucket is None:
            for old in [index for index in self._buckets if index <= current - _BUCKETS]:
                calls, failures = self._buckets.pop(old)
                self._calls -= calls
                self._bad -= failures
            bucket = self._buckets[current] = [0, 0]
        bucket[0] += 1
        bucket[1] += bad
        self._calls += 1
        self._bad += bad
