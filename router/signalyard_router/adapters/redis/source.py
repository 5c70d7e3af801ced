"""Snapshots from a stream, by a consumer group.

**An entry is acknowledged when the journal has its decisions**, and not before; who asks for a reply has it by then. What a router leaves
unfinished when it dies, another one takes over, or itself under the same name: the same snapshots have the same identity, so they
get the decisions that were made, and no second signal. What cannot be decided at all is set aside, with the reason.

Three tasks: one reads, one looks after the group, one writes what is finished, many entries at once; and one for each entry under way.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import msgspec

from signalyard._redis.connection import Asking, Command
from signalyard._redis.errors import LostError, RedisWireError, RefusedError
from signalyard._redis.keys import Keys
from signalyard.problems import CallerError, Problem, ProblemDetails, describe
from signalyard_router.adapters.redis.answering import Answering, Deciding, Work
from signalyard_router.adapters.redis.entries import Entry, answer, read_request, reply_key, set_aside
from signalyard_router.adapters.redis.group import Group
from signalyard_router.adapters.redis.metrics import RedisMetrics
from signalyard_router.adapters.redis.pause import Pause
from signalyard_router.adapters.redis.settings import RedisSettings
from signalyard_router.adapters.redis.turns import Turn, Turns
from signalyard_router.flow.correlation import REQUEST_ID
from signalyard_router.ports import World

_log = logging.getLogger("signalyard.router.redis")


class _Done(NamedTuple):
    """An entry that is finished: what is to be written before it may be acknowledged. ``must``: not without it."""

    id: bytes
    command: Command | None
    must: bool
    reply: bytes | None


async def _kept(work: Callable[[], Awaitable[None]]) -> None:
    """Keep a task at its work after a fault of our own, which is logged: a source that stands still in silence is worse."""
    while True:
        try:
            await work()
            return
        except Exception:  # noqa: BLE001
            _log.exception("event=redis_source_failed")
            await asyncio.sleep(1.0)


class StreamSource:
    """Decides on what comes by the stream of snapshots. ``reading`` and ``writing`` are two connections of its own."""

    def __init__(
        self,
        world: World,
        settings: RedisSettings,
        router: Deciding,
        metrics: RedisMetrics,
        reading: Asking,
        writing: Asking,
    ) -> None:
        self._settings = settings
        self._keys = Keys(settings.prefix)
        self._metrics = metrics
        self._reading = reading
        self._writing = writing
        self._group = Group(settings, self._keys, reading)
        self._tended = Group(settings, self._keys, writing)
        self._answering = Answering(router, world.clock, settings.max_rows)
        self._random = world.random_bytes
        self._turns = Turns()
        self._in_flight: dict[bytes, asyncio.Task[None] | None] = {}
        self._room = asyncio.Event()
        self._done: list[_Done] = []
        self._finished = asyncio.Event()
        self._doubt = True
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        metrics.watch(lambda: len(self._in_flight))

    def start(self) -> None:
        """Begin. A server that is away is waited for."""
        self._tasks = [asyncio.create_task(_kept(work)) for work in (self._read, self._tend, self._write)]

    async def drain(self, seconds: float) -> None:
        """Read no more, finish what is under way within ``seconds``, and leave the group where nothing is unfinished."""
        if not self._tasks:
            return
        self._stopping.set()
        reading, *others = self._tasks
        try:
            async with asyncio.timeout(seconds):
                await reading
                while self._in_flight:
                    self._room.clear()
                    await self._room.wait()
                await self._tended.leave()
        except TimeoutError:
            _log.warning("event=redis_entries_left entries=%d", len(self._in_flight))
        except RedisWireError as exc:
            _log.warning("event=redis_group_not_left error=%s", exc)
        self._metrics.left.inc(len(self._in_flight))
        running = [task for task in self._in_flight.values() if task is not None]
        for task in (reading, *others, *running):
            task.cancel()
        await asyncio.gather(reading, *others, *running, return_exceptions=True)
        self._tasks = []
        await self._reading.close()
        await self._writing.close()

    # Reading ---------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        pause = Pause(self._random, self._settings.first_pause_seconds, self._settings.longest_pause_seconds)
        while not self._stopping.is_set():
            try:
                if self._doubt:
                    await self._group.join()
                    self._doubt = False
                    await self._take_own()
                else:
                    await self._take_new()
                self._metrics.fine("source")
                pause.over()
            except RedisWireError as exc:
                self._doubt = True
                seconds = pause.next()
                self._failed("source", exc, seconds)
                await self._sleep(seconds)

    async def _take_new(self) -> None:
        if count := await self._free():
            await self._take(await self._group.read(count))

    async def _take_own(self) -> None:
        """What this consumer was given before and has not finished: by a process before this one, or before an answer was lost."""
        after = b"0"
        while count := await self._free():
            found = await self._group.unfinished(after, min(count, self._settings.most_at_once))
            if not found:
                return
            after = found[-1].id
            await self._take(found)

    async def _free(self) -> int:
        """How many entries may be taken, once there is room; 0 where it is over."""
        while not self._stopping.is_set():
            free = self._settings.most_in_flight - len(self._in_flight)
            if free > 0:
                return min(free, self._settings.most_at_once)
            self._room.clear()
            waiting = [asyncio.ensure_future(event.wait()) for event in (self._room, self._stopping)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for each in waiting:
                each.cancel()
        return 0

    async def _take(self, found: Sequence[Entry]) -> None:
        for entry in found:
            if entry.id not in self._in_flight:
                self._in_flight[entry.id] = None
                self._begin(entry)
                await asyncio.sleep(0)  # reading a large body must not keep the loop from everybody else's

    # One entry -------------------------------------------------------------------------------------------------------

    def _begin(self, entry: Entry) -> None:
        """Read an entry and give it its turn; that has to be done in the order of the stream."""
        if entry.fields is None:
            self._metrics.gone.inc()
            self._finish(_Done(entry.id, None, False, None))
            return
        try:
            if entry.deliveries > self._settings.most_deliveries:
                text = f"it was delivered {entry.deliveries} times and never finished"
                self._set_aside(entry, describe(Problem.INTERNAL, text))
                return
            request = read_request(entry, self._keys, self._settings.max_body_bytes)
            work = self._answering.read(request)
        except CallerError as exc:
            self._set_aside(entry, exc.details)
            return
        except Exception as exc:  # noqa: BLE001 -- it must not keep those that were read with it from their turn
            self._broken(entry, exc)
            return
        turn = self._turns.take(work.symbols)
        self._in_flight[entry.id] = asyncio.create_task(self._settle(entry, request.id, request.reply, work, turn))

    async def _settle(self, entry: Entry, request_id: str, reply: bytes | None, work: Work, turn: Turn) -> None:
        REQUEST_ID.set(request_id)
        try:
            await turn.come()
            body = await self._decided(work)
        except Exception as exc:  # noqa: BLE001 -- an entry that breaks something must not come back for ever
            self._broken(entry, exc)
            return
        finally:
            turn.end()
        if body is None:  # it stays unfinished, for whoever comes next
            self._metrics.left.inc()
            self._release([entry.id])
            return
        self._metrics.settled.inc()
        command = (
            None if reply is None else answer(reply, request_id.encode(), "body", body, self._settings.reply_entries)
        )
        self._finish(_Done(entry.id, command, False, reply))

    def _broken(self, entry: Entry, exc: Exception) -> None:
        _log.exception("event=redis_entry_failed entry=%s", entry.id.decode())
        self._set_aside(entry, describe(Problem.INTERNAL, f"the router failed: {type(exc).__name__}"))

    async def _decided(self, work: Work) -> bytes | None:
        """The answer, once it is recorded; None where the router stops before."""
        pause = Pause(self._random, self._settings.first_pause_seconds, self._settings.longest_pause_seconds)
        while (body := await self._answering.answer(work)) is None:
            self._metrics.again.inc()
            await self._sleep(pause.next())
            if self._stopping.is_set():
                return None
        return body

    def _set_aside(self, entry: Entry, problem: ProblemDetails) -> None:
        self._metrics.set_aside.inc()
        self._metrics.reasons[problem.code].inc()
        _log.warning("event=redis_entry_set_aside entry=%s problem=%s", entry.id.decode(), problem.code)
        self._finish(
            _Done(entry.id, set_aside(entry, problem, self._keys, self._settings.rejected_entries), True, None)
        )
        try:
            reply = reply_key(entry, self._keys)
        except CallerError:
            return
        if reply is not None:
            request_id = (entry.fields or {}).get(b"id", entry.id)[:64]
            body = msgspec.json.encode(problem)
            command = answer(reply, request_id, "problem", body, self._settings.reply_entries)
            self._finish(_Done(b"", command, False, reply))

    # Writing ---------------------------------------------------------------------------------------------------------

    def _finish(self, done: _Done) -> None:
        self._done.append(done)
        self._finished.set()

    async def _write(self) -> None:
        pause = Pause(self._random, self._settings.first_pause_seconds, self._settings.longest_pause_seconds)
        while True:
            await self._finished.wait()
            self._finished.clear()
            done, self._done = self._done, []
            try:
                await self._close_up(done)
                self._metrics.fine("replies")
                pause.over()
                lost = False
            except RedisWireError as exc:
                lost = True
                seconds = pause.next()
                self._failed("replies", exc, seconds)
                await asyncio.sleep(seconds)
            finally:
                self._release([each.id for each in done])
            if lost:
                # Whatever of it was done: the entries are read again, and the journal knows them. Not sooner: what is under way
                # here would be passed over.
                self._doubt = True

    def _release(self, ids: Sequence[bytes]) -> None:
        for entry_id in ids:
            self._in_flight.pop(entry_id, None)
        self._room.set()

    async def _close_up(self, done: Sequence[_Done]) -> None:
        """Write the replies of entries and the copies of those that were set aside, then acknowledge them. Raises RedisWireError."""
        written = [each for each in done if each.command is not None]
        commands: list[Command] = [each.command for each in written if each.command is not None]
        replies = dict.fromkeys(each.reply for each in written if each.reply is not None)
        commands += [("EXPIRE", reply, self._settings.reply_seconds) for reply in replies]
        kept: list[_Done] = []
        if commands:
            answers = await self._writing.ask_all(commands)
            for each, said in zip(written, answers, strict=False):
                if isinstance(said, RefusedError):
                    if each.must:
                        kept.append(each)
                        continue
                    self._metrics.unanswered.inc()
                    _log.warning("event=redis_reply_refused error=%s", said)
        ready = [each.id for each in done if each.id and each not in kept]
        if ready:
            await self._tended.acknowledge(ready)
        if kept:
            raise RefusedError("CANNOT set entries aside, they stay unfinished")

    # Looking after the group -----------------------------------------------------------------------------------------

    async def _tend(self) -> None:
        held = 0.0
        while not self._stopping.is_set():
            await self._sleep(self._settings.tend_seconds)
            held += self._settings.tend_seconds
            try:
                if held >= self._settings.claim_seconds / 3 and self._in_flight:
                    await self._tended.hold(list(self._in_flight))
                    held = 0.0
                standing = await self._tended.look()
                self._metrics.lag.set(standing.lag)
                self._metrics.pending.set(standing.pending)
                if self._settings.trim and standing.done:
                    await self._tended.trim(standing.done)
                free = self._settings.most_in_flight - len(self._in_flight)
                if free > 0 and not self._stopping.is_set():
                    await self._take_over(min(free, self._settings.most_at_once))
            except RefusedError as exc:
                if exc.code != "NOGROUP":  # the reader makes it
                    self._failed("replies", exc, self._settings.tend_seconds)
            except LostError as exc:
                self._doubt = True
                self._failed("replies", exc, self._settings.tend_seconds)

    async def _take_over(self, count: int) -> None:
        found = await self._tended.claim(count)
        self._metrics.gone.inc(found.gone)
        strange = [entry for entry in found.entries if entry.id not in self._in_flight]
        self._metrics.reclaimed.inc(len(strange))
        await self._take(strange)

    async def _sleep(self, seconds: float) -> None:
        """A pause that a shutdown ends."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _failed(self, wire: str, exc: RedisWireError, seconds: float) -> None:
        self._metrics.failed(wire, lost=isinstance(exc, LostError))
        _log.warning("event=redis_failed wire=%s retry_seconds=%.2f error=%s", wire, seconds, exc)
