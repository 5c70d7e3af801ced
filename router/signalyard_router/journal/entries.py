"""What a journal takes in beside proposals: documents, levers, steps of plans, calls that were passed through."""

from collections.abc import Mapping, Sequence

import msgspec

from signalyard_router.rules.documents import Document, GroupDocument, canonical
from signalyard_router.rules.gate import Gate
from signalyard_router.rules.groups import compile_group, refuse_shared_routes
from signalyard_router.rules.inference import Call
from signalyard_router.rules.levers import Order
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.record import (
    VERSION,
    GroupRecord,
    LeverRecord,
    PlanRecord,
    Record,
    RouteRecord,
    call_record,
)


class RouteEntry(msgspec.Struct, frozen=True):
    """A document to be taken into force, or a route to be taken away."""

    name: str
    revision: str
    place: str
    document: bytes | None


class GroupEntry(msgspec.Struct, frozen=True):
    """A group's document to be taken into force, or a group to be taken away."""

    name: str
    revision: str
    place: str
    document: bytes | None


class LeverEntry(msgspec.Struct, frozen=True):
    """A lever to be pulled; ``base`` is what the document said then."""

    order: Order
    base: str


class PlanEntry(msgspec.Struct, frozen=True):
    """A step that somebody decided on when the plan stood at ``before``, and the lever of this id was the route's newest by hand."""

    route: str
    progress: Progress
    evidence: dict[str, float]
    before: Progress | None
    by_hand: str | None


Entry = RouteEntry | GroupEntry | LeverEntry | PlanEntry | Call


def group_entries(documents: Sequence[tuple[Document, str]], known: Mapping[str, GroupRecord]) -> list[Entry]:
    """What takes the groups among all documents into force, and the others away. Raises CallerError (invalid_document)."""
    groups = [(document, place) for document, place in documents if isinstance(document, GroupDocument)]
    refuse_shared_routes(groups)
    compiled = [(compile_group(document, place), document, place) for document, place in groups]
    entries: list[Entry] = [
        GroupEntry(group.name, group.revision, place, canonical(document))
        for group, document, place in compiled
        if group.name not in known or known[group.name].revision != group.revision
    ]
    names = {group.name for group, _, _ in compiled}
    entries += [
        GroupEntry(record.name, "", "", None)
        for record in known.values()
        if record.name not in names and record.document is not None
    ]
    return entries


def by_hand(route: str, gate: Gate) -> str | None:
    """The id of the lever that gave a route its weights, also where it has lapsed; None where none has."""
    levers = (lever for lever in gate.levers if lever.route == route and lever.action in ("weight", "rollback"))
    return next((lever.id for lever in levers), None)  # two never hold at once


def overtaken(entry: Entry, gate: Gate) -> bool:
    """Whether something was recorded since somebody decided on this entry that leaves no place for it: for a step of a plan a weight
    by hand, or another step; for a document the same one, by another replica."""
    match entry:
        case PlanEntry():
            plan = gate.plans.get(entry.route)
            interrupted = plan is not None and plan.plan == entry.progress.plan and plan.state == "interrupted"
            return interrupted or plan != entry.before or by_hand(entry.route, gate) not in (None, entry.by_hand)
        case RouteEntry():
            return _same(entry, gate.routes.get(entry.name))
        case GroupEntry():
            return _same(entry, gate.groups.get(entry.name))
        case LeverEntry() | Call():
            return False


def _same(entry: RouteEntry | GroupEntry, record: RouteRecord | GroupRecord | None) -> bool:
    """Whether a document is in force, or gone, as an entry wants it."""
    return (
        record is not None
        and record.revision == entry.revision
        and (record.document is None) == (entry.document is None)
    )


def record_of_entry(entry: Entry, gate: Gate, seq: int, now: int, monotonic: int) -> Record:
    """What an entry becomes at the journal's time ``now``, given all that was settled before it."""
    match entry:
        case Call():
            return call_record(entry, seq=seq, t=now, elapsed=monotonic - entry.received)
        case RouteEntry():
            before = gate.routes.get(entry.name)
            return RouteRecord(
                v=VERSION,
                seq=seq,
                t=now,
                name=entry.name,
                revision=entry.revision,
                generation=before.generation + 1 if before else 1,
                place=entry.place,
                document=None if entry.document is None else msgspec.json.decode(entry.document),
                prev="",
            )
        case GroupEntry():
            return GroupRecord(
                v=VERSION,
                seq=seq,
                t=now,
                name=entry.name,
                revision=entry.revision,
                place=entry.place,
                document=None if entry.document is None else msgspec.json.decode(entry.document),
                prev="",
            )
        case PlanEntry():
            progress = entry.progress
            return PlanRecord(
                v=VERSION,
                seq=seq,
                t=now,
                route=entry.route,
                plan=progress.plan,
                step=progress.step,
                state=progress.state,
                canary=progress.canary,
                why=progress.why,
                evidence=entry.evidence,
                prev="",
            )
        case LeverEntry():
            order = entry.order
            return LeverRecord(
                v=VERSION,
                seq=seq,
                t=now,
                id=f"l-{seq}",
                action=order.action,
                by=order.by,
                why=order.why,
                proved=order.proved,
                route=order.route,
                symbol=order.symbol,
                lever=order.lever,
                canary=order.canary,
                version=order.version,
                latch=order.latch,
                expires=None if order.expires_in is None else now + order.expires_in,
                base=entry.base,
                prev="",
            )
