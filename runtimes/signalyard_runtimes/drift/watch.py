"""Watching the rows that one bundle scores, next to nothing of it while somebody waits for an answer."""

import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain
from time import monotonic
from typing import NamedTuple

import numpy as np

from signalyard_runtimes.bundle.manifest import Histogram
from signalyard_runtimes.drift.bins import Bins
from signalyard_runtimes.drift.stability import stability
from signalyard_runtimes.drift.window import Window
from signalyard_runtimes.features import Matrix, Vector, in_order

WINDOW_SECONDS = 3600.0
"""Long enough for some thousand rows of a strategy that acts by the second, short enough to see a feed go wrong within the session."""

_KNOWN_ORDERS = 64


class Drift(NamedTuple):
    """How far the features have moved: ``stability`` [features] of each of ``names``, empty while no row is in the window."""

    names: tuple[str, ...]
    stability: Vector
    rows: int
    """In the window."""


class _Order:
    """Where the features that are watched stand among the columns of a request, and single rows of these columns that wait.

    They wait until there are ``most`` of them, or somebody asks: a row alone costs as much to count as a hundred.
    """

    def __init__(self, columns: tuple[str, ...], names: tuple[str, ...], most: int) -> None:
        places = {name: place for place, name in enumerate(columns)}
        order = np.array([places.get(name, -1) for name in names], dtype=np.intp)
        self._order = None if columns == names else order
        self.most = most
        self.waiting: deque[Sequence[float | None] | Vector] = deque()

    def arrange(self, values: Matrix) -> Matrix:
        """Rows of the columns, as rows of the features."""
        return in_order(values, self._order)


class DriftWatch:
    """Counts rows by bin. Threads may share it."""

    def __init__(
        self,
        histograms: Sequence[Histogram],
        seconds: float = WINDOW_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``histograms`` of at least one feature; ``seconds`` is the window's length on ``clock``."""
        self._names = tuple(histogram.feature for histogram in histograms)
        self._clock = clock
        self._bins = Bins(histograms)
        self._expected = self._bins.of(histograms)
        self._window = Window(self._bins.shape, seconds)
        self._lock = threading.Lock()
        order = _Order(self._names, self._names, self._bins.rows)
        self._orders = {self._names: order}
        self._last: tuple[tuple[str, ...], _Order] = self._names, order

    def add(self, columns: tuple[str, ...], values: Matrix, row_error: Sequence[str]) -> None:
        """Count the rows that could be scored, those without a ``row_error``, of ``values`` [rows, len(columns)], NaN for missing.

        They are counted as they were given, before gaps are filled and steps applied: a fill would hide that a feed has gone.
        """
        if len(values) == 1:
            self.add_row(columns, values[0], row_error[0])
            return
        known, order = self._last
        if columns is not known:
            order = self._find(columns)
        self._count(order, values[[not text for text in row_error]] if any(row_error) else values)

    def add_row(self, columns: tuple[str, ...], row: Sequence[float | None] | Vector, row_error: str) -> None:
        """The same for one row, None or NaN for missing. It is kept, not copied: nobody writes to it once it is scored."""
        if row_error:
            return
        known, order = self._last
        if columns is not known:
            order = self._find(columns)
        order.waiting.append(row)
        if len(order.waiting) >= order.most:
            self._count_waiting(order)

    def read(self) -> Drift:
        """How it stands now."""
        for order in tuple(self._orders.values()):
            self._count_waiting(order)
        with self._lock:
            counts = self._window.counts(self._clock())
        rows = int(counts[0].sum())
        return Drift(self._names, stability(self._expected, counts) if rows else np.empty(0), rows)

    def clear(self) -> None:
        """Forget all rows, as those of a warm-up."""
        with self._lock:
            for order in tuple(self._orders.values()):
                order.waiting.clear()
            self._window.clear()

    def _count_waiting(self, order: _Order) -> None:
        with self._lock:  # who else takes some away; to put one there needs none
            rows = [order.waiting.popleft() for _ in range(len(order.waiting))]
        if rows:
            self._count(order, _matrix(rows))

    def _count(self, order: _Order, values: Matrix) -> None:
        # Before the lock is taken: a single row that comes meanwhile does not wait for thousands.
        counts = self._bins.count(order.arrange(values))
        with self._lock:
            self._window.add(counts, self._clock())

    def _find(self, columns: tuple[str, ...]) -> _Order:
        order = self._orders.get(columns)
        if order is None and len(self._orders) < _KNOWN_ORDERS:
            order = self._orders.setdefault(columns, _Order(columns, self._names, self._bins.rows))
        if order is None:
            return _Order(columns, self._names, most=1)
        # With the caller's own tuple, since the next request most often brings the very same one.
        self._last = columns, order
        return order


def _matrix(rows: Sequence[Sequence[float | None] | Vector]) -> Matrix:
    """Rows of one width as [rows, width]."""
    values = np.empty((len(rows), len(rows[0])))
    try:
        # A tenth of the time in which numpy reads lists.
        struct.pack_into(f"{values.size}d", values.data, 0, *chain.from_iterable(rows))
    except struct.error:  # some are missing
        values[:] = np.array(rows, dtype=np.float64)
    return values
