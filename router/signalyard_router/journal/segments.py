"""The journal's files: lines of JSON in numbered segments, each line naming the sha256 of the one before.

A line is one record. Its last member is ``prev``: the sha256, in hexadecimal, of the line before without its newline, and 64
zeros in the first. ``seq`` counts the lines from 1 across the segments.
"""

import hashlib
from collections.abc import Iterator

import msgspec

from signalyard.problems import Problem, SignalyardError, error
from signalyard_router.ports import Disk
from signalyard_router.rules.record import VERSION, Record

GENESIS = "0" * 64
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
    """Where the chain ends. ``torn`` is how many bytes of an unfinished last line follow ``size``."""

    segment: str = ""
    size: int = 0
    seq: int = 0
    digest: str = GENESIS
    torn: int = 0


def segment_name(number: int) -> str:
    """The name of the n-th segment, from 1."""
    return f"{_PREFIX}{number:08d}{_SUFFIX}"


def segment_number(name: str) -> int:
    """The number of a segment by its name; 0 for the name of anything else."""
    digits = name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return int(digits) if name == f"{_PREFIX}{digits}{_SUFFIX}" and digits.isdigit() else 0


def encode(record: Record, prev: str) -> tuple[bytes, str]:
    """A record, whose own ``prev`` is empty, as a line with its newline, and the line's digest."""
    # Written into the finished text: a record is built before its predecessor's digest is known.
    body = _encoder.encode(record)
    body = b"".join((body.removesuffix(_NO_PREV), _PREV, prev.encode(), _END))
    return body + b"\n", hashlib.sha256(body).hexdigest()


def read(disk: Disk, folder: str, tail: Tail) -> Iterator[Line]:
    """Every line of a journal in order, verified; ``tail`` is kept up to date.

    A last line without its newline is not yielded; ``tail.torn`` says how long it is. Raises RouterError (journal_corrupt)
    that names the line at any other break.
    """
    segments = [name for name in disk.names(folder) if segment_number(name)]
    for index, name in enumerate(segments):
        data = disk.read(f"{folder}/{name}")
        tail.segment, tail.size, tail.torn = name, 0, 0
        for number, raw in enumerate(data.splitlines(keepends=True), start=1):
            if not raw.endswith(b"\n"):
                if index + 1 < len(segments):
                    raise corrupt(name, number, "the line has no end, and another segment follows")
                tail.torn = len(raw)
                break
            record = _verified(name, number, raw[:-1], tail)
            tail.size += len(raw)
            tail.seq = record.seq
            tail.digest = hashlib.sha256(raw[:-1]).hexdigest()
            yield Line(name, number, tail.digest, record)


def decode(name: str, number: int, body: bytes) -> Record:
    """A line without its newline as a record; ``name`` and ``number`` say where it stands.

    Raises RouterError (journal_corrupt).
    """
    try:
        record: Record = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise corrupt(name, number, f"the line is not a record: {exc}") from exc
    if record.v > VERSION:
        raise corrupt(name, number, f"the record has version {record.v}, this software reads up to {VERSION}")
    return record


def _verified(name: str, number: int, body: bytes, tail: Tail) -> Record:
    record = decode(name, number, body)
    if record.prev != tail.digest:
        raise corrupt(name, number, f"the chain is broken: the line before has digest {tail.digest}, not {record.prev}")
    if record.seq != tail.seq + 1:
        raise corrupt(name, number, f"the line after {tail.seq} must have seq {tail.seq + 1}, not {record.seq}")
    return record


def corrupt(name: str, number: int, text: str) -> SignalyardError:
    """The error for a broken chain."""
    return error(Problem.JOURNAL_CORRUPT, f"{name}, line {number}: {text}")
