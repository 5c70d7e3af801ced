"""Reading an archive: which segments it holds, and their lines."""

import hashlib
import zlib
from collections.abc import AsyncIterator, Sequence

from signalyard.problems import Problem, error
from signalyard_router.journal.archiver import Index, packed_name, read_index, segment_of
from signalyard_router.journal.segments import LineCutter, corrupt
from signalyard_router.ports import Archive


async def chains(archive: Archive) -> dict[str, list[Index]]:
    """The archived segments of each journal, by its epoch, in order.

    Raises CallerError (invalid_setting) where the archive cannot be read.
    """
    found: dict[str, list[Index]] = {}
    try:
        for name in await archive.names():
            if segment_of(name):
                found.setdefault(name.rpartition("/")[0], []).append(await read_index(archive, name))
    except OSError as exc:
        raise error(Problem.INVALID_SETTING, f"the archive cannot be read: {exc}", "/archive") from exc
    for indexes in found.values():
        indexes.sort(key=lambda index: index.first_seq)
    return found


def up_to(indexes: Sequence[Index], seq: int, digest: str) -> list[Index]:
    """The unbroken row of segments at whose end record ``seq`` stands with ``digest``; empty where there is none."""
    row: list[Index] = []
    for index in reversed(indexes):
        if (index.last_seq, index.digest) == (seq, digest):
            row.append(index)
            seq, digest = index.first_seq - 1, index.prev
    return row[::-1]


async def lines(archive: Archive, epoch: str, index: Index) -> AsyncIterator[bytes]:
    """The lines of an archived segment, without their newlines.

    Raises RouterError (journal_corrupt) where the object is not the one that its index speaks of; CallerError (invalid_setting)
    where it cannot be read.
    """
    name = packed_name(epoch, index.segment)
    unpacker = zlib.decompressobj(wbits=31)
    cutter = LineCutter()
    hasher = hashlib.sha256()
    try:
        async for piece in archive.get(name):
            hasher.update(piece)
            for line in cutter.feed(unpacker.decompress(piece)):
                yield line
    except zlib.error as exc:
        raise corrupt(name, 0, f"it is not gzip: {exc}") from exc
    except OSError as exc:
        raise error(Problem.INVALID_SETTING, f"the archive cannot be read: {name}: {exc}", "/archive") from exc
    if hasher.hexdigest() != index.packed_sha256 or cutter.torn:
        raise corrupt(name, 0, f"its sha256 is {hasher.hexdigest()}, its index says {index.packed_sha256}")
