"""The journal's files: lines of JSON in numbered segments, each line naming the sha256 of the one before.

A line is one record. Its last member is ``prev``: the sha256, in hexadecimal, of the line before without its newline, and 64
zeros in the first. ``seq`` counts the lines from 1 across the segments.

Everything here reads piece by piece: what it costs in memory is a piece and the longest line, not the file.
"""

import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from signalyard.problems import Problem, SignalyardError, error
from signalyard.words import Outcome
from signalyard_router.ports import Disk
from signalyard_router.rules.record import VERSION, DecisionRecord, Record

GENESIS = "0" * 64
PIECE = 128 * 1024
"""Bytes that are read at once; more is no faster."""

_PREFIX, _SUFFIX = "journal-", ".jsonl"

_NO_PREV = b'"prev":""}'
_PREV = b'"prev":"'
_END = b'"}'

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class Line(msgspec.Struct, frozen=True):
    """A line that has been read and verified, and where it stands."""

    segment: str
    number: int
    digest: str
    record: Record


class Tail(msgspec.Struct):
    """Where the chain ends. ``torn`` is how many bytes of an unfinished last line follow ``size``.

    ``t`` is the newest record's time; ``began`` the time of the segment's first record that has one, else 0; ``since`` the
    number of the first record that was read, 0 before there was one.
    """

    segment: str = ""
    size: int = 0
    seq: int = 0
    digest: str = GENESIS
    torn: int = 0
    t: int = 0
    began: int = 0
    since: int = 0


class End(msgspec.Struct, frozen=True):
    """Up to where a journal that is being written is confirmed; ``digest`` is that of its last line."""

    segment: str
    size: int
    digest: str


class Ends(msgspec.Struct, frozen=True):
    """What the first and the last line of a complete segment say of it.

    Journal time and ``seq`` only grow, so these two lines are an index of the segment, and no file beside it is needed.
    ``prev`` is the digest before its first line, ``digest`` that of its last.
    """

    segment: str
    size: int
    first_seq: int
    last_seq: int
    first_t: int
    last_t: int
    prev: str
    digest: str


def segment_name(number: int) -> str:
    """The name of the n-th segment, from 1."""
    return f"{_PREFIX}{number:08d}{_SUFFIX}"


def segment_number(name: str) -> int:
    """The number of a segment by its name; 0 for the name of anything else."""
    digits = name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return int(digits) if name == f"{_PREFIX}{digits}{_SUFFIX}" and digits.isdigit() else 0


def segments(disk: Disk, folder: str) -> list[str]:
    """The names of a journal's segments, in order. Raises OSError."""
    return [name for name in disk.names(folder) if segment_number(name)]


def encode(record: Record, prev: str) -> tuple[bytes, str]:
    """A record, whose own ``prev`` is empty, as a line with its newline, and the line's digest."""
    # Written into the finished text: a record is built before its predecessor's digest is known.
    body = _encoder.encode(record)
    body = b"".join((body.removesuffix(_NO_PREV), _PREV, prev.encode(), _END))
    return body + b"\n", hashlib.sha256(body).hexdigest()


def pieces(disk: Disk, path: str, offset: int = 0) -> Iterator[bytes]:
    """A file from ``offset`` to where it ends. Raises OSError."""
    while data := disk.read_range(path, offset, PIECE):
        offset += len(data)
        yield data


class LineCutter:
    """Cuts pieces into lines."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that ``piece`` completes, without their newlines."""
        lines = piece.split(b"\n")
        if len(lines) > 1 and self._kept:
            lines[0] = b"".join((*self._kept, lines[0]))
            self._kept = []
        if last := lines.pop():
            self._kept.append(last)
        return lines

    @property
    def torn(self) -> int:
        """How many bytes of an unfinished line there are."""
        return sum(map(len, self._kept))


def forwards(source: Iterable[bytes]) -> Iterator[bytes]:
    """The finished lines of pieces, without their newlines."""
    cutter = LineCutter()
    for piece in source:
        yield from cutter.feed(piece)


def backwards(disk: Disk, path: str) -> Iterator[tuple[int, bytes]]:
    """The finished lines of a file from the last to the first, without their newlines, and where each begins. Raises OSError."""
    start = disk.size(path)
    held: list[bytes] = []  # the pieces of a line whose beginning is still to come, the last piece first
    finished = False
    while start > 0:
        count = min(PIECE, start)
        start -= count
        at = start + count
        parts = disk.read_range(path, start, count).split(b"\n")
        for index in range(len(parts) - 1, -1, -1):
            at -= len(parts[index])
            held.append(parts[index])
            if index == 0:
                break
            if finished:
                yield at, b"".join(reversed(held))
            held = []
            finished = True
            at -= 1
    if finished:
        yield 0, b"".join(reversed(held))


