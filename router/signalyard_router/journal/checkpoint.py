"""Checkpoints: the state at the end of a segment, beside it, so that opening a journal need not read all that was ever written.

``checkpoint-NNNNNNNN.jsonl`` holds the state after the last record of segment NNNNNNNN: a head that names the record's seq and
digest, parts of the state, and at the end the sha256 of all before. It is a shortcut and no evidence: it is used only if its own
digest is right and the segment's last line is the very record that it names; else the records are folded.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, TypeVar

import msgspec

from signalyard.problems import SignalyardError
from signalyard.wire import Decision
from signalyard_router.journal.segments import LineCutter, ends, pieces, segment_name
from signalyard_router.ports import Disk
from signalyard_router.rules.books import Instrument, Key
from signalyard_router.rules.gate import GateState
from signalyard_router.rules.groups import Sides
from signalyard_router.rules.levers import Lever
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.record import GroupRecord, RouteRecord
from signalyard_router.rules.surge import Contract, ContractKey

FORMAT = 1
"""To be raised when a state is no longer what older software makes of the same records. A journal whose older segments were
dropped cannot be opened without a checkpoint that is understood, so new members get defaults instead wherever that is right."""

_PREFIX, _SUFFIX = "checkpoint-", ".jsonl"
_SLICE = 32
"""What is encoded at once: well under a tenth of a millisecond of the loop that decides."""

_PIECE = 256 * 1024
"""What is handed to the disk at once, bytes."""

_log = logging.getLogger("signalyard.router.journal")
_Item = TypeVar("_Item")


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The state after record ``seq``, the last of ``segment``. ``contracts`` is what is remembered of surges."""

    segment: str
    seq: int
    digest: str
    t: int
    epoch: int
    clock: Literal["wall", "event"]
    state: GateState
    contracts: Sequence[tuple[ContractKey, Contract]] = ()


class _Head(msgspec.Struct, frozen=True, kw_only=True, tag="head", tag_field="part"):
    format: int
    segment: str
    seq: int
    digest: str
    t: int
    epoch: int
    clock: Literal["wall", "event"]
    levers: Sequence[Lever]
    throttled: Sequence[str]
    plans: Mapping[str, Progress]


class _Instruments(msgspec.Struct, frozen=True, omit_defaults=True, tag="instruments", tag_field="part"):
    """``contracts`` and ``sides`` stand here and not in parts of their own, because software that does not know them passes over a member, and
    refuses a checkpoint with a part of another name."""

    items: Sequence[tuple[Key, Instrument]]
    contracts: Sequence[tuple[ContractKey, Contract]] = ()
    sides: Sequence[tuple[Key, Sides]] = ()


class _Recent(msgspec.Struct, frozen=True, tag="recent", tag_field="part"):
    items: Sequence[Decision]


class _Times(msgspec.Struct, frozen=True, tag="times", tag_field="part"):
    of: Literal["signals", "flats"]
    route: str
    items: Sequence[int]


class _Routes(msgspec.Struct, frozen=True, omit_defaults=True, tag="routes", tag_field="part"):
    items: Sequence[RouteRecord]
    groups: Sequence[GroupRecord] = ()


class _End(msgspec.Struct, frozen=True, tag="end", tag_field="part"):
    sha256: str


_Part = _Head | _Instruments | _Recent | _Times | _Routes | _End
_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[_Part] = msgspec.json.Decoder(_Part)


def checkpoint_name(number: int) -> str:
    """The name of the checkpoint at the end of the n-th segment."""
    return f"{_PREFIX}{number:08d}{_SUFFIX}"


def checkpoint_number(name: str) -> int:
    """The number of the segment at whose end a checkpoint stands, by its name; 0 for the name of anything else."""
    digits = name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return int(digits) if name == f"{_PREFIX}{digits}{_SUFFIX}" and digits.isdigit() else 0


async def encode(checkpoint: Checkpoint) -> AsyncIterator[bytes]:
    """The file's content in pieces, once: it takes the decisions out of the state.

    The event loop gets its turn within each piece, and meanwhile the gate forgets what is in the state and remembers as much
    again. Held to the end, both together and the whole content would be what the process takes of memory from then on.
    """
    piece = bytearray()
    hasher = hashlib.sha256()
    async for part in _parts(checkpoint):
        line = _encoder.encode(part) + b"\n"
        hasher.update(line)
        piece += line
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece) + _encoder.encode(_End(hasher.hexdigest())) + b"\n"


