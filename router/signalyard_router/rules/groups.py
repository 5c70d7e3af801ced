"""Groups: routes on the same instruments whose signals must not repeat or contradict each other.

One principle stands above the rules, so that no desk is left with a position that nobody stands behind: what a route has open, it
may close. An exit is never held back by the rest of its group, and a change of side only by a member that says the side which is open.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from signalyard.problems import Problem, SignalyardError, error
from signalyard.words import Direction
from signalyard_router.rules.books import Emission, Instrument, book, route_of
from signalyard_router.rules.documents import GroupDocument, parse_group, revision
from signalyard_router.rules.record import GroupRecord, RouteRecord
from signalyard_router.rules.route import limit
from signalyard_router.rules.units import MAX_FLIPS_COUNT, MAX_RATE_COUNT, Rate, nanoseconds

Conflict = Literal["priority", "agree", "independent"]

Look = Callable[[str], Instrument | None]
"""What is remembered, in a book, of the instrument in question."""


class Group(msgspec.Struct, frozen=True):
    """A group as its document says. Durations are nanoseconds; ``routes`` are names, the first has the highest priority."""

    name: str
    revision: str
    namespace: str
    routes: tuple[str, ...]
    conflict: Conflict
    freshness: int
    window: int
    signals: Rate | None
    flips: Rate | None


class Member(msgspec.Struct, frozen=True):
    """A route in its group, in the mode that it is in.

    ``book`` is the group's own. ``others`` are the books of the other members that are in force in this mode, in order of priority;
    the first ``above`` of them have a higher one than the route.
    """

    group: Group
    book: str
    others: tuple[str, ...]
    above: int


class Sides(msgspec.Struct, frozen=True, gc=False):
    """The sides of one instrument in a group: the last one that a member signalled, the times of recent changes, and whether they
    were too many."""

    side: Direction | None = None
    flips: tuple[int, ...] = ()
    latched: bool = False


class GroupStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A group as it stands, for people. ``missing`` are the routes that it names and that are not in force."""

    group: str
    revision: str
    conflict: Conflict
    routes: tuple[str, ...]
    missing: tuple[str, ...]


def compile_group(document: GroupDocument, place: str = "") -> Group:
    """Check a document as a whole. Raises CallerError (invalid_document) with a pointer to the field."""
    spec = document.spec
    where = f"{place}: " if place else ""

    def refuse(text: str, pointer: str) -> SignalyardError:
        return error(Problem.INVALID_DOCUMENT, f"{where}{text}", pointer)

    for index, name in enumerate(spec.routes):
        if name in spec.routes[:index]:
            raise refuse(f"the route {name!r} is named twice: name each once", f"/spec/routes/{index}")
    if nanoseconds(spec.freshness) <= 0:
        raise refuse("must be more than zero", "/spec/freshness")
    return Group(
        name=document.metadata.name,
        revision=revision(document),
        namespace=document.metadata.namespace,
        routes=spec.routes,
        conflict=spec.conflict,
        freshness=nanoseconds(spec.freshness),
        window=nanoseconds(spec.dedupe.window),
        signals=limit(spec.limits.signals, MAX_RATE_COUNT, "signals", refuse),
        flips=limit(spec.limits.flips, MAX_FLIPS_COUNT, "flips", refuse),
    )


def refuse_shared_routes(documents: Iterable[tuple[GroupDocument, str]]) -> None:
    """Raise CallerError (invalid_document) where a route is in two groups; each document comes with its place."""
    groups: dict[tuple[str, str], str] = {}
    for document, place in documents:
        for index, name in enumerate(document.spec.routes):
            route = (document.metadata.namespace, name)
            if route in groups:
                raise error(
                    Problem.INVALID_DOCUMENT,
                    f"{place}: the route {name!r} is in the group {groups[route]!r} already; a route is in one group at most",
                    f"/spec/routes/{index}",
                )
            groups[route] = document.metadata.name


