"""What a comparison counts, over sliding windows and in total.

A window is made of buckets of 10 seconds: it holds the bucket that is being filled and those before it, so a window of a minute
covers the last 50 to 60 seconds.
"""

from bisect import bisect_left
from collections import deque
from enum import StrEnum

from signalyard.words import Direction
from signalyard_router.rules.units import MINUTE, SECOND

BUCKET = 10 * SECOND
WINDOWS: dict[str, int] = {"1m": MINUTE, "10m": 10 * MINUTE, "1h": 60 * MINUTE}
_KEPT = max(WINDOWS.values()) // BUCKET

EDGES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper edges of the histograms of absolute differences."""

NONE = "none"
SIDES = (Direction.LONG, Direction.SHORT, Direction.FLAT, NONE)
"""What each side of a pair can say; ``none`` is no direction."""
_PLACES: dict[Direction | None, int] = {Direction.LONG: 0, Direction.SHORT: 1, Direction.FLAT: 2, None: 3}


class Excluded(StrEnum):
    """Why a snapshot of the mirrored share, or an observation, makes no pair."""

    # the live side has nothing to compare with
    REJECTED = "rejected"
    UNSETTLED = "unsettled"
    """Out of order, too late, superseded, or not recorded."""
    NO_ANSWER = "no_answer"
    DEGRADED = "degraded"
    """Answered by a rung of the ladder, not by the track of the split."""
    # the shadow was not asked
    QUEUE_FULL = "queue_full"
    EXPIRED = "expired"
    """It waited for its turn until its deadline had passed."""
    NOT_LEARNT = "not_learnt"
    DRIFT = "drift"
    """The shadow's server has another version."""
    MISFIT = "misfit"
    """The row does not fit the shadow's feature schema."""
    # the shadow was asked, and gave nothing
    TIMEOUT = "timeout"
    FAILED = "failed"
    ROW_ERROR = "row_error"
    INTERNAL = "internal"
    # a baseline's
    UNMATCHED = "unmatched"
    """Observed, and never decided."""
    UNOBSERVED = "unobserved"
    """Decided, and never observed."""


_REASONS = {reason: index for index, reason in enumerate(Excluded)}


class Difference:
    """Differences of a number, the other side's less the live one's."""

    __slots__ = ("absolute", "buckets", "count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.absolute = 0.0
        self.buckets = [0] * (len(EDGES) + 1)

    def note(self, difference: float) -> None:
        """One more."""
        size = abs(difference)
        self.count += 1
        self.total += difference
        self.absolute += size
        self.buckets[bisect_left(EDGES, size)] += 1

    def add(self, other: "Difference") -> None:
        """All of another's."""
        self.count += other.count
        self.total += other.total
        self.absolute += other.absolute
        self.buckets = [mine + its for mine, its in zip(self.buckets, other.buckets, strict=True)]


class Tally:
    """Counts of pairs by their two directions, of what was excluded, of signals, and the differences."""

    __slots__ = ("confidence", "excluded", "pairs", "score", "signals")

    def __init__(self) -> None:
        self.pairs = [0] * (len(SIDES) * len(SIDES))
        self.excluded = [0] * len(_REASONS)
        self.signals = [0, 0]
        self.score = Difference()
        self.confidence = Difference()

    def pair(self, live: Direction | None, other: Direction | None) -> None:
        """A pair."""
        self.pairs[_PLACES[live] * len(SIDES) + _PLACES[other]] += 1

    def exclude(self, reason: Excluded, count: int = 1) -> None:
        """Snapshots that make no pair."""
        self.excluded[_REASONS[reason]] += count

    def add(self, other: "Tally") -> None:
        """All of another's."""
        self.pairs = [mine + its for mine, its in zip(self.pairs, other.pairs, strict=True)]
        self.excluded = [mine + its for mine, its in zip(self.excluded, other.excluded, strict=True)]
        self.signals = [mine + its for mine, its in zip(self.signals, other.signals, strict=True)]
        self.score.add(other.score)
        self.confidence.add(other.confidence)

    def matrix(self) -> dict[str, dict[str, int]]:
        """Pairs by the live direction, then by the other one."""
        wide = len(SIDES)
        return {
            str(live): {str(other): self.pairs[row * wide + column] for column, other in enumerate(SIDES)}
            for row, live in enumerate(SIDES)
        }

    def exclusions(self) -> dict[str, int]:
        """Counts of what was excluded, by reason, zeros included."""
        return {str(reason): self.excluded[index] for reason, index in _REASONS.items()}

    @property
    def paired(self) -> int:
        """Snapshots that both sides answered."""
        return sum(self.pairs)

    @property
    def compared(self) -> int:
        """Pairs in which a side took a position: flat and none are no position, and two that have none agree about nothing."""
        idle = sum(self.pairs[row * len(SIDES) + column] for row in (2, 3) for column in (2, 3))
        return self.paired - idle

    @property
    def agreed(self) -> int:
        """Compared pairs of one direction."""
        return self.pairs[0] + self.pairs[len(SIDES) + 1]

    @property
    def selected(self) -> int:
        """Snapshots that should have made a pair; rejected ones are not among them, for no model could have answered."""
        return self.paired + sum(self.excluded) - self.excluded[_REASONS[Excluded.REJECTED]]


class Windows:
    """Tallies by time. Memory is bounded: an hour of buckets, and one tally for all that is older."""

    def __init__(self) -> None:
        self._older = Tally()
        self._buckets: deque[tuple[int, Tally]] = deque()

    def at(self, now: int) -> Tally:
        """The tally to count in at ``now``, nanoseconds; time does not step back."""
        number = now // BUCKET
        buckets = self._buckets
        if not buckets or buckets[-1][0] < number:
            buckets.append((number, Tally()))
            while buckets[0][0] <= number - _KEPT:
                self._older.add(buckets.popleft()[1])
        return buckets[-1][1]

    def over(self, now: int, width: int) -> Tally:
        """The counts of the last ``width`` nanoseconds, an hour at most."""
        first = now // BUCKET - width // BUCKET + 1
        tally = Tally()
        for number, bucket in reversed(self._buckets):
            if number < first:
                break
            tally.add(bucket)
        return tally

    def total(self) -> Tally:
        """All counts since the beginning."""
        tally = Tally()
        tally.add(self._older)
        for _, bucket in self._buckets:
            tally.add(bucket)
        return tally