async def _parts(checkpoint: Checkpoint) -> AsyncIterator[_Part]:
    state = checkpoint.state
    yield _Head(
        format=FORMAT,
        segment=checkpoint.segment,
        seq=checkpoint.seq,
        digest=checkpoint.digest,
        t=checkpoint.t,
        epoch=checkpoint.epoch,
        clock=checkpoint.clock,
        levers=state.levers,
        throttled=state.throttled,
        plans=state.plans,
    )
    made: list[Iterator[_Part]] = [
        (_Recent(items) for items in _taken(state.recent)),
        (_Instruments(items) for items in _slices(zip(state.keys, state.instruments, strict=True))),
        (_Instruments((), items) for items in _slices(checkpoint.contracts)),
        (_Instruments((), (), items) for items in _slices(zip(state.side_keys, state.sides, strict=True))),
        (_Times("signals", route, times) for route, times in state.signals.items()),
        (_Times("flats", route, times) for route, times in state.flats.items()),
        (_Routes([record]) for record in state.routes),
        (_Routes([], [record]) for record in state.groups),
    ]
    for parts in made:
        for part in parts:
            await asyncio.sleep(0)
            yield part


def _taken(items: list[_Item]) -> Iterator[list[_Item]]:
    items.reverse()  # a list gives up its end cheaply, and its beginning not
    while items:
        part = items[-_SLICE:]
        del items[-_SLICE:]
        yield part[::-1]


def _slices(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    source = iter(items)
    while part := list(islice(source, _SLICE)):
        yield part


def load(disk: Disk, folder: str, name: str) -> Checkpoint:
    """A checkpoint whose own digest is right. Raises ValueError where it is not, OSError."""
    return decode(pieces(disk, f"{folder}/{name}"))


def decode(content: Iterable[bytes]) -> Checkpoint:
    """What `encode` gave, in whatever pieces. Raises ValueError where its digest is not right, and what the pieces raise."""
    head: _Head | None = None
    fields: dict[str, list[Any]] = {
        "instruments": [],
        "contracts": [],
        "recent": [],
        "routes": [],
        "groups": [],
        "sides": [],
    }
    times: dict[str, dict[str, Sequence[int]]] = {"signals": {}, "flats": {}}
    hasher = hashlib.sha256()
    ended = False
    cutter = LineCutter()
    for piece in content:
        for line in cutter.feed(piece):
            if ended:
                raise ValueError("it goes on behind its end")
            part = _decode(line)
            match part:
                case _Head():
                    if part.format != FORMAT:
                        raise ValueError(f"its format is {part.format}, this software reads {FORMAT}")
                    head = part
                case _Instruments():
                    fields["instruments"] += part.items
                    fields["contracts"] += part.contracts
                    fields["sides"] += part.sides
                case _Recent():
                    fields["recent"] += part.items
                case _Routes():
                    fields["routes"] += part.items
                    fields["groups"] += part.groups
                case _Times():
                    times[part.of][part.route] = part.items
                case _End():
                    if part.sha256 != hasher.hexdigest():
                        raise ValueError("its content is not what its digest says")
                    ended = True
            hasher.update(line)
            hasher.update(b"\n")
    if head is None or not ended or cutter.torn:
        raise ValueError("it is not whole")
    return Checkpoint(
        segment=head.segment,
        seq=head.seq,
        digest=head.digest,
        t=head.t,
        epoch=head.epoch,
        clock=head.clock,
        state=GateState(
            keys=[key for key, _ in fields["instruments"]],
            instruments=[instrument for _, instrument in fields["instruments"]],
            routes=fields["routes"],
            levers=head.levers,
            throttled=head.throttled,
            plans=head.plans,
            signals=times["signals"],
            flats=times["flats"],
            recent=fields["recent"],
            groups=fields["groups"],
            side_keys=[key for key, _ in fields["sides"]],
            sides=[sides for _, sides in fields["sides"]],
        ),
        contracts=fields["contracts"],
    )


def _decode(line: bytes) -> _Part:
    try:
        return _decoder.decode(line)
    except RecursionError as exc:
        raise ValueError("it nests too deeply") from exc


def checkpoints(disk: Disk, folder: str) -> list[str]:
    """The names of the checkpoints, oldest first. Raises OSError."""
    return [name for name in disk.names(folder) if checkpoint_number(name)]


def newest(disk: Disk, folder: str) -> Checkpoint | None:
    """The newest checkpoint that stands on the chain, or None. Others are passed over and logged. Raises OSError."""
    for name in reversed(checkpoints(disk, folder)):
        try:
            found = load(disk, folder, name)
            if found.segment != segment_name(checkpoint_number(name)):
                raise ValueError(f"it stands at the end of {found.segment}")
            last = ends(disk, folder, found.segment)
            if last is None or (last.last_seq, last.digest) != (found.seq, found.digest):
                raise ValueError(f"{found.segment} does not end with the record that it names")
        except (ValueError, FileNotFoundError, SignalyardError) as exc:
            _log.warning("event=checkpoint_ignored checkpoint=%s reason=%s", name, exc)
        else:
            return found
    return None
