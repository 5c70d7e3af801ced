"""Looking things up in a journal that another process may be writing. Reads take no lock and change nothing."""

from collections.abc import Iterator

import msgspec

from signalyard.problems import Problem, error
from signalyard_router.journal.segments import decode, segment_number
from signalyard_router.ports import Disk
from signalyard_router.rules.record import DecisionRecord, Record, RouteRecord


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
        data = disk.read(f"{folder}/{name}")
        for raw in data[position.offset :].splitlines(keepends=True):
            if not raw.endswith(b"\n"):
                break
            position.offset += len(raw)
            position.number += 1
            yield decode(name, position.number, raw[:-1])


def last(disk: Disk, folder: str, count: int) -> tuple[list[Record], Position]:
    """The newest records, and the position after them."""
    records: list[Record] = []
    position = Position()
    for name in reversed(_segments(disk, folder)):
        part = Position(name)
        lines = [record for record in follow(disk, folder, part) if part.segment == name]
        if not position.segment:
            position = part
        records = lines + records
        if len(records) >= count:
            break
    return records[-count:] if count else [], position


def find(disk: Disk, folder: str, name: str) -> Record:
    """The record with this seq, or the newest decision with this signal_id or proposal_id.

    Raises CallerError (not_found).
    """
    wanted = name.removeprefix("s-")
    needle = f'"seq":{name},'.encode() if name.isdigit() and len(name) < 20 else wanted.encode()
    for segment in reversed(_segments(disk, folder)):
        lines = disk.read(f"{folder}/{segment}").splitlines()
        for number in range(len(lines), 0, -1):
            if needle not in lines[number - 1]:
                continue
            record = decode(segment, number, lines[number - 1])
            if (name.isdigit() and str(record.seq) == name) or (
                isinstance(record, DecisionRecord) and record.proposal_id == wanted
            ):
                return record
    raise error(Problem.NOT_FOUND, f"the journal in {folder} has no decision or record {name!r}")


def newest(disk: Disk, folder: str, symbol: str, at: int | None = None) -> DecisionRecord:
    """The newest decision on an instrument, or the newest on its snapshot of event time ``at``.

    Raises CallerError (not_found).
    """
    needle = f'"symbol":{msgspec.json.encode(symbol).decode()}'.encode()
    for segment in reversed(_segments(disk, folder)):
        lines = disk.read(f"{folder}/{segment}").splitlines()
        for number in range(len(lines), 0, -1):
            if needle in lines[number - 1]:
                record = decode(segment, number, lines[number - 1])
                if isinstance(record, DecisionRecord) and at in (None, record.ts_event):
                    return record
    when = "" if at is None else f" with ts_event {at}"
    raise error(Problem.NOT_FOUND, f"the journal in {folder} has no decision on {symbol!r}{when}")


def route_in_force(disk: Disk, folder: str, record: DecisionRecord) -> RouteRecord | None:
    """The document under which a decision was made."""
    found: RouteRecord | None = None
    for segment in _segments(disk, folder):
        for number, raw in enumerate(disk.read(f"{folder}/{segment}").splitlines(), start=1):
            if raw.startswith(b'{"kind":"route"'):
                candidate = decode(segment, number, raw)
                if candidate.seq > record.seq:
                    return found
                if isinstance(candidate, RouteRecord) and candidate.name == record.route:
                    found = candidate
    return found


def _segments(disk: Disk, folder: str) -> list[str]:
    try:
        names = [name for name in disk.names(folder) if segment_number(name)]
    except OSError as exc:
        raise error(Problem.INVALID_SETTING, f"the journal's folder cannot be read: {exc}", "/journal") from exc
    if not names:
        raise error(Problem.INVALID_SETTING, f"{folder} holds no journal", "/journal")
    return names
