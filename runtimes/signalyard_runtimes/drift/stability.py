"""The population stability index (PSI): how far what comes has moved from what was expected."""

import numpy as np

from signalyard_runtimes.drift.bins import Counts
from signalyard_runtimes.features import Vector

LEAST_SHARE = 1e-4
"""The share that an empty bin counts as. With none its logarithm would be infinite, however few rows have come."""


def stability(expected: Counts, actual: Counts) -> Vector:
    """The index of each feature, from counts [features, bins] of at least one row each.

    PSI = sum over the bins of (a - e) * ln(a / e), where e and a are the expected and the actual share of the bin, each no less than
    `LEAST_SHARE`. It is 0 where the shares are the same, else above, and the same with both exchanged: the divergence of Jeffreys (1946),
    known from credit scoring (Siddiqi, Credit Risk Scorecards, 2006), whose rule of thumb is: below 0.1 nothing has changed, above 0.25
    much has. Of rows that have not drifted it is still (bins - 1) * (1 / expected rows + 1 / actual rows) in the mean (Yurdakul,
    Statistical Properties of Population Stability Index, 2018), so that of few rows it says little.
    """
    before, now = _shares(expected), _shares(actual)
    index: Vector = ((now - before) * np.log(now / before)).sum(axis=1)
    return index


def _shares(counts: Counts) -> Vector:
    shares: Vector = np.maximum(counts / counts.sum(axis=1, keepdims=True), LEAST_SHARE)
    return shares
