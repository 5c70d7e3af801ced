"""The local journal: segments in a folder, one writer, group commit.

A commit that is not alone waits for the next turn of the event loop, where all that came in meanwhile is settled in order and
written by one call. With ``fsync`` the write runs off the loop and the next group gathers behind it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry

from signalyard.problems import Problem, SignalyardError, error
from signalyard.wire import Decision, Opinion
from signalyard_router.journal.checkpoint import Checkpoint, newest
from signalyard_router.journal.entries import (
    Entry,
    LeverEntry,
    PlanEntry,
    RouteEntry,
    by_hand,
    group_entries,
    overtaken,
    record_of_entry,
)
from signalyard_router.journal.metrics import JournalMetrics
from signalyard_router.journal.segments import End, Tail, encode, read, segment_name, segment_number
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.ports import AppendFile, JournalInDoubt, Settled, World
from signalyard_router.rules.documents import Document, GroupDocument, canonical, parse_document, parse_group
from signalyard_router.rules.folding import fold
from signalyard_router.rules.gate import Gate
from signalyard_router.rules.groups import GroupStanding
from signalyard_router.rules.inference import Call
from signalyard_router.rules.levers import Lever, Order
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.record import (
    VERSION,
    CallRecord,
    DecisionRecord,
    LeverRecord,
    Record,
    ShadowNote,
    StartRecord,
    decision_of,
    record_of,
    shadow_record,
)
from signalyard_router.rules.route import Route, compile_route
from signalyard_router.rules.surge import Contract, ContractKey
from signalyard_router.rules.units import SECOND

_DOCUMENTS_AT_ONCE = 3
"""Documents that are compiled or recorded between two turns of the loop, so that hundreds of them hold up no decision."""

_WAITING = 10_000
"""Entries that may wait behind a write that does not end; beyond it a commit fails at once."""

_ENTRIES_A_LOOK = 32
"""Entries that are settled between two looks at the clock, about a millisecond."""

_NOTES = 1_000
"""Notes that may wait for a commit to go out with; one commit takes a tenth of them, so that none is made long by them."""

_TRIAL = bytes(64 * 1024)
"""What is written to see whether a folder takes records again; no line ends in it, so that it is cut off where the process does not come
to that."""

_log = logging.getLogger("signalyard.router.journal")


class Batch(msgspec.Struct):
    """What one call gave, and its answer."""

    entries: Sequence[Proposal] | Sequence[Entry]
    done: asyncio.Future[list[Any]]
    arrived: int


class Group(msgspec.Struct):
    """What one write makes durable, and the answers that wait for it; ``decisions`` are those of the records, one each, None for others."""

    before: str
    digest: str
    lines: list[bytes] = []
    records: list[Record] = []
    decisions: list[Decision | None] = []
    undos: list[object | None] = []
    answers: list[tuple[Batch, list[Any]]] = []


class Memory(Protocol):
    """Whoever remembers what is in no gate: it hears of every record when the journal opens, and goes into checkpoints."""

    def remember(self, record: Record) -> None:
        """A record of an earlier process, in the order of the journal; before `resume`, the documents in force at a checkpoint."""
        ...

    def contracts(self) -> Sequence[tuple[ContractKey, Contract]]:
        """What is remembered of surges, up to the newest record that the journal told of. It never changes."""
        ...

    def resume(self, contracts: Sequence[tuple[ContractKey, Contract]]) -> None:
        """Go on from what `contracts` gave an earlier process."""
        ...


class Rotated(msgspec.Struct, frozen=True):
    """A segment that is complete: its file, to be closed by whoever gets this, and the state after its last record."""

    file: AppendFile
    checkpoint: Checkpoint


class LocalJournal:
    """Implements `ports.Journal` on a folder that it locks.

    ``on_rotation`` gets every segment that is complete; it must return at once.

    Raises RouterError: journal_locked where another process writes there, journal_corrupt where the chain is broken,
    journal_unavailable where the folder cannot be used; CallerError (invalid_setting) where the journal was kept by the other
    clock, whose times do not compare. ``memory`` is told of every record that is folded when it opens, and goes into checkpoints.
    """

    def __init__(
        self,
        world: World,
        settings: JournalSettings,
        registry: CollectorRegistry,
        software: str = "",
        memory: Memory | None = None,
    ) -> None:
        self._world = world
        self._memory = memory
        self._settings = settings
        self.event_time = settings.clock == "event"
        self._metrics = JournalMetrics(registry)
        self._gate = Gate(settings.remember)
        self._tail = Tail()
        self._now = 0
        self._epoch = 0
        self._replica = ""
        self._kept_by: str | None = None
        self.restored = ""
        self.on_rotation: Callable[[Rotated], None] | None = None
        self._available = True
        self._dirty = False
        self._closed = False
        self._observers: list[Callable[[Sequence[DecisionRecord]], None]] = []
        self._waiting: list[Batch] = []
        self._waiting_rows = 0
        self._notes: deque[ShadowNote] = deque()
        self._scheduled = False
        self._writing: asyncio.Future[Any] | None = None
        try:
            world.disk.make_folder(settings.folder)
            release = world.disk.lock(f"{settings.folder}/lock")
        except OSError as exc:
            raise _unavailable(settings.folder, exc) from exc
        if release is None:
            raise error(
                Problem.JOURNAL_LOCKED,
                f"another process writes the journal in {settings.folder}; give each its own folder",
            )
        self._release: Callable[[], None] = release
        try:
            self._file = self._open(software)
        except BaseException:
            release()
            raise

    @property
    def now(self) -> int:
        if not self.event_time and (wall := self._world.clock.wall()) > self._now:
            self._now = wall
        return self._now

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def available(self) -> bool:
        return self._available

    @property
    def prompt(self) -> bool:
        return self._settings.durability == "os"

    @property
    def sequence(self) -> int:
        """The number of the newest record."""
        return self._tail.seq

    def settled(self, proposal_id: str) -> Decision | None:
        return self._gate.settled(proposal_id)

    def opinions(self) -> list[Opinion]:
        return self._gate.opinions(self.now)

    def owner(self, route: str, symbol: str) -> str | None:
        return self._gate.owner(route, symbol)

    @property
    def levers(self) -> Sequence[Lever]:
        return self._gate.levers

    def latches(self) -> list[tuple[str, str | None]]:
        return self._gate.latches()

    def groups(self) -> list[GroupStanding]:
        return self._gate.standing()

    def documents(self) -> list[tuple[Document, str]]:
        return [
            *(
                (parse_document(record.document, f"the journal's record {record.seq}"), record.place)
                for record in self._gate.routes.values()
                if record.document is not None
            ),
            *(
                (parse_group(group.document, f"the journal's record {group.seq}"), group.place)
                for group in self._gate.groups.values()
                if group.document is not None
            ),
        ]

    async def accept(self, documents: Sequence[tuple[Document, str]]) -> list[Route]:
        routes: list[Route] = []
        known = self._gate.routes
        # Before the routes: a route that comes into force is in its group from its first decision on.
        entries = group_entries(documents, self._gate.groups)
        for document, place in documents:
            if isinstance(document, GroupDocument):
                continue
            route = compile_route(document, place=place)
            routes.append(route)
            if route.name not in known or known[route.name].revision != route.revision:
                entries.append(RouteEntry(route.name, route.revision, place, canonical(document)))
            if not len(routes) % _DOCUMENTS_AT_ONCE:
                await asyncio.sleep(0)
        names = {route.name for route in routes}
        for record in known.values():
            if record.name not in names and record.document is not None:
                entries.append(RouteEntry(record.name, "", "", None))
        for first in range(0, len(entries), _DOCUMENTS_AT_ONCE):
            await self._enqueue(entries[first : first + _DOCUMENTS_AT_ONCE])
        return [msgspec.structs.replace(route, generation=known[route.name].generation) for route in routes]

    @property
    def plans(self) -> Mapping[str, Progress]:
        return self._gate.plans

    async def step(self, route: str, progress: Progress, evidence: dict[str, float]) -> bool:
        gate = self._gate
        entry = PlanEntry(route, progress, evidence, gate.plans.get(route), by_hand(route, gate))
        (record,) = await self._enqueue([entry])
        return record is not None

    async def pull(self, order: Order, base: str = "") -> Lever:
        (record,) = await self._enqueue([LeverEntry(order, base)])
        assert isinstance(record, LeverRecord)
        return record.as_lever()

    def call(self, call: Call) -> asyncio.Future[list[CallRecord]]:
        return self._enqueue([call])

    def subscribe(self, observer: Callable[[Sequence[DecisionRecord]], None]) -> None:
        """Tell ``observer`` of decisions that have been confirmed, in their order. It must be quick, and must not raise."""
        self._observers.append(observer)

    def commit(self, proposals: Sequence[Proposal], *, alone: bool = False) -> asyncio.Future[list[Settled]]:
        return self._enqueue(proposals, alone=alone)

    def _enqueue(
        self, entries: "Sequence[Proposal] | Sequence[Entry]", *, alone: bool = False
    ) -> asyncio.Future[list[Any]]:
        """Settle entries in order, with all others that wait; one answer an entry."""
        if self._closed or self._waiting_rows + len(entries) > _WAITING:
            text = "the journal is closed" if self._closed else f"{self._waiting_rows} entries wait for the disk"
            raise error(Problem.JOURNAL_UNAVAILABLE, text)
        loop = asyncio.get_running_loop()
        batch = Batch(entries, loop.create_future(), self._world.clock.monotonic())
        self._waiting.append(batch)
        self._waiting_rows += len(entries)
        if not self._scheduled and self._writing is None:
            if alone:
                self._flush()
            else:
                self._scheduled = True
                loop.call_soon(self._flush)
        return batch.done

    def rotate_if_due(self) -> None:
        """Go on in another segment where this one is full or old enough; for a journal to which nothing comes."""
        # Between a write and its confirmation the state is not that of the file.
        if not self._closed and self._writing is None and not self._dirty and self._due():
            self._next_segment()

    def try_again(self) -> None:
        """Find out whether records can be written again, where they could not: whoever is not ready for that reason may be given nothing
        to record, which would tell."""
        # With something under way, that will tell.
        if self._available or self._closed or self._scheduled or self._writing is not None:
            return
        if self._dirty and (not self._cut(reopen=True) or self._dirty):
            return
        if self._settings.durability == "fsync":
            self._writing = asyncio.get_running_loop().create_task(self._try_through())
            return
        try:
            self._file.write(_TRIAL)
        except OSError:
            self._cut(reopen=False)
        else:
            self._tried()

    async def _try_through(self) -> None:
        try:
            await self._file.write_and_sync(_TRIAL)
        except OSError:
            self._cut(reopen=False)  # all that is confirmed was on the medium before
        else:
            self._tried()
        finally:
            self._writing = None
            if self._waiting:
                self._flush()

    def _tried(self) -> None:
        if self._cut(reopen=False):
            self._set_available(True)

    @property
    def segment(self) -> str:
        """The name of the segment that is being written."""
        return self._tail.segment

    @property
    def end(self) -> End:
        """Up to where it is confirmed."""
        return End(self._tail.segment, self._tail.size, self._tail.digest)

    def note(self, notes: Sequence[ShadowNote]) -> int:
        taken = notes[: max(0, _NOTES - len(self._notes))]
        self._notes += taken
        return len(taken)

    async def close(self) -> None:
        """Write what waits, then give the folder up."""
        self._closed = True
        while self._scheduled or self._writing is not None:
            if self._writing is not None:
                await asyncio.wait([self._writing])
            else:
                await asyncio.sleep(0)
        try:
            while self._notes and self._available and not self._dirty:
                self._write_now(shadow_record(self._notes.popleft(), seq=self._tail.seq + 1, t=self.now))
        except SignalyardError as exc:
            _log.warning("event=notes_lost count=%d error=%s", len(self._notes) + 1, exc)
        self._file.close()
        self._release()

    # The beginning ---------------------------------------------------------------------------------------------------

    def _open(self, software: str) -> AppendFile:
        folder, settings = self._settings.folder, self._settings
        try:
            checkpoint = newest(self._world.disk, folder)
            if checkpoint is not None:
                self._restore(checkpoint)
            for line in read(self._world.disk, folder, self._tail):
                self._fold(line.record)
                self._metrics.folded.inc()
            tail = self._tail
            if not tail.segment or (checkpoint is not None and tail.segment == checkpoint.segment):
                tail.segment, tail.size = segment_name(segment_number(tail.segment) + 1), 0
            file = self._world.disk.append(f"{folder}/{tail.segment}")
            if tail.torn:
                file.truncate(tail.size)
                self._metrics.cut.inc(tail.torn)
                _log.warning("event=torn_line_cut segment=%s bytes=%d", tail.segment, tail.torn)
        except OSError as exc:
            raise _unavailable(folder, exc) from exc
        if self._kept_by not in (None, settings.clock):
            raise error(
                Problem.INVALID_SETTING,
                f"the journal in {folder} was kept by the {self._kept_by} clock: go on with it, or give another folder",
                "/clock",
            )
        self._epoch = self._epoch or self._first_epoch()
        self._file = file
        self._write_now(
            StartRecord(
                v=VERSION,
                seq=tail.seq + 1,
                t=self.now,
                epoch=self._epoch,
                software=software,
                clock=settings.clock,
                durability=settings.durability,
                cut_bytes=tail.torn,
                prev="",
            )
        )
        tail.torn = 0
        self._metrics.available.set(1)
        return file

    def _first_epoch(self) -> int:
        """One that was never used before by this journal's predecessors, should its folder have been lost."""
        return max(1, self._world.clock.wall() // SECOND)

    def _fold(self, record: Record) -> None:
        """What is changed here, and not in the gate, has its place in `_checkpoint` and `_restore` too."""
        self._now = max(self._now, record.t)
        if isinstance(record, StartRecord):
            self._epoch, self._kept_by = record.epoch, record.clock
        else:
            self._apply(record)
        if self._memory is not None:
            self._memory.remember(record)

    def _apply(self, record: Record, decision: Decision | None = None) -> object | None:
        return fold(self._gate, record, decision)

    def _checkpoint(self) -> Checkpoint:
        tail = self._tail
        return Checkpoint(
            segment=tail.segment,
            seq=tail.seq,
            digest=tail.digest,
            t=tail.t,
            epoch=self._epoch,
            clock=self._settings.clock,
            state=self._gate.snapshot(),
            contracts=self._memory.contracts() if self._memory is not None else (),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        self._tail = Tail(checkpoint.segment, seq=checkpoint.seq, digest=checkpoint.digest, t=checkpoint.t)
        self._now, self._epoch, self._kept_by = checkpoint.t, checkpoint.epoch, checkpoint.clock
        self._gate = Gate.restore(checkpoint.state, self._settings.remember)
        self.restored = checkpoint.segment
        if self._memory is not None:
            # The decisions before it are in the gate alone; the documents are what the ones after it were made under.
            for record in self._gate.routes.values():
                self._memory.remember(record)
            self._memory.resume(checkpoint.contracts)
        _log.info("event=checkpoint_restored segment=%s seq=%d", checkpoint.segment, checkpoint.seq)

    def _write_now(self, record: Record) -> None:
        """Append one record at once, off the path of decisions."""
        line, digest = encode(record, self._tail.digest)
        try:
            self._file.write(line)
            if self._settings.durability == "fsync":
                # Else a sync that fails later would leave this record behind in a closed segment, and a power loss would take
                # it from the middle of the chain.
                self._file.sync()
        except OSError as exc:
            self._cut(reopen=False)
            raise _unavailable(self._settings.folder, exc) from exc
        self._advance(1, len(line), digest, record.t)

    # The group commit ------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._scheduled = False
        batches, self._waiting, self._waiting_rows = self._waiting, [], 0
        if not batches:
            return
        if self._dirty and (not self._cut(reopen=True) or self._dirty):
            self._answer_failure(batches, "the journal cannot be brought back to its last confirmed record")
            return
        group = Group(self._tail.digest, self._tail.digest)
        try:
            self._settle(batches, group)
            self._encode(group)
        except Exception:  # noqa: BLE001 -- whatever it was, those who wait are told
            # A value that cannot be written must not leave everybody who waits without an answer, nor half of it in the gate.
            _log.exception("event=settle_failed folder=%s", self._settings.folder)
            self._take_back(group)
            self._answer_failure(batches, "a record could not be made")
            return
        if self._settings.durability == "fsync":
            self._take_back(group)
            self._writing = asyncio.get_running_loop().create_task(self._write_through(group))
            return
        try:
            self._file.write(b"".join(group.lines))
        except OSError as exc:
            self._take_back(group)
            self._fail(group, exc, reopen=False)
        else:
            self._confirm(group)

    async def _write_through(self, group: Group) -> None:
        try:
            await self._file.write_and_sync(b"".join(group.lines))
        except OSError as exc:
            # What a failed sync left behind is anybody's guess: cut it off, and go on in another file.
            self._fail(group, exc, reopen=True)
        else:
            # Not visible to look-ups before this, so that nothing is answered which is not on the medium.
            self._take_in(group)
            self._confirm(group)
        finally:
            self._writing = None
            if self._waiting:
                self._flush()

    def _settle(self, batches: list[Batch], group: Group) -> None:
        seq = self._tail.seq
        for batch in batches:
            answers: list[Any] = []
            for place, entry in enumerate(batch.entries):
                if place % _ENTRIES_A_LOOK == 0:
                    monotonic = self._world.clock.monotonic()
                    now = self.now
                if isinstance(entry, Proposal):
                    stored = self._gate.settled(entry.proposal_id) if entry.problem is None else None
                    if stored is not None:
                        answers.append(Settled(stored, True))
                        continue
                    seq += 1
                    if self.event_time and entry.problem is None:
                        now = self._now = max(self._now, entry.ts_event)
                    settled = self._decide(entry, seq, now, monotonic)
                    decision = decision_of(settled)
                    group.decisions.append(decision)
                    group.undos.append(self._gate.apply(settled, decision, final=False))
                    answers.append(Settled(decision, False, settled.direction, settled.held))
                    record: Record = settled
                elif overtaken(entry, self._gate):
                    answers.append(None)
                    continue
                else:
                    seq += 1
                    record = self._record(entry, seq, now, monotonic)
                    group.decisions.append(None)
                    group.undos.append(self._apply(record))
                    answers.append(record)
                group.records.append(record)
            group.answers.append((batch, answers))

    def _encode(self, group: Group) -> None:
        """Make the lines of what was settled."""
        digest, lines, records = group.digest, group.lines, group.records
        for record in records:
            line, digest = encode(record, digest)
            lines.append(line)
        # Notes never cause a write of their own: a decision that comes just then would have to wait for it.
        if records:
            last = records[-1]
            for number in range(min(len(self._notes), _NOTES // 10)):
                note = shadow_record(self._notes.popleft(), seq=last.seq + 1 + number, t=last.t)
                line, digest = encode(note, digest)
                lines.append(line)
        group.digest = digest

    def _decide(self, proposal: Proposal, seq: int, now: int, monotonic: int) -> DecisionRecord:
        """What a proposal becomes, given all that was settled before it."""
        settlement = self._gate.admit(proposal, now, late=monotonic > proposal.commit_by)
        elapsed = monotonic - proposal.received
        return record_of(
            proposal, settlement, seq=seq, t=now, epoch=self._epoch, elapsed=elapsed, replica=self._replica
        )

    def _record(self, entry: Entry, seq: int, now: int, monotonic: int) -> Record:
        return record_of_entry(entry, self._gate, seq, now, monotonic)

    def _take_in(self, group: Group) -> None:
        """Fold in again what was taken back."""
        for record, decision in zip(group.records, group.decisions, strict=True):
            self._apply(record, decision)

    def _take_back(self, group: Group) -> None:
        for undo in reversed(group.undos):
            self._gate.revert(undo)

    def _confirm(self, group: Group) -> None:
        self._gate.forget()
        if group.lines:
            self._advance(len(group.lines), sum(map(len, group.lines)), group.digest, group.records[-1].t)
            self._metrics.committed.inc()
            if self._observers:
                decisions = [record for record in group.records if isinstance(record, DecisionRecord)]
                for observer in self._observers:
                    observer(decisions)
            self._set_available(True)
        monotonic = self._world.clock.monotonic()
        for batch, answers in group.answers:
            self._metrics.seconds.observe((monotonic - batch.arrived) / SECOND)
            if not batch.done.done():
                batch.done.set_result(answers)
        if self._due():
            self._next_segment()

    def _due(self) -> bool:
        began, age = self._tail.began, self._settings.segment_age
        return self._tail.size >= self._settings.segment_bytes or (
            age is not None and began > 0 and self.now - began >= age
        )

    def _fail(self, group: Group, cause: OSError, *, reopen: bool) -> None:
        if not group.lines:
            self._confirm(group)
            return
        batches = [batch for batch, _ in group.answers]
        certain = self._cut(reopen=reopen)
        if self._available:
            _log.error("event=commit_failed folder=%s error=%s certain=%s", self._settings.folder, cause, certain)
        self._answer_failure(batches, f"{self._settings.folder}: {cause}", in_doubt=not certain)

    def _answer_failure(self, batches: list[Batch], text: str, *, in_doubt: bool = False) -> None:
        (self._metrics.in_doubt if in_doubt else self._metrics.failed).inc()
        self._set_available(False)
        for batch in batches:
            if not batch.done.done():
                kind = JournalInDoubt(Problem.JOURNAL_UNAVAILABLE, text) if in_doubt else None
                batch.done.set_exception(kind or error(Problem.JOURNAL_UNAVAILABLE, text))

    def _cut(self, *, reopen: bool) -> bool:
        """Bring the file back to its last confirmed record; whether that worked. ``reopen``: go on in another segment."""
        try:
            self._file.truncate(self._tail.size)
        except OSError as exc:
            _log.error("event=cut_failed segment=%s error=%s", self._tail.segment, exc)
            self._dirty = True
            return False
        self._dirty = reopen and not self._next_segment()
        return True

    def _next_segment(self) -> bool:
        name = segment_name(segment_number(self._tail.segment) + 1)
        try:
            file = self._world.disk.append(f"{self._settings.folder}/{name}")
        except OSError as exc:
            # A full segment still takes records, and rotation is tried again after the next commit.
            _log.error("event=rotation_failed segment=%s error=%s", name, exc)
            return False
        if self.on_rotation is not None and self._tail.size:
            self.on_rotation(Rotated(self._file, self._checkpoint()))
        else:
            self._file.close()
        self._file = file
        self._tail.segment, self._tail.size, self._tail.began = name, 0, 0
        return True

    def _advance(self, records: int, size: int, digest: str, t: int) -> None:
        self._tail.seq += records
        self._tail.t = t
        self._tail.began = self._tail.began or t  # on event time the first record may have none
        self._tail.size += size
        self._tail.digest = digest
        self._metrics.records.inc(records)
        self._metrics.bytes.inc(size)
        self._metrics.sequence.set(self._tail.seq)

    def _set_available(self, available: bool) -> None:
        if available != self._available:
            self._available = available
            self._metrics.available.set(int(available))
            _log.log(logging.INFO if available else logging.ERROR, "event=journal_%s", "back" if available else "away")


def _unavailable(folder: str, cause: OSError) -> SignalyardError:
    return error(Problem.JOURNAL_UNAVAILABLE, f"the folder {folder} cannot be used: {cause}")
