"""What a follower of signals knows of each instrument, and what it makes of what it gets. Pure: times are passed in."""

from collections.abc import Collection
from enum import StrEnum

import msgspec

from signalyard.wire import Opinion, Signal, StateAnswer

Update = Signal | Opinion
"""What a subscription gives: a signal as it left, or, on connecting and after a gap, the opinion that signals missed had led to."""


class Verdict(StrEnum):
    """What a signal is to its follower."""

    NEXT = "next"
    """The one after the last, or the first of its instrument on its route."""
    AFTER_GAP = "after_gap"
    """New, and others before it never came."""
    REPEATED = "repeated"
    """It, or a newer one, was here before: signals are handed on at least once."""
    EXPIRED = "expired"
    """Nobody may act on it any more."""
    OTHERS = "others"
    """Of an instrument or a route that was not asked for."""


class Wanted(msgspec.Struct, frozen=True):
    """Which signals are asked for: those of some instruments, none for all; and those of one route, None for all."""

    symbols: frozenset[str] = frozenset()
    route: str | None = None

    def takes(self, symbol: str, route: str) -> bool:
        """Whether what concerns an instrument on a route is asked for."""
        return (not self.symbols or symbol in self.symbols) and self.route in (None, route)


def wanted(symbols: str | Collection[str], route: str | None) -> Wanted:
    """The same from what a caller says; one instrument may stand alone."""
    return Wanted(frozenset((symbols,) if isinstance(symbols, str) else symbols), route)


class Follower:
    """Follows the sequence of every instrument on every route, by ``epoch``, ``seq`` and ``prev_seq``."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._newest: dict[tuple[str, str], tuple[int, int]] = {}

    def heed(self, signal: Signal, now: int) -> Verdict:
        """A signal came; ``now`` is UTC nanoseconds. One that has expired counts as seen."""
        if not self._wanted.takes(signal.symbol, signal.route):
            return Verdict.OTHERS
        key = (signal.route, signal.symbol)
        epoch, seq = self._newest.get(key, (0, 0))
        if (signal.epoch, signal.seq) <= (epoch, seq):
            return Verdict.REPEATED
        # Of an instrument that was never heard of, what was before is for the first reconciliation to say.
        whole = not epoch or (signal.epoch == epoch and signal.prev_seq == seq) or signal.prev_seq == 0
        self._newest[key] = (signal.epoch, signal.seq)
        if signal.ts_expire <= now:
            return Verdict.EXPIRED
        return Verdict.NEXT if whole else Verdict.AFTER_GAP

    def reconcile(self, answer: StateAnswer) -> list[Opinion]:
        """The opinions that are newer than what came as signals, and live; from now on they count as seen."""
        news: list[Opinion] = []
        for opinion in answer.opinions:
            key = (opinion.route, opinion.symbol)
            here = (opinion.epoch, opinion.seq)
            if self._wanted.takes(opinion.symbol, opinion.route) and here > self._newest.get(key, (0, 0)):
                self._newest[key] = here
                if opinion.live:
                    news.append(opinion)
        return news
