"""Rows by bin, many features at once."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from signalyard_runtimes.bundle.manifest import Histogram
from signalyard_runtimes.features import Matrix

Counts = npt.NDArray[np.int64]
"""[features, bins]: the bins of a feature by its edges, some that stay empty where another feature has more, and last the missing values."""

_VALUES_AT_ONCE = 8192
"""So many values are counted in some tenth of a millisecond, and stay in the processor's cache."""

_MOST_ROWS = 256


class Bins:
    """The bins of some features."""

    def __init__(self, histograms: Sequence[Histogram]) -> None:
        features, most = len(histograms), max(len(histogram.edges) for histogram in histograms)
        # No value that is scored is infinite, so none reaches an edge that a feature does not have.
        self._edges = np.full((most, features), np.inf)
        for place, histogram in enumerate(histograms):
            self._edges[: len(histogram.edges), place] = histogram.edges
        self.shape = (features, most + 2)
        """Of `Counts`."""
        self.rows = max(1, min(_MOST_ROWS, _VALUES_AT_ONCE // features))
        """How many rows are best counted at once."""
        self._starts = np.arange(features, dtype=np.int64) * (most + 2)

    def of(self, histograms: Sequence[Histogram]) -> Counts:
        """The counts that stand in the histograms themselves."""
        counts = np.zeros(self.shape, dtype=np.int64)
        for place, histogram in enumerate(histograms):
            counts[place, : len(histogram.counts)] = histogram.counts
            counts[place, -1] = histogram.missing
        return counts

    def count(self, matrix: Matrix) -> Counts:
        """Of ``matrix`` [rows, features], NaN for missing."""
        counts = np.zeros(self.shape, dtype=np.int64)
        for begin in range(0, len(matrix), self.rows):
            counts += self._count(matrix[begin : begin + self.rows])
        return counts

    def _count(self, matrix: Matrix) -> Counts:
        place = np.zeros(matrix.shape, dtype=np.uint8)
        reached = np.empty(matrix.shape, dtype=np.bool_)
        # Edge by edge, not feature by feature: there may be ten thousand features, and there are some ten edges.
        for edges in self._edges:
            np.greater_equal(matrix, edges, out=reached)
            place += reached.view(np.uint8)
        place[np.isnan(matrix, out=reached)] = self.shape[1] - 1
        size = self.shape[0] * self.shape[1]
        return np.bincount((place + self._starts).ravel(), minlength=size).reshape(self.shape)
