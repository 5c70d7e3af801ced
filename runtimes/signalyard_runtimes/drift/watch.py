"""Watching the rows that one bundle scores, next to nothing of it while somebody waits for an answer."""

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

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


class _Order(NamedTuple):
    """Where the features that are watched stand among ``columns``, -1 where one is left out; None where they are the columns."""

    columns: tuple[str, ...]
    places: npt.NDArray[np.intp] | None


class DriftWatch:
    """Counts rows by bin. Threads may share it."""

    def __init__(
        self,
        histograms: Mapping[str, Histogram],
        seconds: float = WINDOW_SECONDS,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``histograms`` of at least one feature; ``seconds`` is the window's length on ``clock``."""
        self._names = tuple(histograms)
        self._clock = clock
        self._bins = Bins(tuple(histograms.values()))
        self._expected = self._bins.of(tuple(histograms.values()))
        self._window = Window(self._bins.shape, seconds)
        # Single rows wait here until there are enough of them to be counted together, or somebody asks.
        self._waiting = np.empty((self._bins.rows, len(self._names)))
        self._filled = 0
        self._lock = threading.Lock()
        self._last = _Order(self._names, None)
        self._orders: dict[tuple[str, ...], _Order] = {}

    def add(self, columns: tuple[str, ...], values: Matrix, row_error: Sequence[str]) -> None:
        """Count the rows that could be scored, those without a ``row_error``, of ``values`` [rows, len(columns)], NaN for missing.

        They are counted as they were given, before gaps are filled and steps applied: a fill would hide that a feed has gone.
        """
        places = self._last.places if columns is self._last.columns else self._find(columns)
        if len(values) > 1:
            self._add_many(values, places, row_error)
            return
        if row_error[0]:
            return
        with self._lock:
            self._waiting[self._filled] = values[0] if places is None else _padded(values)[0, places]
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

    def _add_many(self, values: Matrix, places: npt.NDArray[np.intp] | None, row_error: Sequence[str]) -> None:
        if any(row_error):
            values = values[[not text for text in row_error]]
        # Counted before the lock is taken: a single row that comes meanwhile does not wait for thousands.
        counts = self._bins.count(values if places is None else _padded(values)[:, places])
        with self._lock:
            self._window.add(counts, self._clock())

    def _count_waiting(self) -> None:
        if self._filled:
            self._window.add(self._bins.count(self._waiting[: self._filled]), self._clock())
            self._filled = 0

    def _find(self, columns: tuple[str, ...]) -> npt.NDArray[np.intp] | None:
        order = self._orders.get(columns)
        if order is None:
            places = {name: place for place, name in enumerate(columns)}
            found = np.array([places.get(name, -1) for name in self._names], dtype=np.intp)
            order = _Order(columns, None if columns == self._names else found)
            if len(self._orders) < _KNOWN_ORDERS:
                self._orders[columns] = order
        # Of the caller's own tuple, since the next request most often brings the very same one.
        self._last = _Order(columns, order.places)
        return order.places


def _padded(values: Matrix) -> Matrix:
    """With a column of missing values behind the others, in the place of which -1 points."""
    return np.column_stack((values, np.full(len(values), np.nan)))
