"""What the gate remembers of an instrument on a route: its place in the order, its last signal, what the model last said."""

import msgspec

from signalyard.wire import Decision, Opinion
from signalyard.words import FLAT, Direction, Reason
from signalyard_router.rules.record import SIGNALS, DecisionRecord
from signalyard_router.rules.units import MAX_FLIPS_COUNT

Key = tuple[str, str]
"""Book and instrument."""


def book(route: str, paper: bool) -> str:
    """The name of what the gate keeps of a route: paper signals have windows, limits and sequences of their own.

    In one book with the live ones, a paper signal would hold the live signal back that repeats it, and the desk would never
    see it.
    """
    return f"{route}/paper" if paper else route  # no route's name has a slash


def route_of(kept: str) -> str:
    """The route of a book."""
    return kept.removesuffix("/paper")


class Emission(msgspec.Struct, frozen=True, gc=False):
    """The last signal of an instrument on a route. ``side`` is its last direction that was not flat, ``assigned`` the version
    that was to decide then."""

    direction: Direction
    side: Direction | None
    position: float | None
    signal_id: str
    at: int
    seq: int
    epoch: int
    assigned: str = ""


class Instrument(msgspec.Struct, frozen=True, gc=False):
    """What the gate remembers of one instrument on one route.

    ``newest`` is (ts_event, sequence) of the newest committed proposal, ``settled`` the decisions made at exactly that place,
    which are remembered for as long as nothing newer comes. ``flips`` holds the times of recent changes of side; ``latched``
    is set when they were too many. ``held`` is what the mapping last said, at the journal's time ``said``; ``unanswered`` is when a
    snapshot got no answer since, 0 where the newest one got one.
    """

    newest: tuple[int, int]
    settled: tuple[Decision, ...] = ()
    held: Direction | None = None
    emission: Emission | None = None
    opinion: Opinion | None = None
    flips: tuple[int, ...] = ()
    latched: bool = False
    said: int = 0
    unanswered: int = 0


NEVER = Instrument(newest=(0, 0))
"""Of an instrument that there was no record of."""

_FLIP_LATCHED = Reason.FLIP_LATCHED

_MAPPED = (Reason.NO_ANSWER, Reason.ROW_ERROR, Reason.VERSION_DRIFT)
"""Abstentions that no mapping made; they leave hysteresis as it is."""


def is_exit(direction: Direction, position: float | None, last: Emission | None) -> bool:
    """Flat, or a smaller position of the same sign."""
    if direction is FLAT:
        return True
    return (
        last is not None
        and last.direction is direction
        and position is not None
        and last.position is not None
        and abs(position) < abs(last.position)
    )


def turns(direction: Direction, last: Emission | None) -> bool:
    """A change of side: long after short or short after long, whether or not a flat came between."""
    return last is not None and changes(direction, last.side)


def changes(direction: Direction, side: Direction | None) -> bool:
    """Whether a direction is another side than the one that was last taken; flat is none."""
    return direction is not FLAT and side is not None and side is not direction


def next_instrument(before: Instrument | None, record: DecisionRecord, decision: Decision) -> Instrument:
    """What is remembered of an instrument once a record that took a place is folded in; ``decision`` is the record's."""
    place = (record.ts_event, record.sequence)
    state = before or Instrument(newest=place)
    settled = (*state.settled, decision) if state.newest == place else (decision,)
    mapped = record.reason not in _MAPPED and not record.reduce_only
    held = record.direction if mapped else state.held
    latched = state.latched or (record.reason is _FLIP_LATCHED and not record.group)
    emission, opinion, flips = state.emission, state.opinion, state.flips
    if record.outcome in SIGNALS and record.direction is not None and record.signal_id is not None:
        if turns(record.direction, emission):
            flips = (*flips[1 - MAX_FLIPS_COUNT :], record.t)
        flat = record.direction is FLAT
        emission = Emission(
            record.direction,
            (emission.side if emission else None) if flat else record.direction,
            record.position,
            record.signal_id,
            record.t,
            record.signal_seq,
            record.epoch,
            record.assigned,
        )
        opinion = Opinion(
            record.symbol,
            record.route,
            record.direction,
            record.signal_id,
            record.epoch,
            record.signal_seq,
            record.ts_event,
            record.t,
            record.ts_expire,
            True,
            record.score,
            record.confidence,
            record.position,
            record.paper,
        )
    said, unanswered = (record.t, 0) if mapped else (state.said, record.t)
    return Instrument(place, settled, held, emission, opinion, flips, latched, said, unanswered)
