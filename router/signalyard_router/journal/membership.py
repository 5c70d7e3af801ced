"""What keeps a replica at the shared log: it reads what it has not heard, and where the log was lost, agrees with the others on a new one.

A log is lost where it is not there, or where its server may have forgotten entries: it is another server than the one that the
epoch began on, or the same one started anew. Then every replica says how far it knows the log; whoever knows it furthest begins the new
epoch with its own state, and the others take that over. What may still be missing are signals that a replica which is gone had given
out; so signals are held back for the longest window.
"""

import asyncio
import contextlib
import logging

import msgspec

from signalyard.problems import CallerError, Problem, RouterError, error
from signalyard.words import Outcome
from signalyard_router.journal.checkpoint import Checkpoint, decode, encode
from signalyard_router.journal.replicated import ReplicatedJournal
from signalyard_router.journal.segments import decode as record_of
from signalyard_router.journal.settings import JournalSettings, SharingSettings
from signalyard_router.ports import LogEntry, LogState, Place, SharedLog, World
from signalyard_router.rules.folding import fold
from signalyard_router.rules.gate import Gate
from signalyard_router.rules.record import DecisionRecord, Record, decision_of
from signalyard_router.rules.units import SECOND

_ENTRIES = 256
"""Entries that are read at once."""
_LONGEST_PAUSE = 1.0

_log = logging.getLogger("signalyard.router.journal")


