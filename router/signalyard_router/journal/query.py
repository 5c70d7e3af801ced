"""Looking things up in a journal that another process may be writing. Reads take no lock and change nothing.

A segment that retention drops while it is being looked for is passed over.
"""

from collections.abc import Iterator
from contextlib import suppress

import msgspec

from signalyard.problems import Problem, error
from signalyard_router.journal.checkpoint import checkpoints, load
from signalyard_router.journal.segments import LineCutter, backwards, decode, forwards, pieces, segment_number, segments
from signalyard_router.ports import Disk
from signalyard_router.rules.record import CallRecord, DecisionRecord, Record, RouteRecord


class Position(msgspec.Struct):
    """How far a reader has come."""

    segment: str = ""
    offset: int = 0
    number: int = 0


def follow(disk: Disk, folder: str, position: Position) -> Iterator[Record]:
    """The records after ``position``, which moves along; an unfinished last line is left for the next call."""
    for name in _segments(disk, folder):
        if segment_number(name) < segment_number(position.segment):
            continue
        if name != position.segment:
            position.segment, position.offset, position.number = name, 0, 0
        cutter = LineCutter()
        with suppress(FileNotFoundError):
            for piece in pieces(disk, f"{folder}/{name}", position.offset):
                for raw in cutter.feed(piece):
                    position.offset += len(raw) + 1
                    position.number += 1
                    yield decode(name, position.number, raw)


def since(disk: Disk, folder: str, t: int) -> Position:
    """A position before every record of journal time ``t`` and later, with at most a segment's older ones between."""
    for name in reversed(_segments(disk, folder)):
        with suppress(FileNotFoundError):
            first = next(forwards(pieces(disk, f"{folder}/{name}")), None)
            if first is not None and decode(name, 1, first).t < t:
                return Position(name)
    return Position()


def last(disk: Disk, folder: str, count: int) -> tuple[list[Record], Position]:
    """The newest records, and the position after them."""
    names = _segments(disk, folder)
    found: list[Record] = []
    position = Position(names[-1])
    for name in reversed(names):
        with suppress(FileNotFoundError):
            for start, raw in backwards(disk, f"{folder}/{name}"):
                if name == position.segment:
                    position.offset = max(position.offset, start + len(raw) + 1)
                if len(found) >= count:
                    break
                found.append(decode(name, 0, raw))
        if len(found) >= count:
            break
    position.number = sum(1 for _ in _before(disk, f"{folder}/{position.segment}", position.offset))
    return found[::-1], position


def _before(disk: Disk, path: str, offset: int) -> Iterator[bytes]:
    for raw in forwards(pieces(disk, path)):
        offset -= len(raw) + 1
        if offset < 0:
            return
        yield raw


def find(disk: Disk, folder: str, name: str) -> Record:
    """The record with this seq, the call of this id, or the newest decision with this signal_id or proposal_id.

    Raises CallerError (not_found).
    """
    wanted = name.removeprefix("s-").removeprefix("p-")
    needle = f'"seq":{name},'.encode() if name.isdigit() and len(name) < 20 else wanted.encode()
    for record in _newest_first(disk, folder, needle):
        if (
            (name.isdigit() and str(record.seq) == name)
            or (isinstance(record, DecisionRecord) and record.proposal_id == wanted)
            or (isinstance(record, CallRecord) and record.id == name)
        ):
            return record
    raise error(
        Problem.NOT_FOUND, f"the journal in {folder} has no decision or record {name!r}{_held_from(disk, folder)}"
    )


def newest(disk: Disk, folder: str, symbol: str, at: int | None = None) -> DecisionRecord:
    """The newest decision on an instrument, or the newest on its snapshot of event time ``at``.

    Raises CallerError (not_found).
    """
    needle = f'"symbol":{msgspec.json.encode(symbol).decode()}'.encode()
    for record in _newest_first(disk, folder, needle):
        if isinstance(record, DecisionRecord) and record.symbol == symbol and at in (None, record.ts_event):
            return record
    when = "" if at is None else f" with ts_event {at}"
    raise error(
        Problem.NOT_FOUND, f"the journal in {folder} has no decision on {symbol!r}{when}{_held_from(disk, folder)}"
    )


def route_in_force(disk: Disk, folder: str, record: DecisionRecord) -> RouteRecord | None:
    """The document under which a decision was made; None where it went with a segment that was dropped."""
    needle = f'"name":{msgspec.json.encode(record.route).decode()}'.encode()
    for candidate in _newest_first(disk, folder, needle):
        if isinstance(candidate, RouteRecord) and _is_of(candidate, record):
            return candidate
    for name in reversed(checkpoints(disk, folder)):
        with suppress(ValueError, FileNotFoundError):
            for document in load(disk, folder, name).state.routes:
                if _is_of(document, record):
                    return document
    return None


def _is_of(document: RouteRecord, record: DecisionRecord) -> bool:
    return (
        document.name == record.route
        and document.revision == record.revision
        and document.generation <= record.generation
    )


def _newest_first(disk: Disk, folder: str, needle: bytes) -> Iterator[Record]:
    """The records whose line has ``needle`` in it, from the newest to the oldest."""
    for name in reversed(_segments(disk, folder)):
        with suppress(FileNotFoundError):
            for _, raw in backwards(disk, f"{folder}/{name}"):
                if needle in raw:
                    yield decode(name, 0, raw)


def _held_from(disk: Disk, folder: str) -> str:
    """What to add to a failure where the oldest records are not here."""
    for name in _segments(disk, folder):
        with suppress(FileNotFoundError):
            for raw in forwards(pieces(disk, f"{folder}/{name}")):
                first = decode(name, 1, raw)
                return f"; it holds what follows record {first.seq - 1}" if first.seq > 1 else ""
    return ""


def _segments(disk: Disk, folder: str) -> list[str]:
    try:
        names = segments(disk, folder)
    except OSError as exc:
        raise error(Problem.INVALID_SETTING, f"the journal's folder cannot be read: {exc}", "/journal") from exc
    if not names:
        raise error(Problem.INVALID_SETTING, f"{folder} holds no journal", "/journal")
    return names
