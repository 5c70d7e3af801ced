"""Complete segments on their way into the archive.

``EPOCH/journal-NNNNNNNN.jsonl.gz`` is a segment, ``EPOCH/journal-NNNNNNNN.json`` its index. The index is written last, after the
segment was read back and found whole: where it is, the segment is safe. A journal whose folder was lost begins under another epoch,
so that it never meets what its predecessor archived.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import msgspec

from signalyard_router.journal.metrics import ArchiveMetrics
from signalyard_router.journal.segments import Ends, segment_number
from signalyard_router.ports import Archive, Disk

_SLICE = 64 * 1024
"""Bytes that are hashed at once on the loop that decides: some 0.1 ms."""

_encoder = msgspec.json.Encoder()


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What the archive says of a segment: its `segments.Ends`, and what the packed object must be."""

    v: int = 1
    segment: str
    size: int
    first_seq: int
    last_seq: int
    first_t: int
    last_t: int
    prev: str
    digest: str
    packed_bytes: int
    packed_sha256: str


_decoder = msgspec.json.Decoder(Index)


class ArchiveConflictError(OSError):
    """The archive holds another segment in this one's place. What is whole there is never written over."""


class DamagedIndexError(OSError):
    """What is there in an index's place is none: an upload that arrived damaged."""


def packed_name(epoch: str | int, segment: str) -> str:
    """The name of a segment's object."""
    return f"{epoch}/{segment}.gz"


def index_name(epoch: str | int, segment: str) -> str:
    """The name of the index of a segment's object."""
    return f"{epoch}/{segment.removesuffix('l')}"


def segment_of(name: str) -> str:
    """The segment whose index an object is, by the object's name; "" for the name of anything else."""
    segment = f"{name.rpartition('/')[2]}l"
    return segment if segment_number(segment) else ""


async def read_index(archive: Archive, name: str) -> Index:
    """An index. Raises OSError, also where what is there is none."""
    content = b"".join([piece async for piece in archive.get(name)])
    try:
        return _decoder.decode(content)
    except ValueError as exc:
        raise DamagedIndexError(f"{name} is not the index of a segment: {exc}") from exc


class Archiver:
    """Puts segments into an archive, one at a time."""

    def __init__(self, disk: Disk, folder: str, archive: Archive, metrics: ArchiveMetrics) -> None:
        self._disk = disk
        self._folder = folder
        self._archive = archive
        self._metrics = metrics

    async def keep(self, epoch: int, ends: Ends) -> None:
        """Have a segment in the archive, verified. It may be there already, whole or in part. Raises OSError."""
        name = index_name(epoch, ends.segment)
        try:
            there: Index | None = await read_index(self._archive, name)
        except (FileNotFoundError, DamagedIndexError):
            there = None  # a damaged one says of nothing that it is safe, and would stand in the way for ever
        if there is not None:
            if (there.first_seq, there.last_seq, there.prev, there.digest) != (
                ends.first_seq,
                ends.last_seq,
                ends.prev,
                ends.digest,
            ):
                raise ArchiveConflictError(
                    f"{name} is the index of another segment: give each journal an archive of its own"
                )
            return
        packed = packed_name(epoch, ends.segment)
        meter = _Meter()
        await self._archive.put(packed, meter.through(self._disk.packed(f"{self._folder}/{ends.segment}")))
        back = _Meter()
        async for _ in back.through(self._archive.get(packed)):
            pass
        if back.digest != meter.digest:
            raise OSError(f"{packed} is not what was uploaded: {back.size} bytes of {meter.size}, sha256 {back.digest}")
        self._metrics.bytes.inc(meter.size)
        index = Index(
            segment=ends.segment,
            size=ends.size,
            first_seq=ends.first_seq,
            last_seq=ends.last_seq,
            first_t=ends.first_t,
            last_t=ends.last_t,
            prev=ends.prev,
            digest=ends.digest,
            packed_bytes=meter.size,
            packed_sha256=meter.digest,
        )
        await self._archive.put(name, _single(_encoder.encode(index)))
        if await read_index(self._archive, name) != index:
            raise OSError(f"{name} is not what was uploaded")


class _Meter:
    """Measures what passes through, and lets the loop have its turn."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return self._hasher.hexdigest()

    async def through(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for piece in source:
            for start in range(0, len(piece), _SLICE):
                self._hasher.update(memoryview(piece)[start : start + _SLICE])
                await asyncio.sleep(0)
            self.size += len(piece)
            yield piece


async def _single(content: bytes) -> AsyncIterator[bytes]:
    yield content