class Membership:
    """Keeps a journal at its log, in a task of its own."""

    def __init__(
        self,
        world: World,
        settings: JournalSettings,
        sharing: SharingSettings,
        journal: ReplicatedJournal,
        log: SharedLog,
    ) -> None:
        self._clock = world.clock
        self._random_bytes = world.random_bytes
        self._settings = settings
        self._sharing = sharing
        self._journal = journal
        self._log = log
        self._metrics = metrics = journal.sharing_metrics
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._told = ""
        metrics.recovering.set_function(lambda: float(journal.joined.is_set() and journal.recovering))
        journal.on_loss = self._on_loss
        journal.on_snapshot = self._on_snapshot

    async def start(self) -> None:
        """Join the log. Raises RouterError (journal_unavailable) where it cannot be joined in time, CallerError (invalid_setting) where
        it never will be."""
        try:
            async with asyncio.timeout(self._sharing.start_seconds):
                pause = self._sharing.retry_seconds
                while not await self._joined():
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        except TimeoutError as exc:
            text = (
                f"the log {self._log.name} could not be joined within {self._sharing.start_seconds:g} s: {self._told}"
            )
            raise error(Problem.JOURNAL_UNAVAILABLE, text) from exc
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Leave."""
        self._journal.on_loss = self._journal.on_snapshot = None
        tasks = [task for task in (self._task, self._keeping) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._log.close()

    def _on_loss(self, why: str) -> None:
        self._wake.set()

    # Looking ---------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = self._sharing.retry_seconds
        while True:
            joined = self._journal.joined.is_set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._sharing.look_seconds if joined else pause):
                    await self._wake.wait()
            self._wake.clear()
            try:
                if self._journal.joined.is_set():
                    await self._look()
                    pause = self._sharing.retry_seconds
                elif not await self._joined():
                    pause = min(2 * pause, _LONGEST_PAUSE)
            except CallerError as exc:
                self._tell(str(exc))
            except RouterError as exc:
                self._journal.lose(str(exc))
            except Exception:  # noqa: BLE001 -- whatever it met, it must look again
                _log.exception("event=log_look_failed log=%s", self._log.name)
                self._journal.lose("a look at it failed")

    async def _look(self) -> None:
        """See whether the log is still what it was; on an idle replica nothing else would."""
        before = self._journal.place
        state = await self._log.state()
        if state is None or not state.whole or state.place.epoch != before.epoch:
            self._journal.lose("the log is another one, or may have lost entries")
        elif state.place.position < before.position:
            self._journal.lose("the log has lost entries")
        elif state.place.position > before.position and self._journal.place == before:
            self._journal.lose("entries of the log were not heard")
        self._journal.pay()

    def _tell(self, why: str) -> None:
        if why != self._told:
            _log.error('event=log_not_joined log=%s reason="%s"', self._log.name, why)
        self._told = why

    # Joining ---------------------------------------------------------------------------------------------------------

    async def _joined(self) -> bool:
        """Read what is not known yet, or begin anew. False where it did not work this time, which was said. Raises CallerError."""
        try:
            await self._log.open(self._journal)
            state = await self._log.state()
            if state is not None:
                self._same_clock(state)
            if state is None or not await self._caught_up(state) or not state.whole:
                await self._recover(state)
        except RouterError as exc:
            self._tell(str(exc))
            return False
        if not self._journal.pay():
            self._tell("records of before wait for the folder")
            return False
        self._told = ""
        self._journal.resume()
        return True

    def _same_clock(self, state: LogState) -> None:
        if state.clock != self._settings.clock:
            raise error(
                Problem.INVALID_SETTING,
                f"the log {self._log.name} is kept by the {state.clock} clock: all replicas need the same one",
                "/clock",
            )

    async def _caught_up(self, state: LogState) -> bool:
        """Stand where the log stands; by what is missing, or where that is not there any more, by the state that was kept.

        False where this replica knows what the log does not: it has lost something.
        """
        place = self._journal.place
        if place.epoch > state.place.epoch:
            return False
        if place.epoch == state.place.epoch and place.token:
            if place.position > state.place.position:
                return False
            same = place == state.place
            if not same:
                found = await self._log.entries(place.epoch, place.position - 1, 1)
                at = found[0] if found and found[0].position == place.position else await self._log.snapshot()
                same = at is not None and at.position == place.position
                if same and at is not None and at.token != place.token:
                    return False
            if same:
                self._journal.join(place, state.held_from)
                await self._follow()
                return True
        await self._adopt(state)
        await self._follow()
        return True

    async def _follow(self) -> None:
        """Take in the entries that are missing."""
        journal = self._journal
        while True:
            place = journal.place
            found = await self._log.entries(place.epoch, place.position, _ENTRIES)
            for entry in found:
                journal.took(place.epoch, entry)
                await asyncio.sleep(0)
            if journal.place == place and found:
                raise error(Problem.JOURNAL_UNAVAILABLE, f"the log {self._log.name} has a gap behind {place.position}")
            if not found and not journal.behind:
                return
            if not found and journal.place == place:
                raise error(Problem.JOURNAL_UNAVAILABLE, f"the log {self._log.name} no longer has what it told of")

    async def _adopt(self, state: LogState) -> None:
        """Take over the state that was kept. What the log remembers before it are decisions that may be asked for again."""
        kept = await self._log.snapshot()
        if kept is None:
            raise error(Problem.JOURNAL_UNAVAILABLE, f"the log {self._log.name} has no state beside it")
        try:
            checkpoint = decode([kept.body])
        except ValueError as exc:
            text = f"the state beside the log {self._log.name} cannot be read: {exc}"
            raise error(Problem.JOURNAL_UNAVAILABLE, text) from exc
        epoch = checkpoint.epoch
        if epoch != state.place.epoch:
            raise error(Problem.JOURNAL_UNAVAILABLE, f"the log {self._log.name} is just being begun anew")
        # What was answered here before stands: a state that was begun with remembers no decisions, and its log has none.
        recent = {decision.proposal_id: decision for decision in self._journal.remembered}
        counts: list[tuple[int, int]] = []
        after = 0
        newer: list[LogEntry] = []
        own: list[str] = []
        while found := await self._log.entries(epoch, after, _ENTRIES):
            for entry in found:
                after = entry.position
                if self._journal.doubts(entry.token):
                    own.append(entry.token)
                if entry.position > checkpoint.seq:
                    newer.append(entry)
                    continue
                decisions = [record for record in _records(entry) if isinstance(record, DecisionRecord)]
                for decided in decisions:
                    if decided.outcome is not Outcome.REJECTED:
                        recent[decided.proposal_id] = decision_of(decided)
                counts.append((entry.position, len(decisions)))
                await asyncio.sleep(0)
        known = msgspec.structs.replace(checkpoint.state, recent=list(recent.values()))
        gate = Gate.restore(known, self._settings.remember)
        place, t = Place(epoch, checkpoint.seq, checkpoint.digest), checkpoint.t
        for entry in newer:
            if entry.position != place.position + 1:
                raise error(Problem.JOURNAL_UNAVAILABLE, f"the log {self._log.name} has a gap behind {place.position}")
            records = _records(entry)
            for record in records:
                fold(gate, record)
                t = max(t, record.t)
            place = Place(epoch, entry.position, entry.token)
            counts.append((entry.position, sum(isinstance(record, DecisionRecord) for record in records)))
            await asyncio.sleep(0)
        self._journal.join(place, state.held_from, gate, t)
        self._journal.landed(own)
        for position, count in counts:
            self._journal.remember(position, count)

    # After a loss ----------------------------------------------------------------------------------------------------

    async def _recover(self, lost: LogState | None) -> None:
        """Begin a new epoch, or take over the one that another replica has begun. Raises RouterError."""
        _log.error("event=log_recovery log=%s known=%d-%d", self._log.name, *self._known())
        await self._log.offer(self._journal.place, self._journal.newest)
        await asyncio.sleep(self._sharing.election_seconds)
        while True:
            furthest = await self._log.offer(self._journal.place, self._journal.newest)
            state = await self._log.state()
            if state is not None and state.whole and (lost is None or state.place.epoch != lost.place.epoch):
                self._same_clock(state)
                if await self._caught_up(state):
                    self._metrics.adopted.inc()
                    return
            if furthest and await self._begin(state):
                self._metrics.begun.inc()
                return
            await asyncio.sleep(self._sharing.election_seconds / 4)

    async def _begin(self, lost: LogState | None) -> bool:
        journal = self._journal
        seconds = self._clock.wall() // SECOND
        before = lost.place if lost is not None else None
        epoch = max(seconds, journal.place.epoch + 1, journal.epoch + 1, before.epoch + 1 if before is not None else 1)
        position = max(journal.place.position, before.position if before is not None else 0)
        place = Place(epoch, position, self._random_bytes(12).hex())
        now = journal.now
        state = LogState(place, whole=True, held_from=now, clock=self._settings.clock)
        checkpoint = journal.checkpoint()
        checkpoint = Checkpoint(
            segment="",
            seq=place.position,
            digest=place.token,
            t=now,
            epoch=epoch,
            clock=checkpoint.clock,
            state=checkpoint.state,
        )
        body = b"".join([piece async for piece in encode(checkpoint)])
        if not await self._log.begin(before, state, LogEntry(place.position, place.token, body)):
            return False
        _log.error("event=log_begun log=%s epoch=%d position=%d", self._log.name, epoch, place.position)
        journal.join(place, now)
        return True

    def _known(self) -> tuple[int, int]:
        return self._journal.place.epoch, self._journal.place.position

    # The state beside the log ----------------------------------------------------------------------------------------

    def _on_snapshot(self, checkpoint: Checkpoint, forget: int) -> None:
        if self._keeping is None or self._keeping.done():
            self._keeping = asyncio.get_running_loop().create_task(self._keep(checkpoint, forget))

    async def _keep(self, checkpoint: Checkpoint, forget: int) -> None:
        body = b"".join([piece async for piece in encode(checkpoint)])
        try:
            await self._log.keep(checkpoint.epoch, LogEntry(checkpoint.seq, checkpoint.digest, body), forget)
        except RouterError as exc:
            self._metrics.not_kept.inc()
            _log.error("event=log_snapshot_failed log=%s error=%s", self._log.name, exc)
        else:
            self._metrics.kept.inc()


def _records(entry: LogEntry) -> list[Record]:
    return [record_of(f"entry {entry.position} of the log", 0, line) for line in entry.body.split(b"\n")]
