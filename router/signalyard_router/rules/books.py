"""What the gate remembers of an instrument on a route: its place in the order, its last signal, what the model last said."""

import msgspec

from signalyard.wire import Decision, Opinion
from signalyard.words import Direction

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
