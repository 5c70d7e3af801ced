"""The journal of one replica of several: the gate of the local journal, and one log that all of them share.

A group commit is settled on the state after the log's newest entry, and appended only if that is still the newest one; else what others
appended is folded in first, and the group is settled again. So there is one gate, and one order, and a rule is written once. What the
log holds is folded by every replica, and written into its own segments: what it decided itself in full, what others decided without
input and steps.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from signalyard.problems import Problem, RouterError, SignalyardError, error
from signalyard.wire import Decision
from signalyard.words import Outcome, Reason
from signalyard_router.journal.checkpoint import Checkpoint
from signalyard_router.journal.entries import Entry
from signalyard_router.journal.local import Batch, Group, LocalJournal, Memory
from signalyard_router.journal.metrics import SharingMetrics
from signalyard_router.journal.segments import decode, encode
from signalyard_router.journal.settings import JournalSettings, SharingSettings
from signalyard_router.ports import Appended, JournalInDoubt, LogEntry, Place, SharedLog, World
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.gate import Gate
from signalyard_router.rules.inference import Call
from signalyard_router.rules.levers import Lever
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.record import (
    SIGNALS,
    VERSION,
    CallRecord,
    DecisionRecord,
    GroupRecord,
    LeverRecord,
    Record,
    RouteRecord,
    StartRecord,
)
from signalyard_router.rules.route import Route, compile_route
from signalyard_router.rules.units import SECOND, nanoseconds

_LOSSES = 3
"""Others' entries that a commit lets past before it asks for the next turn."""
_TURN_SECONDS = 0.0005
"""The pause while it is another replica's turn."""
_TOO_LATE = 2
"""How often an entry may come too late before its commit is refused; the first time may be a clock that was set."""
_OWED = 100_000
"""Records that may wait for a folder that cannot be written; beyond it the replica gives the log up."""

_encoder = msgspec.json.Encoder()
_log = logging.getLogger("signalyard.router.journal")


class _Sent(msgspec.Struct):
    """A group that is on its way to the log, or in doubt. ``place`` is the one that it was settled on, ``landed`` that it stands in the log,
    ``answered`` that whoever waits was told so."""

    place: Place
    entry: LogEntry
    group: Group
    answer: asyncio.Future[Appended]
    timer: asyncio.TimerHandle
    landed: bool = False
    answered: bool = False
    proposals: frozenset[str] | None = None
    instruments: frozenset[tuple[str, str]] | None = None

    def holds(self, proposal_id: str) -> bool:
        """Whether a proposal is in it."""
        if self.proposals is None:
            self.proposals = frozenset(record.proposal_id for record in self._decisions())
        return proposal_id in self.proposals

    def moves(self, route: str, symbol: str) -> bool:
        """Whether something of an instrument is in it."""
        if self.instruments is None:
            self.instruments = frozenset((record.route, record.symbol) for record in self._decisions())
        return (route, symbol) in self.instruments

    def _decisions(self) -> list[DecisionRecord]:
        return [record for record in self.group.records if isinstance(record, DecisionRecord)]


