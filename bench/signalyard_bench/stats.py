"""From samples to the figures of a table."""

from collections.abc import Sequence
from statistics import median

import msgspec


def percentile(ordered: Sequence[int], percent: float) -> int:
    """The nearest rank: the smallest sample that ``percent`` of all are not above. ``ordered`` ascends and is not empty."""
    rank = -(-len(ordered) * round(percent * 1000) // 100_000)  # in whole numbers: 99.9 is no binary fraction
    return ordered[max(rank, 1) - 1]


class Ratio(msgspec.Struct, frozen=True):
    """One thing by another, compared round by round, so that what disturbs the machine disturbs both."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> "Ratio":
        """``ours`` by ``theirs``, in pairs."""
        pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
        return cls(median(pairs), min(pairs), max(pairs))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f}-{self.highest:.2f})"