def read(disk: Disk, folder: str, tail: Tail, *, partly: bool = False) -> Iterator[Line]:
    """Every line of a journal after ``tail``, in order, verified; ``tail`` is kept up to date.

    A ``tail`` that names a segment stands at that segment's end. ``partly``: the oldest records may be missing, and the chain
    is taken up where it begins. A last line without its newline is not yielded; ``tail.torn`` says how long it is. Raises
    RouterError (journal_corrupt) that names the line at any other break, OSError.
    """
    after = segment_number(tail.segment)
    names = [name for name in segments(disk, folder) if segment_number(name) > after]
    for index, name in enumerate(names):
        tail.segment, tail.size, tail.torn, tail.began = name, 0, 0, 0
        cutter = LineCutter()
        number = 0
        try:
            for piece in pieces(disk, f"{folder}/{name}"):
                for raw in cutter.feed(piece):
                    number += 1
                    yield follow_on(name, number, raw, tail, partly=partly)
        except FileNotFoundError:
            if not partly or tail.seq:
                raise
            continue  # retention was quicker
        if cutter.torn:
            if index + 1 < len(names):
                raise corrupt(name, number + 1, "the line has no end, and another segment follows")
            tail.torn = cutter.torn


def follow_on(name: str, number: int, raw: bytes, tail: Tail, *, partly: bool = False) -> Line:
    """Verify that a line follows on ``tail``, and move it there. Raises RouterError (journal_corrupt)."""
    record = decode(name, number, raw)
    if partly and not tail.seq and record.seq > 1:
        tail.seq, tail.digest = record.seq - 1, record.prev
    if record.seq != 1 and not tail.seq:
        raise corrupt(
            name,
            number,
            f"the journal begins with record {record.seq}: what came before it was dropped or moved, and no checkpoint "
            "stands in for it",
        )
    if record.prev != tail.digest:
        raise corrupt(name, number, f"the chain is broken: the line before has digest {tail.digest}, not {record.prev}")
    if record.seq != tail.seq + 1:
        raise corrupt(name, number, f"the line after {tail.seq} must have seq {tail.seq + 1}, not {record.seq}")
    tail.seq, tail.t = record.seq, record.t
    tail.digest = hashlib.sha256(raw).hexdigest()
    tail.size += len(raw) + 1
    tail.since = tail.since or record.seq
    tail.began = tail.began or record.t
    return Line(name, number, tail.digest, record)


def ends(disk: Disk, folder: str, name: str) -> Ends | None:
    """What a complete segment's first and last line say; None where it has no finished line, or an unfinished one at its end.

    The chain between them is not looked at. Raises RouterError (journal_corrupt) where either is no record, OSError.
    """
    path = f"{folder}/{name}"
    size = disk.size(path)
    first = next(forwards(pieces(disk, path)), None)
    last = next(backwards(disk, path), None)
    if first is None or last is None or last[0] + len(last[1]) + 1 != size:
        return None
    head, end = decode(name, 1, first), decode(name, 0, last[1])
    return Ends(
        segment=name,
        size=size,
        first_seq=head.seq,
        last_seq=end.seq,
        first_t=head.t,
        last_t=end.t,
        prev=head.prev,
        digest=hashlib.sha256(last[1]).hexdigest(),
    )


def decode(name: str, number: int, body: bytes) -> Record:
    """A line without its newline as a record; ``name`` and ``number`` say where it stands, 0 that nobody counted.

    Raises RouterError (journal_corrupt).
    """
    try:
        record: Record = _decoder.decode(body)
        if isinstance(record, DecisionRecord) and record.input is not None:
            record.input.names()
    except (ValueError, RecursionError) as exc:  # text that is not UTF-8 raises Python's own error
        raise corrupt(name, number, f"the line is not a record: {exc}") from exc
    if (
        isinstance(record, DecisionRecord)
        and record.outcome is Outcome.EMITTED
        and (record.signal_id is None or record.direction is None)
    ):
        raise corrupt(name, number, "the decision is said to be emitted, and carries no signal")
    if record.v > VERSION:
        raise corrupt(name, number, f"the record has version {record.v}, this software reads up to {VERSION}")
    return record


def corrupt(name: str, number: int, text: str) -> SignalyardError:
    """The error for a broken chain."""
    return error(Problem.JOURNAL_CORRUPT, f"{name}{f', line {number}' if number else ''}: {text}")
