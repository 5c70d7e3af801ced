"""Volume bars: a bar closes with the trade that completes its number of contracts.

Volume rather than time, because half of the file's hours are a quiet night and a holiday; volume rather than dollars,
because the price moves by one per cent in it and the two would be the same.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from signalyard_demo.data import Ticks

SIZES = (100, 120, 140, 160, 180, 200, 220, 240, 260, 280)
"""Contracts a bar, one derived instrument each: the file holds one contract, and a split by instrument needs several keys."""


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars of one derived instrument, all arrays of one entry a bar.

    ``first`` and ``last`` are the indices of a bar's first and last trade. ``bought`` is the volume that the tick rule counts
    as bought, ``side`` the tick rule's sign of the bar's last trade.
    """

    instrument: str
    size: int
    first: NDArray[np.int64]
    last: NDArray[np.int64]
    ts_open: NDArray[np.int64]
    ts_close: NDArray[np.int64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    vwap: NDArray[np.float64]
    volume: NDArray[np.int64]
    bought: NDArray[np.int64]
    side: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.last)


def instrument_name(ticks: Ticks, size: int) -> str:
    """``ES-vol200.CME``: not a listed contract but a series derived from one, and its name says how."""
    return f"{ticks.root}-vol{size}.{ticks.venue}"


def tick_rule(price: NDArray[np.float64]) -> NDArray[np.float64]:
    """+1 where the price rose, -1 where it fell, else the sign before; +1 until it first moves.

    Lee and Ready, "Inferring trade direction from intraday data", Journal of Finance 46 (1991).
    """
    change = np.sign(np.diff(price, prepend=price[:1]))
    moved = np.where(change != 0.0, np.arange(len(price)), 0)
    sign = change[np.maximum.accumulate(moved)]
    return np.where(sign == 0.0, 1.0, sign)


def volume_bars(ticks: Ticks, size: int) -> Bars:
    """Cut the trades wherever the running volume passes a multiple of ``size``.

    No trade is split, so a large one may fill several multiples at once and closes one bar only. What comes after the last
    full multiple is left out: that bar has not closed. Whether a bar has closed depends on the past alone.
    """
    running = np.cumsum(ticks.volume)
    multiple = running // size
    closes = np.flatnonzero(np.diff(multiple, prepend=0) > 0)
    if len(closes) == 0:
        raise ValueError(f"{int(running[-1])} contracts do not fill one bar of {size}")
    first = np.concatenate(([0], closes[:-1] + 1))
    end = int(closes[-1]) + 1
    price, volume = ticks.price[:end], ticks.volume[:end]
    sign = tick_rule(price)
    total = np.add.reduceat(volume, first)
    return Bars(
        instrument=instrument_name(ticks, size),
        size=size,
        first=first,
        last=closes,
        ts_open=ticks.ts[first],
        ts_close=ticks.ts[closes],
        high=np.maximum.reduceat(price, first),
        low=np.minimum.reduceat(price, first),
        close=price[closes],
        vwap=np.add.reduceat(price * volume, first) / total,
        volume=total,
        bought=np.add.reduceat(np.where(sign > 0.0, volume, 0), first),
        side=sign[closes],
    )
