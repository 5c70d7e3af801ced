"""What changed between two readings: rates, and quantiles of histograms."""

import math
from collections import deque

from signalyard_top.source import Reading

KEPT = 11
"""Readings that are looked back over: ten seconds at one a second."""


class Past:
    """The last readings of one router process."""

    def __init__(self) -> None:
        self._readings: deque[Reading] = deque(maxlen=KEPT)

    def add(self, reading: Reading) -> "Change":
        """Take a reading in; the answer compares it with the oldest that is kept, or with nothing where it is the first."""
        if self._readings and _begun(self._readings[-1]) != _begun(reading):
            self._readings.clear()  # another process: its counters began anew
        before = self._readings[0] if self._readings else None
        self._readings.append(reading)
        return Change(before, reading)


class Change:
    """From ``before`` to ``now``. Without ``before``, counts are those since the router's start, and there are no rates."""

    def __init__(self, before: Reading | None, now: Reading) -> None:
        self.before = before
        self.now = now
        self.seconds = now.at - before.at if before is not None else 0.0

    def count(self, name: str, **labels: str) -> float:
        """How much a counter grew."""
        before = self.before.total(name, **labels) if self.before is not None else 0.0
        return max(0.0, self.now.total(name, **labels) - before)

    def rate(self, name: str, **labels: str) -> float | None:
        """How much a counter grew in a second."""
        return self.count(name, **labels) / self.seconds if self.seconds > 0 else None

    def quantile(self, share: float, name: str, **labels: str) -> float | None:
        """A histogram's quantile over the change, interpolated within its bucket as Prometheus does; None without samples.

        In the last bucket, which has no end, it is where that begins.
        """
        now = self.now.by(f"{name}_bucket", "le", **labels)
        before = self.before.by(f"{name}_bucket", "le", **labels) if self.before is not None else {}
        edges = sorted((float(edge), count - before.get(edge, 0.0)) for edge, count in now.items())
        if not edges or edges[-1][1] <= 0:
            return None
        rank = share * edges[-1][1]
        low, below = 0.0, 0.0
        for edge, count in edges:
            if count >= rank and count > below:
                if math.isinf(edge):
                    return low
                return low + (edge - low) * (rank - below) / (count - below)
            low, below = edge, count
        return low


def _begun(reading: Reading) -> float:
    return reading.total("process_start_time_seconds")
