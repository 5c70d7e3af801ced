"""The last while of a count, in two halves."""

import numpy as np

from signalyard_runtimes.drift.bins import Counts


class Window:
    """What was counted within the last ``seconds``, or since half as long ago at least: the older half goes at once, when it is over."""

    def __init__(self, shape: tuple[int, int], seconds: float) -> None:
        self._half = seconds / 2
        self._number = 0
        self._shape = shape
        self._older, self._newer = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)

    def add(self, counts: Counts, now: float) -> None:
        """Count what came before ``now``, in seconds of a clock that never steps back."""
        self._move(now)
        self._newer += counts

    def counts(self, now: float) -> Counts:
        """Both halves at ``now``."""
        self._move(now)
        counts: Counts = self._older + self._newer
        return counts

    def clear(self) -> None:
        """Forget everything."""
        self._older, self._newer = np.zeros(self._shape, dtype=np.int64), np.zeros(self._shape, dtype=np.int64)

    def _move(self, now: float) -> None:
        number = int(now // self._half)
        if number == self._number:
            return
        empty = np.zeros(self._shape, dtype=np.int64)
        self._older, self._newer = (self._newer if number == self._number + 1 else empty.copy()), empty
        self._number = number
