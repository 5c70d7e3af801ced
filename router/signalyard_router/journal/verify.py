"""Verifying a chain from its oldest record that is held, across the archive and the folder."""

from collections.abc import Callable
from contextlib import suppress

import msgspec

from signalyard.problems import Problem, error
from signalyard_router.journal.archived import chains, lines, up_to
from signalyard_router.journal.archiver import Index, packed_name
from signalyard_router.journal.checkpoint import checkpoints, load
from signalyard_router.journal.segments import Line, Tail, corrupt, decode, follow_on, forwards, pieces, read, segments
from signalyard_router.ports import Archive, Disk
from signalyard_router.rules.record import Record, StartRecord


class Verified(msgspec.Struct):
    """What was found to hold: the records from ``since`` to ``seq``, of which the archive gave the first ``archived``.

    ``notes`` says what is odd and breaks no chain. ``epoch`` is the journal's.
    """

    epoch: int = 0
    since: int = 0
    seq: int = 0
    archived: int = 0
    digest: str = ""
    torn_bytes: int = 0
    kinds: dict[str, int] = {}
    notes: list[str] = []


async def verify(
    disk: Disk, folder: str, archive: Archive | None = None, read_bytes: Callable[[int], None] = lambda _: None
) -> list[Verified]:
    """Verify a journal; with an archive alone, every journal that it holds. ``read_bytes`` hears of every million bytes or so.

    Raises RouterError (journal_corrupt) at the first break, naming its place; CallerError (invalid_setting) where there is no
    journal to read.
    """
    held = await chains(archive) if archive is not None else {}
    first = first_record(disk, folder)
    if archive is not None and first is None and held:
        found = []
        for epoch, indexes in sorted(held.items()):
            check = _Check(read_bytes, indexes)
            # only what hangs together up to the newest segment
            await check.archive(archive, epoch, up_to(indexes, indexes[-1].last_seq, indexes[-1].digest))
            found.append(check.found())
        return found
    if first is None:
        raise error(Problem.INVALID_SETTING, f"{folder} holds no journal", "/journal")
    epoch, row = before(held, first)
    check = _Check(read_bytes, held.get(epoch, []))
    if archive is not None:
        await check.archive(archive, epoch, row)
        if first.seq > 1 and not row:
            check.notes.append(f"the archive does not hold record {first.seq - 1}, at which the folder begins")
    check.checkpoints(disk, folder)
    check.folder(disk, folder)
    return [check.found()]


def first_record(disk: Disk, folder: str) -> Record | None:
    """The oldest record in a folder; None where there is none. Raises RouterError (journal_corrupt)."""
    try:
        names = segments(disk, folder)
    except OSError:
        return None
    for name in names:
        with suppress(FileNotFoundError):
            for raw in forwards(pieces(disk, f"{folder}/{name}")):
                return decode(name, 1, raw)
    return None


def before(held: dict[str, list[Index]], first: Record) -> tuple[str, list[Index]]:
    """The archived segments up to the folder's first record, and the epoch under which they are."""
    if isinstance(first, StartRecord) and first.seq == 1:
        return str(first.epoch), []
    for epoch, indexes in held.items():
        if row := up_to(indexes, first.seq - 1, first.prev):
            return epoch, row
    return "", []


class _Check:
    """One chain on its way."""

    def __init__(self, read_bytes: Callable[[int], None], indexes: list[Index]) -> None:
        self._read_bytes = read_bytes
        self._tail = Tail()
        self._at = ("", 0)
        self._witnesses = {index.last_seq: index for index in indexes}
        self._checkpoints: dict[int, tuple[str, str]] = {}
        self._epoch = 0
        self._archived = 0
        self._kinds: dict[str, int] = {}
        self.notes: list[str] = []

    async def archive(self, archive: Archive, epoch: str, row: list[Index]) -> None:
        for index in row:
            name = packed_name(epoch, index.segment)
            self._tail.segment, self._tail.size = index.segment, 0
            number = 0
            async for raw in lines(archive, epoch, index):
                number += 1
                self._seen(follow_on(name, number, raw, self._tail, partly=True))
            if (self._tail.seq, self._tail.digest) != (index.last_seq, index.digest):
                raise corrupt(name, number, f"it ends with record {self._tail.seq}, its index says {index.last_seq}")
        if row:
            self._archived = self._tail.seq - self._tail.since + 1

    def folder(self, disk: Disk, folder: str) -> None:
        for line in read(disk, folder, self._tail, partly=True):
            self._seen(line)

    def checkpoints(self, disk: Disk, folder: str) -> None:
        for name in checkpoints(disk, folder):
            try:
                found = load(disk, folder, name)
            except (ValueError, OSError) as exc:
                self.notes.append(f"{name} is of no use: {exc}")
            else:
                self._checkpoints[found.seq] = (name, found.digest)

    def found(self) -> Verified:
        tail = self._tail
        return Verified(
            epoch=self._epoch,
            since=tail.since,
            seq=tail.seq,
            archived=self._archived,
            digest=tail.digest,
            torn_bytes=tail.torn,
            kinds=self._kinds,
            notes=self.notes,
        )

    def _seen(self, line: Line) -> None:
        record = line.record
        kind = type(record).__struct_config__.tag
        self._kinds[str(kind)] = self._kinds.get(str(kind), 0) + 1
        if isinstance(record, StartRecord):
            self._epoch = record.epoch
        witness = self._witnesses.get(record.seq)
        if witness is not None and witness.digest != line.digest:
            raise corrupt(
                line.segment,
                line.number,
                f"record {record.seq} has digest {line.digest}, the archive holds it with {witness.digest}",
            )
        checkpoint = self._checkpoints.get(record.seq)
        if checkpoint is not None and checkpoint[1] != line.digest:
            self.notes.append(f"{checkpoint[0]} stands on another record {record.seq}, and is of no use")
        if self._tail.segment != self._at[0]:
            self._at = (self._tail.segment, 0)
        if self._tail.size - self._at[1] > 1_000_000:
            self._read_bytes(self._tail.size - self._at[1])
            self._at = (self._tail.segment, self._tail.size)
