"""Watching the rows that one bundle scores, next to nothing of it while somebody waits for an answer."""

import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import NamedTuple

import numpy as np

from signalyard_runtimes.bundle.manifest import Histogram
from signalyard_runtimes.drift.bins import Bins
from signalyard_runtimes.drift.stability import stability
from signalyard_runtimes.drift.window import Window
from signalyard_runtimes.features import Matrix, Vector

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
    """Where the features that are watched stand among the columns of a request."""

    def __init__(self, columns: tuple[str, ...], names: tuple[str, ...]) -> None:
        places = {name: place for place, name in enumerate(columns)}
        # Column -1 is a missing one.
        self._places = np.array([places.get(name, -1) for name in names], dtype=np.intp)
        self._same = columns == names
        self._padded = np.full(len(columns) + 1, np.nan)

    def put(self, row: Vector, target: Vector) -> None:
        """One row, in memory that is kept: not for two threads at once."""
        if self._same:
            target[:] = row
            return
        self._padded[:-1] = row
        # With any other mode numpy makes a copy first.
        np.take(self._padded, self._places, out=target, mode="wrap")

    def arrange(self, values: Matrix) -> Matrix:
        """Many rows."""
        return values if self._same else np.column_stack((values, np.full(len(values), np.nan)))[:, self._places]


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
        # Single rows wait here until there are enough of them to be counted together, or somebody asks.
        self._waiting = np.empty((self._bins.rows, len(self._names)))
        self._filled = 0
        self._lock = threading.Lock()
        self._last: tuple[tuple[str, ...], _Order] = self._names, _Order(self._names, self._names)
        self._orders: dict[tuple[str, ...], _Order] = {}

    def add(self, columns: tuple[str, ...], values: Matrix, row_error: Sequence[str]) -> None:
        """Count the rows that could be scored, those without a ``row_error``, of ``values`` [rows, len(columns)], NaN for missing.

        They are counted as they were given, before gaps are filled and steps applied: a fill would hide that a feed has gone.
        """
        known, order = self._last
        if columns is not known:
            order = self._find(columns)
        if len(values) > 1:
            self._add_many(values, order, row_error)
            return
        if row_error[0]:
            return
        with self._lock:
            order.put(values[0], self._waiting[self._filled])
            self._filled += 1
            if self._filled == len(self._waiting):
                self._count_waiting()

    def read(self) -> Drift:
        """How it stands now."""
        with self._lock:
            self._count_waiting()
            counts = self._window.counts(self._clock())
        rows = int(counts[0].sum())
        return Drift(self._names, stability(self._expected, counts) if rows else np.empty(0), rows)

    def clear(self) -> None:
        """Forget all rows, as those of a warm-up."""
        with self._lock:
            self._filled = 0
            self._window.clear()

    def _add_many(self, values: Matrix, order: _Order, row_error: Sequence[str]) -> None:
        if any(row_error):
            values = values[[not text for text in row_error]]
        # Counted before the lock is taken: a single row that comes meanwhile does not wait for thousands.
        counts = self._bins.count(order.arrange(values))
        with self._lock:
            self._window.add(counts, self._clock())

    def _count_waiting(self) -> None:
        if self._filled:
            self._window.add(self._bins.count(self._waiting[: self._filled]), self._clock())
            self._filled = 0

    def _find(self, columns: tuple[str, ...]) -> _Order:
        order = self._orders.get(columns)
        if order is None:
            order = _Order(columns, self._names)
            if len(self._orders) < _KNOWN_ORDERS:
                self._orders[columns] = order
        # With the caller's own tuple, since the next request most often brings the very same one.
        self._last = columns, order
        return order
