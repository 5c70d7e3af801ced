"""Observations and live decisions of the same snapshot, whichever comes first."""

from collections import deque

import msgspec

from signalyard.words import Direction
from signalyard_router.rules.compare import Live
from signalyard_router.rules.units import SECOND

WAIT = 60 * SECOND
"""How long either side waits for the other, journal time."""
CAPACITY = 65_536
"""Decisions, and as many observations, that wait at once on a route; the oldest give way."""

Place = tuple[str, int]
"""Instrument and event time."""


class Match(msgspec.Struct, frozen=True):
    """Both sides of a snapshot."""

    source: str
    live: Live
    direction: Direction | None


class Lapsed(msgspec.Struct, frozen=True):
    """One side waited, and the other did not come. ``observed``: it was the observation that waited."""

    source: str
    observed: bool


class _Decided(msgspec.Struct):
    live: Live
    at: int
    sources: set[str]


class _Seen(msgspec.Struct, frozen=True):
    source: str
    direction: Direction | None
    at: int


class Pairing:
    """One route's. ``now`` is the journal's time and does not step back.

    A source begins with its first observation; a decision made before that is not missed by it, but may still be matched.
    """

    def __init__(self) -> None:
        self.sources: dict[str, int] = {}
        self._decided: dict[Place, _Decided] = {}
        self._decided_order: deque[tuple[int, Place]] = deque()
        self._seen: dict[tuple[Place, str], _Seen] = {}
        self._seen_order: deque[tuple[int, tuple[Place, str]]] = deque()

    def waiting(self, source: str) -> int:
        """A source's observations that wait."""
        return sum(seen.source == source for seen in self._seen.values())

    def begin(self, source: str, now: int) -> None:
        """Expect observations of a source from now on."""
        self.sources.setdefault(source, now)

    def decided(self, live: Live, now: int) -> list[Match]:
        """A live decision. Of several on one instrument and event time, the first that can be compared counts."""
        place = (live.symbol, live.ts_event)
        decided = self._decided.get(place)
        if decided is not None:
            if decided.live.excluded is not None and not decided.sources:
                decided.live = live
            return []
        decided = self._decided[place] = _Decided(live, now, set())
        self._decided_order.append((now, place))
        matches: list[Match] = []
        for source in self.sources:
            seen = self._seen.pop((place, source), None)
            if seen is not None:
                decided.sources.add(source)
                matches.append(Match(source, live, seen.direction))
        return matches

    def known(self, source: str, symbol: str, ts_event: int) -> bool:
        """Whether a source has observed this snapshot already, as far back as is remembered."""
        place = (symbol, ts_event)
        decided = self._decided.get(place)
        return (decided is not None and source in decided.sources) or (place, source) in self._seen

    def observed(self, source: str, symbol: str, ts_event: int, direction: Direction | None, now: int) -> Match | None:
        """An observation that is not known yet. The answer is its match, or None: it waits."""
        place = (symbol, ts_event)
        decided = self._decided.get(place)
        if decided is not None:
            decided.sources.add(source)
            return Match(source, decided.live, direction)
        self._seen[place, source] = _Seen(source, direction, now)
        self._seen_order.append((now, (place, source)))
        return None

    def lapse(self, now: int) -> list[Lapsed]:
        """Give up on what has waited too long, or is too much."""
        lapsed: list[Lapsed] = []
        seen_order, decided_order = self._seen_order, self._decided_order
        while seen_order and (seen_order[0][0] <= now - WAIT or len(seen_order) > CAPACITY):
            at, key = seen_order.popleft()
            seen = self._seen.get(key)
            if seen is not None and seen.at == at:
                del self._seen[key]
                lapsed.append(Lapsed(seen.source, observed=True))
        while decided_order and (decided_order[0][0] <= now - WAIT or len(decided_order) > CAPACITY):
            at, place = decided_order.popleft()
            decided = self._decided.pop(place)
            lapsed += [
                Lapsed(source, observed=False)
                for source, since in self.sources.items()
                if since < at and source not in decided.sources
            ]
        return lapsed