class ReplicatedJournal(LocalJournal):
    """Implements `ports.Journal` for a replica; its folder is its own. See `Membership`, which keeps it at the log.

    ``on_change`` hears that another replica recorded something other than decisions: with True that documents are among it.
    Raises what `LocalJournal` does; CallerError (invalid_setting) for a durability that is Redis's to give.
    """

    def __init__(
        self,
        world: World,
        settings: JournalSettings,
        sharing: SharingSettings,
        log: SharedLog,
        registry: CollectorRegistry,
        software: str = "",
        memory: Memory | None = None,
    ) -> None:
        if settings.durability != "os":
            text = "replicas share a log, and whether that is on a medium is Redis's setting appendfsync: leave this one at os"
            raise error(Problem.INVALID_SETTING, text, "/durability")
        self._place = Place()
        self._held_from = 0
        self._hold_until = 0
        self._joined = asyncio.Event()
        self._stalled = False
        self._heard = 0
        self._name, self._entries = world.random_bytes(12).hex(), 0
        self._sent: dict[str, _Sent] = {}
        self._ahead: _Sent | None = None
        self._owed: list[Record] = []
        self._decisions: deque[tuple[int, int]] = deque()
        self._remembered = 0
        self._software = software
        self._sharing = sharing
        self._log = log
        self.sharing_metrics = SharingMetrics(registry)
        self.on_change: Callable[[bool], None] | None = None
        self.on_loss: Callable[[str], None] | None = None
        self.on_snapshot: Callable[[Checkpoint, int], None] | None = None
        self._routes: dict[str, Route] = {}
        self._rebased = False
        self._hearing = False
        super().__init__(world, settings, registry, software, memory)
        self._replica = sharing.replica
        self._available = False
        self._metrics.available.set(0)
        # Of the log's last epoch this much is known, and not how far; it counts where nobody knows more.
        self._place = Place(self._epoch)

    @property
    def prompt(self) -> bool:
        return False

    # What is ahead of the log ----------------------------------------------------------------------------------------

    # A group of decisions stays in the gate while it is on its way to the log: nearly always it arrives, and need not be folded twice.
    # Whoever looks at the gate before that takes it out first, but for those who ask for what it does not touch.

    @property
    def _gate(self) -> Gate:
        if self._ahead is not None:
            self._fall_back()
        return self._state

    @_gate.setter
    def _gate(self, gate: Gate) -> None:
        self._fall_back()
        self._state = gate

    def _fall_back(self) -> None:
        """The gate as the log has it."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            self._take_back(ahead.group)

    def settled(self, proposal_id: str) -> Decision | None:
        if self._ahead is not None and self._ahead.holds(proposal_id):
            return None
        return self._state.settled(proposal_id)

    def owner(self, route: str, symbol: str) -> str | None:
        if self._ahead is not None and self._ahead.moves(route, symbol):
            self._fall_back()
        return self._state.owner(route, symbol)

    @property
    def levers(self) -> Sequence[Lever]:
        return self._state.levers

    @property
    def plans(self) -> Mapping[str, Progress]:
        return self._state.plans

    # What is known ---------------------------------------------------------------------------------------------------

    @property
    def place(self) -> Place:
        """The newest entry that was folded in."""
        return self._place

    def in_force(self) -> list[Route]:
        """The routes of `documents`, whoever took them into force, under their generations."""
        found: dict[str, Route] = {}
        for name, record in self._gate.routes.items():
            if record.document is None:
                continue
            route = self._routes.get(name)
            if route is None or (route.revision, route.generation) != (record.revision, record.generation):
                document = parse_document(record.document, f"the journal's record {record.seq}")
                compiled = compile_route(document, place=record.place)
                route = msgspec.structs.replace(compiled, generation=record.generation)
            found[name] = route
        self._routes = found
        return list(found.values())

    @property
    def newest(self) -> int:
        """The journal's time of the newest record that is known, UTC nanoseconds."""
        return self._tail.t

    @property
    def joined(self) -> asyncio.Event:
        """Set while every entry of the log is heard of."""
        return self._joined

    @property
    def recovering(self) -> bool:
        """Whether signals are held back, because records may have been lost that they could repeat."""
        return self.now < self._hold_until

    # What is heard of the log -----------------------------------------------------------------------------------------

    def took(self, epoch: int, entry: LogEntry) -> None:
        """An entry was appended. One that is older than what is known is passed over; behind a gap the log is read again."""
        if epoch != self._place.epoch:
            if self._joined.is_set() and epoch > self._place.epoch:
                self.lose(f"the log goes on under epoch {epoch}")
            return
        self._heard = max(self._heard, entry.position)
        if not self._hearing:
            return
        if entry.position == self._place.position + 1:
            try:
                self._fold_entry(entry)
            except SignalyardError as exc:
                self.lose(f"an entry of the log cannot be read: {exc}")
        elif entry.position > self._place.position and self._joined.is_set():
            self.lose("entries of the log were not heard")

    def away(self) -> None:
        """The log can no longer be heard."""
        self.lose("the connection to the log ended")

    def lose(self, why: str) -> None:
        """Decide nothing until the log has been read again."""
        self._hearing = False
        if self._joined.is_set():
            self._joined.clear()
            self.sharing_metrics.joined.set(0)
            self._set_available(False)
            _log.error('event=log_lost log=%s place=%d-%d reason="%s"', self._log.name, *self._at(), why)
        if self.on_loss is not None:
            self.on_loss(why)

    @property
    def behind(self) -> bool:
        """Whether the log holds entries that were heard of and not taken in."""
        return self._heard > self._place.position

    def join(self, place: Place, held_from: int, state: Gate | None = None, t: int = 0) -> None:
        """Take in what follows on ``place``. ``state`` is the gate as it is there, at the journal's time ``t``, where it is not the one at
        hand."""
        self._hearing = True
        if state is not None:
            self._gate = state
            self._now = max(self._now, t)
            self._decisions.clear()
            self._remembered = 0
        moved = place.epoch != self._place.epoch or state is not None
        self._place, self._epoch = place, place.epoch
        self._heard = place.position
        self._held_from = held_from
        self._hold()
        if moved:
            # The file knows nothing of what was decided while this replica was not there: a checkpoint stands in for it.
            self._rebased = True
            self._store([self._start()])

    @property
    def remembered(self) -> Sequence[Decision]:
        """The decisions that may be asked for again, oldest first."""
        return self._gate.snapshot().recent

    def doubts(self, token: str) -> bool:
        """Whether it is not known here what became of an entry."""
        return token in self._sent

    def landed(self, tokens: Sequence[str]) -> None:
        """These entries, which were in doubt, are in the state that was taken over; their full records are nowhere else than here."""
        for token in tokens:
            sent = self._sent.pop(token)
            sent.landed = True
            self._store(sent.group.records)

    def resume(self) -> None:
        """Everything is heard of: decide again."""
        self._joined.set()
        self.sharing_metrics.joined.set(1)
        self.sharing_metrics.epoch.set(self._place.epoch)
        self._set_available(not self._owed)
        _log.info("event=log_joined log=%s place=%d-%d recovering=%s", self._log.name, *self._at(), self.recovering)
        if self.on_change is not None:
            self.on_change(True)

    def remember(self, position: int, decisions: int) -> None:
        """An entry with so many decisions is in the log; how many must stay there follows from it."""
        self._decisions.append((position, decisions))
        self._remembered += decisions
        while self._remembered - self._decisions[0][1] >= self._settings.remember:
            self._remembered -= self._decisions.popleft()[1]

    @property
    def oldest_needed(self) -> int:
        """The position of the oldest entry that a new replica needs for its memory of decisions."""
        return self._decisions[0][0] if self._decisions else self._place.position + 1

    def checkpoint(self) -> Checkpoint:
        """The state at `place`, without the decisions that the log itself remembers."""
        state = msgspec.structs.replace(self._gate.snapshot(), recent=[])
        return Checkpoint(
            segment="",
            seq=self._place.position,
            digest=self._place.token,
            t=self._now,
            epoch=self._place.epoch,
            clock=self._settings.clock,
            state=state,
        )

    def _fold_entry(self, entry: LogEntry) -> None:
        sent = self._sent.get(entry.token)
        prompt = sent is not None and self._ahead is sent
        if sent is not None:
            sent.landed = True
            self._prepare(sent)
            records: Sequence[Record] = sent.group.records
            if prompt:
                self._ahead = None
                self._state.forget()
            else:
                self._take_in(sent.group)
        else:
            records = [decode(f"entry {entry.position} of the log", 0, line) for line in entry.body.split(b"\n")]
            self.sharing_metrics.foreign.inc()
            for record in records:
                self._apply(record)
        self._now = max(self._now, max([record.t for record in records]))
        self._place = Place(self._place.epoch, entry.position, entry.token)
        self._heard = max(self._heard, entry.position)
        if self._sent:
            self._sent = {token: kept for token, kept in self._sent.items() if kept.entry.position > entry.position}
        if sent is not None and sent.group.lines and sent.group.before == self._tail.digest and not self._owed:
            self._write_lines(records, sent.group.lines, sent.group.digest)
        else:
            self._store(records)
        decisions = [record for record in records if isinstance(record, DecisionRecord)]
        self.remember(entry.position, len(decisions))
        if decisions:
            for observer in self._observers:
                observer(decisions)
        if len(decisions) < len(records):
            self._changed(records, foreign=sent is None)
        if self._due():
            self._next_segment()
        if sent is not None and entry.position % self._sharing.snapshot_every == 0 and self.on_snapshot is not None:
            self.on_snapshot(self.checkpoint(), self.oldest_needed)
        if sent is not None and prompt:
            # `_came` would say the same, a turn of the loop later.
            self._stalled = False
            self._tell(sent)

    def _changed(self, records: Sequence[Record], *, foreign: bool) -> None:
        documents = any(isinstance(record, RouteRecord | GroupRecord) for record in records)
        if documents:
            self._hold()
        if foreign and self.on_change is not None:
            self.on_change(documents)

    def _hold(self) -> None:
        """After a loss, signals wait for the longest window: what they would repeat may be what was lost."""
        documents = [record.document for record in self._gate.routes.values()]
        documents += [record.document for record in self._gate.groups.values()]
        windows = [nanoseconds(document["spec"]["dedupe"]["window"]) for document in documents if document]
        self._hold_until = self._held_from + max(windows, default=0)

    # Own segments ----------------------------------------------------------------------------------------------------

    def _start(self) -> StartRecord:
        return StartRecord(
            v=VERSION,
            seq=0,
            t=self.now,
            epoch=self._epoch,
            software=self._software,
            clock=self._settings.clock,
            durability=self._settings.durability,
            prev="",
        )

    def _store(self, records: Sequence[Record]) -> None:
        """Write records behind those that are there already."""
        self._owed += records
        self.pay()
        if len(self._owed) > _OWED:
            self.lose(f"{len(self._owed)} records wait for {self._settings.folder}")

    def try_again(self) -> None:
        # Whether the log is there is seen by looks at it.
        if not (self._available or self._closed or self._stalled) and self._writing is None and self._joined.is_set():
            self._set_available(self.pay())

    def pay(self) -> bool:
        """Write what is in the log and could not be written into the own segments; whether all of it is."""
        if not self._owed:
            return True
        if self._dirty and (not self._cut(reopen=True) or self._dirty):
            return False
        lines: list[bytes] = []
        digest = self._tail.digest
        for seq, record in enumerate(self._owed, start=self._tail.seq + 1):
            line, digest = encode(msgspec.structs.replace(record, seq=seq, prev=""), digest)
            lines.append(line)
        records, self._owed = self._owed, []
        self._write_lines(records, lines, digest)
        return not self._owed

    def _write_lines(self, records: Sequence[Record], lines: Sequence[bytes], digest: str) -> None:
        try:
            self._file.write(b"".join(lines))
        except OSError as exc:
            # They are in the log, and count. The full ones are nowhere else: nothing more is decided before they are written.
            self._cut(reopen=False)
            self._owed = list(records)
            self._set_available(False)
            _log.error(
                "event=segment_unwritten folder=%s records=%d error=%s", self._settings.folder, len(records), exc
            )
        else:
            self._advance(len(lines), sum(map(len, lines)), digest, records[-1].t)

    def _due(self) -> bool:
        if self._owed:
            return False
        return (self._rebased and self.on_rotation is not None) or super()._due()

    def _first_epoch(self) -> int:
        return 0  # it is the log's to give

    def _next_segment(self) -> bool:
        done = super()._next_segment()
        self._rebased = self._rebased and not done
        return done

    # The group commit ------------------------------------------------------------------------------------------------

    def _enqueue(
        self, entries: "Sequence[Proposal] | Sequence[Entry]", *, alone: bool = False
    ) -> asyncio.Future[list[Any]]:
        passes = isinstance(entries[0], Call)  # a call that is passed through needs no log
        if not passes and (not self._joined.is_set() or self._stalled):
            text = "does not answer" if self._stalled else "is not reached"
            raise error(Problem.JOURNAL_UNAVAILABLE, f"the log {self._log.name} {text}")
        return super()._enqueue(entries, alone=alone)

    def _flush(self) -> None:
        self._scheduled = False
        batches, self._waiting, self._waiting_rows = self._waiting, [], 0
        if not batches:
            return
        if not self.pay():
            self._answer_failure(batches, f"records of before wait for {self._settings.folder}")
            return
        try:
            sent = self._send(batches, insist=False)
        except Exception:  # noqa: BLE001 -- whatever it was, those who wait are told
            self._unsettled(batches)
        else:
            if sent is not None:
                self._writing = sent.answer
                sent.answer.add_done_callback(lambda _: self._came(batches, sent))

    def _came(self, batches: list[Batch], sent: _Sent) -> None:
        """The first answer is there. Nearly always that was all; a task is for what takes more than one."""
        if sent.landed and sent.answer.exception() is None and sent.answer.result() is Appended.DONE:
            sent.timer.cancel()
            self._writing, self._stalled = None, False
            self._tell(sent)
            if self._waiting:
                self._flush()
        else:
            self._writing = asyncio.get_running_loop().create_task(self._commit(batches, sent))

    def _unsettled(self, batches: list[Batch]) -> None:
        _log.exception("event=settle_failed log=%s", self._log.name)
        self._answer_failure(batches, "a record could not be made")

    async def _commit(self, batches: list[Batch], sent: _Sent) -> None:
        try:
            await self._append(batches, sent)
        except JournalInDoubt as exc:
            self._answer_failure(batches, exc.detail, in_doubt=True)
        except RouterError as exc:
            self._answer_failure(batches, exc.detail)
        except Exception:  # noqa: BLE001 -- whatever it was, those who wait are told
            self._unsettled(batches)
        finally:
            self._writing = None
            if self._waiting:
                self._flush()

    def _send(self, batches: list[Batch], *, insist: bool) -> _Sent | None:
        """Settle batches and send what comes of it to the log. None where there is nothing to send: then they are answered."""
        place, group = self._place, Group(self._tail.digest, self._tail.digest)
        sent: _Sent | None = None
        try:
            self._settle(batches, group)
            if not all(isinstance(record, CallRecord) for record in group.records):
                sent = self._begin(place, group, insist=insist)
            else:
                self._encode(group)
        finally:
            if sent is not None and None not in group.decisions:
                self._ahead = sent
            else:
                self._take_back(group)
        if sent is None:
            # Calls that are passed through are nobody else's business, and may be large.
            if group.records:
                self._write_lines(group.records, group.lines, group.digest)
            self._answer(group)
        return sent

    def _begin(self, place: Place, group: Group, *, insist: bool) -> _Sent:
        """Send a group's entry. What is not needed for that is done while the log is at work."""
        entry = self._entry([record for record in group.records if not isinstance(record, CallRecord)])
        signals = [
            _encoder.encode(decision.signal)
            for decision in group.decisions
            if decision is not None and decision.signal is not None
        ]
        loop = asyncio.get_running_loop()
        answer = self._log.append(place, entry, signals, insist=insist)
        timer = loop.call_later(self._sharing.patience_seconds, self._stall)
        sent = self._sent[entry.token] = _Sent(place, entry, group, answer, timer)
        loop.call_soon(self._prepare, sent)
        return sent

    def _prepare(self, sent: _Sent) -> None:
        """Make the lines that are written once the entry is in the log; once, for the answer may be read before the loop's next turn."""
        group = sent.group
        if group.lines:
            return
        try:
            self._encode(group)
        except Exception:  # noqa: BLE001 -- the entry is on its way, and what it holds could be written
            _log.exception("event=record_unwritable log=%s", self._log.name)
            group.lines, group.records = [], [_slim(record) for record in group.records]

    async def _append(self, batches: list[Batch], sent: _Sent) -> None:
        """Wait until it is known what became of the batches, and settle and send them again where others were first. Raises RouterError:
        in no record; JournalInDoubt."""
        tried: list[_Sent] = []
        losses = late = 0
        while True:
            place = sent.place
            tried.append(sent)
            became = await self._became(sent)
            if became is Appended.DONE and not sent.landed and place == self._place:
                self._fold_entry(sent.entry)
            landed = next((one for one in tried if one.landed), None)
            if landed is not None:
                self._tell(landed)
                return
            if became is Appended.DONE:
                raise JournalInDoubt(
                    Problem.JOURNAL_UNAVAILABLE, "the log took an entry behind a place that is not its own"
                )
            if became is not None:
                # It is certain that this one is not in the log; of one in doubt it is not.
                tried.remove(sent)
                self._sent.pop(sent.entry.token, None)
            match became:
                case Appended.BEHIND:
                    losses += 1
                    self.sharing_metrics.conflicts.inc()
                    if place == self._place:
                        self.lose("entries of the log were not heard")
                case Appended.WAIT:
                    await asyncio.sleep(_TURN_SECONDS)
                case Appended.LATE:
                    late += 1
                    if late >= _TOO_LATE:
                        raise error(Problem.JOURNAL_UNAVAILABLE, f"the log {self._log.name} takes entries up too late")
                case Appended.LOST:
                    self.lose("the log is another one, or may have lost entries")
                    if not tried:
                        raise error(Problem.JOURNAL_UNAVAILABLE, f"the log {self._log.name} was lost")
            if not self._joined.is_set():
                await self._rejoined(in_doubt=bool(tried))
            if all(batch.done.done() for batch in batches):
                return  # nobody waits any more, and each was told that it is not known
            _begin_again(batches)
            again = self._send(batches, insist=losses >= _LOSSES)
            if again is None:
                return
            sent = again

    async def _became(self, sent: _Sent) -> Appended | None:
        """What became of an entry; None where no answer came. Raises RouterError."""
        try:
            return await sent.answer
        except JournalInDoubt:
            return None
        except RouterError:
            self._sent.pop(sent.entry.token, None)
            raise
        finally:
            sent.timer.cancel()
            self._stalled = False
            if not sent.landed:
                self._fall_back()

    async def _rejoined(self, *, in_doubt: bool) -> None:
        """Wait until the log has been read again. Raises RouterError, or JournalInDoubt."""
        try:
            async with asyncio.timeout(self._sharing.doubt_seconds):
                await self._joined.wait()
        except TimeoutError as exc:
            text = f"the log {self._log.name} was lost"
            if in_doubt:
                raise JournalInDoubt(Problem.JOURNAL_UNAVAILABLE, text) from exc
            raise error(Problem.JOURNAL_UNAVAILABLE, text) from exc

    def _stall(self) -> None:
        """The log takes its time. What waits behind it was not sent: it is certain that it is in no record."""
        self._stalled = True
        batches, self._waiting, self._waiting_rows = self._waiting, [], 0
        if batches:
            self._answer_failure(batches, f"the log {self._log.name} does not answer")

    def _entry(self, records: Sequence[Record]) -> LogEntry:
        self._entries += 1
        token = f"{self._name}-{self._entries}"
        body = b"\n".join([_encoder.encode(_slim(record)) for record in records])
        return LogEntry(self._place.position + 1, token, body)

    def _decide(self, proposal: Proposal, seq: int, now: int, monotonic: int) -> DecisionRecord:
        record = super()._decide(proposal, seq, now, monotonic)
        if record.outcome in SIGNALS and record.t < self._hold_until:
            return msgspec.structs.replace(
                record,
                outcome=Outcome.SUPPRESSED,
                reason=Reason.JOURNAL_RECOVERING,
                handover=False,
                signal_id=None,
                epoch=0,
                signal_seq=0,
                prev_seq=0,
                ts_expire=0,
            )
        return record

    def _record(self, entry: Entry, seq: int, now: int, monotonic: int) -> Record:
        record = super()._record(entry, seq, now, monotonic)
        if isinstance(record, LeverRecord):
            # The lines of a replica are its own count; the log's is the same for all.
            place = f"{self._place.position + 1}"
            further = seq - self._tail.seq - 1
            return msgspec.structs.replace(record, id=f"l-{place}-{further}" if further else f"l-{place}")
        return record

    def _tell(self, sent: _Sent) -> None:
        """What stands in the log is told once."""
        if not sent.answered:
            sent.answered = True
            self._answer(sent.group)

    def _answer(self, group: Group) -> None:
        self._metrics.committed.inc()
        if self._joined.is_set() and not self._owed:
            self._set_available(True)
        monotonic = self._world.clock.monotonic()
        for batch, answers in group.answers:
            self._metrics.seconds.observe((monotonic - batch.arrived) / SECOND)
            if not batch.done.done():
                batch.done.set_result(answers)

    def _at(self) -> tuple[int, int]:
        return self._place.epoch, self._place.position


def _slim(record: Record) -> Record:
    """A record with no more than folding needs."""
    return msgspec.structs.replace(record, input=None, steps=()) if isinstance(record, DecisionRecord) else record


def _begin_again(batches: Sequence[Batch]) -> None:
    """Take back what settling made of proposals: the next time they start from another state."""
    for batch in batches:
        for entry in batch.entries:
            if isinstance(entry, Proposal) and entry.answer is not None and entry.rules.mapping is not None:
                entry.direction = entry.abstain = entry.objection = entry.position = entry.held = None