def group_of(record: GroupRecord) -> Group | None:
    """The group by its record; None where it was taken away."""
    if record.document is None:
        return None
    return compile_group(parse_group(record.document, f"the journal's record {record.seq}"))


def group_book(name: str, paper: bool) -> str:
    """The name of what the gate keeps of a group; no route's has this sign."""
    return book(f"@{name}", paper)


def is_group_book(kept: str) -> bool:
    """Whether a book is a group's."""
    return kept.startswith("@")


def members(groups: Mapping[str, Group], routes: Mapping[str, RouteRecord]) -> dict[str, Member]:
    """The members that are in force, each by its book. A route that is named and not in force is left out, until it comes.

    A route of another namespace than its group's is no member: who writes documents there has no say here.
    """
    found: dict[str, Member] = {}
    for _, group in sorted(groups.items()):
        by_mode: dict[bool, list[str]] = {False: [], True: []}
        for name in group.routes:
            record = routes.get(name)
            if record is not None and record.document is not None and record.namespace == group.namespace:
                by_mode[record.paper].append(book(name, record.paper))
        for paper, kept in by_mode.items():
            for above, mine in enumerate(kept):
                others = (*kept[:above], *kept[above + 1 :])
                found.setdefault(mine, Member(group, group_book(group.name, paper), others, above))
    return found


def missing(group: Group, found: Mapping[str, Member]) -> tuple[str, ...]:
    """The routes that a group names and that are not in force as its members."""
    there = {route_of(kept) for kept, member in found.items() if member.group.name == group.name}
    return tuple(name for name in group.routes if name not in there)


def repeats(
    member: Member, direction: Direction, last: Emission | None, exits: bool, look: Look, now: int
) -> str | None:
    """The signal of another member that one of ``direction`` would repeat within the shared window, the newest; or None.

    ``last`` is the route's own last signal, ``exits``: the new one reduces what that left open. A change of side, or an exit, repeats nobody:
    else what is open on this route would stay open because another one closed its own.
    """
    if exits or (last is not None and last.direction not in (direction, Direction.FLAT)):
        return None
    newest: Emission | None = None
    for other in member.others:
        state = look(other)
        said = state.emission if state is not None else None
        if said is None or said.direction is not direction or now >= said.at + member.group.window:
            continue
        if newest is None or said.at > newest.at:
            newest = said
    return newest.signal_id if newest is not None else None


def contradicted(
    member: Member, direction: Direction, last: Emission | None, exits: bool, look: Look, now: int
) -> str | None:
    """The route that a signal of ``direction`` loses against, or None. The arguments are those of `repeats`."""
    if exits or member.group.conflict == "independent":
        return None
    if member.group.conflict == "priority":
        return _outranked(member, direction, look)
    return _disagreed(member, direction, last, look, now)


def _outranked(member: Member, direction: Direction, look: Look) -> str | None:
    """The member of higher priority whose last signal is open and says something else.

    A flat of a route that has nothing open closes nothing of its own: to the desk it would close the other's position.
    """
    for other in member.others[: member.above]:
        state = look(other)
        said = state.emission if state is not None else None
        if said is not None and said.direction not in (direction, Direction.FLAT):
            return route_of(other)
    return None


def _disagreed(member: Member, direction: Direction, last: Emission | None, look: Look, now: int) -> str | None:
    """The member whose model says something else, or could not be asked.

    A flat opens nothing, and who withdraws has ended the agreement. A change of side is held back only by who says the side that is open.
    """
    if direction is Direction.FLAT:
        return None
    open_side = last.direction if last is not None and last.direction not in (direction, Direction.FLAT) else None
    for other in member.others:
        state = look(other)
        if state is None:
            continue
        fresh = max(0, now - member.group.freshness)  # 0 is never
        word = state.held if state.said > fresh else None
        silent = state.unanswered > fresh
        if (not silent and word is open_side) if open_side is not None else (silent or word not in (None, direction)):
            return route_of(other)
    return None
