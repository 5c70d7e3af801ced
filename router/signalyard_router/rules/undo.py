"""What it takes to take a record out of the gate again."""

from collections import deque

import msgspec

from signalyard_router.rules.books import Instrument, Key
from signalyard_router.rules.groups import Sides
from signalyard_router.rules.levers import Lever
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.record import GroupRecord, RouteRecord


class DecisionUndo(msgspec.Struct, frozen=True, gc=False):
    """A decision. ``before`` is `NEVER` where the instrument was new, None where the decision took no place."""

    key: Key
    before: Instrument | None
    proposal_id: str
    signal: bool
    flat: bool
    throttled: str = ""
    group: str = ""
    sides: tuple[Key, Sides | None] | None = None


class LeverUndo(msgspec.Struct, frozen=True):
    """A lever that was pulled or let go, with what it changed beside the levers."""

    levers: tuple[Lever, ...]
    throttled: frozenset[str]
    instrument: tuple[Key, Instrument] | None
    plan: tuple[str, Progress] | None = None
    sides: tuple[Key, Sides] | None = None


class GroupUndo(msgspec.Struct, frozen=True):
    """A group's document."""

    name: str
    before: GroupRecord | None


class PlanUndo(msgspec.Struct, frozen=True):
    """A plan's step."""

    route: str
    before: Progress | None


class BookUndo(msgspec.Struct, frozen=True):
    """A book before its route came to another mode."""

    instruments: dict[Key, Instrument]
    signals: deque[int] | None
    flats: deque[int] | None
    throttled: frozenset[str]


class RouteUndo(msgspec.Struct, frozen=True):
    """A route's document, and its book where the mode changed."""

    name: str
    before: RouteRecord | None
    mode: BookUndo | None = None
