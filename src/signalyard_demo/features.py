"""The features of a bar, from that bar and the ones before it, and the label, from the ones after it.

A window that is not yet full gives NaN, "missing", and never a shorter window's value. The time of day is left out: the
trades cover less than three days, and trees learn the hours by heart.
"""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from signalyard.profile import Feature
from signalyard_demo.bars import Bars

HORIZON = 2
"""Bars ahead that the label looks. So near, much of what can be foreseen is the bounce between bid and ask, which nobody can
earn at the prices that were paid: the models are good enough to show how signals are served, and claim no profit."""

_BASIS_POINT = 1e-4
_RETURNS = (1, 2, 3, 5, 10, 20)
_VOLATILITIES = (10, 20, 50)
_IMBALANCES = (1, 3, 5, 10, 20)
_AVERAGES = (5, 10, 20, 50)

FEATURES: tuple[Feature, ...] = (
    *(Feature(name=f"ret_{n}") for n in _RETURNS),
    *(Feature(name=f"vol_{n}", minimum=0.0) for n in _VOLATILITIES),
    Feature(name="zret_5"),
    Feature(name="zret_20"),
    *(Feature(name=f"imbalance_{n}", minimum=-1.0, maximum=1.0) for n in _IMBALANCES),
    *(Feature(name=f"average_{n}") for n in _AVERAGES),
    Feature(name="vwap_20"),
    Feature(name="range_1", minimum=0.0),
    Feature(name="range_20", minimum=0.0),
    Feature(name="place_1", minimum=0.0, maximum=1.0),
    Feature(name="place_20", minimum=0.0, maximum=1.0),
    Feature(name="last_side", minimum=-1.0, maximum=1.0),
    Feature(name="log_seconds"),
    Feature(name="pace_20"),
)
"""Names, order and the ranges that hold by construction. ``ret``, ``vol``, ``average``, ``vwap`` and ``range`` are in basis
points; ``place`` is where the close lies between low (0) and high (1); ``pace`` compares the bar's duration with the last 20."""

NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)

Column = NDArray[np.float64]


def feature_matrix(bars: Bars) -> NDArray[np.float64]:
    """One row a bar, one column a feature, in the order of ``FEATURES``: float64 [bars, features]."""
    log: Column = np.log(bars.close) / _BASIS_POINT
    ret = {n: _change(log, n) for n in _RETURNS}
    vol = {n: _window(ret[1], n, np.std) for n in _VOLATILITIES}
    signed = 2.0 * bars.bought.astype(np.float64) - bars.volume
    high, low = _window(bars.high, 20, np.max), _window(bars.low, 20, np.min)
    seconds = (bars.ts_close - bars.ts_open) / 1e9 + 1e-3
    columns: dict[str, Column] = {}
    for n in _RETURNS:
        columns[f"ret_{n}"] = ret[n]
    for n in _VOLATILITIES:
        columns[f"vol_{n}"] = vol[n]
    columns["zret_5"] = ret[5] / (vol[20] * np.sqrt(5.0) + 0.1)
    columns["zret_20"] = ret[20] / (vol[20] * np.sqrt(20.0) + 0.1)
    for n in _IMBALANCES:
        columns[f"imbalance_{n}"] = _window(signed, n, np.sum) / _window(bars.volume.astype(np.float64), n, np.sum)
    for n in _AVERAGES:
        columns[f"average_{n}"] = log - _window(log, n, np.mean)
    columns["vwap_20"] = (bars.close / _window(bars.vwap, 20, np.mean) - 1.0) / _BASIS_POINT
    columns["range_1"] = (bars.high - bars.low) / bars.close / _BASIS_POINT
    columns["range_20"] = (high - low) / bars.close / _BASIS_POINT
    columns["place_1"] = _place(bars.close, bars.low, bars.high)
    columns["place_20"] = _place(bars.close, low, high)
    columns["last_side"] = bars.side
    columns["log_seconds"] = np.log(seconds)
    columns["pace_20"] = np.log(seconds) - np.log(_window(seconds, 20, np.mean))
    return np.column_stack([columns[name] for name in NAMES])


def labels(bars: Bars, horizon: int = HORIZON) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Whether the close ``horizon`` bars on is higher (1) or lower (0), and the time at which that is known.

    NaN where the two closes are equal, or where the bars end first; there the time is the greatest int64.
    """
    label = np.full(len(bars), np.nan)
    known = np.full(len(bars), np.iinfo(np.int64).max, dtype=np.int64)
    if len(bars) > horizon:
        move = np.sign(bars.close[horizon:] - bars.close[:-horizon])
        label[:-horizon] = np.where(move == 0.0, np.nan, (move + 1.0) / 2.0)
        known[:-horizon] = bars.ts_close[horizon:]
    return label, known


def _change(values: Column, lag: int) -> Column:
    out = np.full(len(values), np.nan)
    out[lag:] = values[lag:] - values[:-lag]
    return out


def _window(values: Column, width: int, statistic: Callable[..., Column]) -> Column:
    out = np.full(len(values), np.nan)
    if len(values) >= width:
        out[width - 1 :] = statistic(sliding_window_view(values, width), axis=1)
    return out


def _place(close: Column, low: Column, high: Column) -> Column:
    span = high - low
    with np.errstate(invalid="ignore", divide="ignore"):
        place = (close - low) / span
    return np.where(span == 0.0, 0.5, place)
