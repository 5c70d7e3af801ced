"""Histograms of the rows that a model was trained on, by quantiles: made once, when its bundle is packed."""

import math
import sys
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from signalyard.problems import Problem, error
from signalyard_runtimes.bundle.manifest import Histogram
from signalyard_runtimes.features import Matrix, Vector

BINS = 10
"""A tenth of the training rows each, where the feature takes many values: what the index's rules of thumb are for."""

_LEVELS = np.arange(1, BINS) / BINS
_BESIDE = 1e-12
"""How far above a feature's largest value its bin ends, relative to it, where that value has a bin of its own."""


def histograms(names: Sequence[str], matrix: Matrix) -> tuple[Histogram, ...]:
    """One for each of ``names``, of ``matrix`` [rows, len(names)], NaN for missing.

    Raises CallerError (invalid_snapshot) where there is no row.
    """
    if not len(matrix):
        raise error(Problem.INVALID_SNAPSHOT, "there must be at least one training row", "/rows")
    return tuple(_histogram(name, matrix[:, place]) for place, name in enumerate(names))


def _histogram(feature: str, column: Vector) -> Histogram:
    values = column[~np.isnan(column)]
    edges = _edges(values) if len(values) else ()
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return Histogram(feature=feature, edges=edges, counts=tuple(counts.tolist()), missing=len(column) - len(values))


def _edges(values: Vector) -> tuple[float, ...]:
    """The tenths of ``values``, none of them missing.

    A value that is more than one of the tenths has so many rows that it gets a bin of its own: else a flag that is nearly always 0
    could become 1 within one bin.
    """
    tenths, times = np.unique(np.quantile(values, _LEVELS, method="inverted_cdf"), return_counts=True)
    heavy = [float(value) for value in tenths[times > 1]]
    ends = [_end(value, values) for value in heavy]
    found = sorted({*map(float, tenths), *filter(math.isfinite, ends)})
    if len(found) > 1:
        # As short as they can be written while they stay apart, since a model may have ten thousand features.
        gap = min(after / 2 - before / 2 for before, after in pairwise(found))
        digits = max(0, 2 - math.floor(math.log10(max(gap, sys.float_info.min))))
        found = [value if value in heavy else round(value, digits) for value in found]
    return tuple(sorted(set(found)))


def _end(heavy: float, values: Vector) -> float:
    """The upper end of the bin of one value."""
    above = values[values > heavy]
    return (heavy + float(above.min())) / 2 if len(above) else heavy + (abs(heavy) or 1.0) * _BESIDE
