"""The outbox: emitted signals on their way from the journal to sinks.

A reader follows the journal's segments from a cursor of its own, up to what is confirmed and no further: a signal leaves after it is
recorded. It holds no commit up, because a commit does no more than wake it, and no signals in memory but those that it is
handing on; however far it is behind, it reads on where it stood.

**At least once.** The cursor is saved after the signals before it have been handed on, and not each time. After a crash, or where a
sink failed half-way, some are handed on again; ``signal_id``, and ``epoch`` with ``seq``, tell them. What has expired is dropped and
counted, here and not by the sink alone: an outage must not end in a heap of signals on which nobody may act.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec

from signalyard.wire import Signal
from signalyard.words import Outcome
from signalyard_router.journal.metrics import OutboxMetrics
from signalyard_router.journal.segments import PIECE, End, decode, forwards, pieces, segment_number, segments
from signalyard_router.journal.settings import OutboxSettings
from signalyard_router.ports import Sink, World
from signalyard_router.rules.record import DecisionRecord, signal_of

_NEEDLE = b'"outcome":"emitted"'
"""What stands in the line of every emitted decision; a line without it need not be decoded. In a text its quotes are escaped."""

_END_OF_LINE = b'"}'

_log = logging.getLogger("signalyard.router.outbox")


class Tailed(Protocol):
    """A journal that keeps segments, as far as a reader needs it."""

    @property
    def now(self) -> int:
        """The journal's time, UTC nanoseconds."""
        ...

    @property
    def end(self) -> End:
        """Up to where it is confirmed. Never in the middle of a line."""
        ...

    def subscribe(self, observer: Callable[[Sequence[DecisionRecord]], None]) -> None:
        """Tell ``observer`` of decisions that have been confirmed."""
        ...


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a reader has come: ``offset`` bytes of ``segment``. ``digest`` is that of the line before; "" where nobody needs it."""

    v: int = 1
    segment: str
    offset: int
    digest: str = ""


class _Found(msgspec.Struct, frozen=True):
    """What one look at the journal gave. ``last`` is the last line before ``cursor``."""

    cursor: Cursor
    signals: list[Signal]
    last: bytes


_decoder = msgspec.json.Decoder(Cursor)


def cursor_name(sink: str) -> str:
    """The name of the file, beside the segments, that holds a sink's cursor."""
    return f"cursor-{sink}.json"


class Outbox:
    """Hands the signals of a journal to one sink.

    ``lasting``: the cursor is saved, and a new process goes on where the last one stood; else each begins with what is emitted from
    then on. So does the first with a new sink: what came before it was for others. ``replica``: of several that share a journal, each
    hands on what was decided by itself, the one of this name.
    """

    def __init__(
        self,
        world: World,
        folder: str,
        journal: Tailed,
        sink: Sink,
        metrics: OutboxMetrics,
        settings: OutboxSettings | None = None,
        *,
        lasting: bool = True,
        replica: str = "",
    ) -> None:
        self._disk = world.disk
        self._clock = world.clock
        self._folder = folder
        self._journal = journal
        self._sink = sink
        self._settings = settings or OutboxSettings()
        self._metrics = metrics.of(sink.name, self._waiting_seconds)
        self._path = f"{folder}/{cursor_name(sink.name)}"
        self._lasting = lasting
        self._replica = replica
        self._cursor = Cursor(segment="", offset=0)
        self._last = b""
        self._saved: Cursor | None = None
        self._woken = asyncio.Event()
        self._caught_up = asyncio.Event()
        self._waiting_since: int | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin. A new sink's cursor is saved first, so that a crash finds it. Raises OSError where the cursor cannot be read."""
        found = self._load() if self._lasting else None
        if found is None:
            end = self._journal.end
            self._cursor = Cursor(segment=end.segment, offset=end.size, digest=end.digest)
            if self._lasting:
                await self._save()
        else:
            self._cursor = self._saved = found
        self._journal.subscribe(self._heed)
        self._wake()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run())]
        if self._lasting:
            self._tasks.append(loop.create_task(self._keep()))

    async def close(self) -> None:
        """Hand on what is recorded, for as long as the settings allow, then stop and save the cursor."""
        if not self._tasks:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.close_seconds):
                await self._caught_up.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._lasting:
            with suppress(TimeoutError):  # what was handed on since the last save is handed on again
                async with asyncio.timeout(self._settings.close_seconds):
                    await self._save()

    def _heed(self, records: Sequence[DecisionRecord]) -> None:
        for record in records:
            if record.outcome is Outcome.EMITTED:
                self._wake()
                return

    def _wake(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = self._clock.monotonic()
        self._caught_up.clear()
        self._woken.set()

    def _waiting_seconds(self) -> float:
        return 0.0 if self._waiting_since is None else (self._clock.monotonic() - self._waiting_since) / 1e9

    # Handing on ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause = self._settings.first_pause_seconds
        while True:
            self._woken.clear()
            looked = self._clock.monotonic()
            try:
                found = self._look()
                if found is None:
                    self._waiting_since = None
                    self._caught_up.set()
                    await self._woken.wait()
                    continue
                await self._hand_on(found.signals)
            except Exception as exc:  # noqa: BLE001 -- whatever a sink raises, the signals behind it wait
                self._metrics.failed.inc()
                text = str(exc) or f"{type(exc).__name__} within {self._settings.send_seconds:g} s"
                _log.error("event=outbox_failed sink=%s retry_seconds=%g error=%s", self._sink.name, pause, text)
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._settings.longest_pause_seconds)
                continue
            pause = self._settings.first_pause_seconds
            self._cursor, self._last = found.cursor, found.last
            self._waiting_since = looked
            # A reader that is far behind must not keep the loop from deciding.
            await asyncio.sleep(0)

    async def _hand_on(self, signals: list[Signal]) -> None:
        now = self._journal.now
        live = [signal for signal in signals if signal.ts_expire > now]
        if live:
            async with asyncio.timeout(self._settings.send_seconds):
                await self._sink.send(live)
        self._metrics.expired.inc(len(signals) - len(live))
        self._metrics.sent.inc(len(live))

    # Reading ---------------------------------------------------------------------------------------------------------

    def _look(self) -> _Found | None:
        """What follows the cursor, at most a piece of a segment; None where nothing does. Raises OSError, RouterError (journal_corrupt)."""
        cursor, end = self._cursor, self._journal.end
        while True:
            path = f"{self._folder}/{cursor.segment}"
            try:
                limit = end.size if cursor.segment == end.segment else self._disk.size(path)
                if cursor.offset < limit:
                    return self._take(cursor, self._lines(path, cursor.offset, limit))
            except FileNotFoundError:
                self._metrics.skipped.inc()
                _log.error("event=outbox_skipped sink=%s segment=%s", self._sink.name, cursor.segment)
            if cursor.segment == end.segment:
                return None
            cursor = Cursor(segment=self._after(cursor.segment), offset=0)

    def _lines(self, path: str, offset: int, limit: int) -> bytes:
        """Whole lines from ``offset`` on, some pieces' worth; a line may be longer than a piece."""
        count = PIECE
        while True:
            data = self._disk.read_range(path, offset, min(count, limit - offset))
            if end := data.rfind(b"\n") + 1:
                return data[:end]
            if len(data) < count:
                raise OSError(f"{path} has no whole line at byte {offset}")
            count *= 2

    def _take(self, cursor: Cursor, data: bytes) -> _Found:
        lines = data[:-1].split(b"\n")
        signals: list[Signal] = []
        for line in lines:
            if _NEEDLE in line:
                record = decode(cursor.segment, 0, line)
                if not isinstance(record, DecisionRecord) or record.outcome is not Outcome.EMITTED:
                    continue
                if not self._replica or record.replica in ("", self._replica):
                    signals.append(signal_of(record))
        return _Found(Cursor(segment=cursor.segment, offset=cursor.offset + len(data)), signals, lines[-1])

    def _after(self, segment: str) -> str:
        """The segment that follows another one. The one being written always does."""
        number = segment_number(segment)
        return next(name for name in segments(self._disk, self._folder) if segment_number(name) > number)

    # The cursor ------------------------------------------------------------------------------------------------------

    def _load(self) -> Cursor | None:
        """The saved cursor, or None. One that is not on the chain begins with its segment: the machine lost power after it was saved, and
        records before it were not on the medium."""
        try:
            cursor = _decoder.decode(self._disk.read(self._path))
        except FileNotFoundError:
            return None
        except ValueError as exc:
            _log.error("event=cursor_ignored sink=%s error=%s", self._sink.name, exc)
            return None
        if self._stands(cursor):
            return cursor
        held = segments(self._disk, self._folder)
        number = segment_number(cursor.segment)
        segment = next((name for name in held if segment_number(name) >= number), held[-1])
        _log.warning("event=cursor_set_back sink=%s segment=%s", self._sink.name, segment)
        return Cursor(segment=segment, offset=0)

    def _stands(self, cursor: Cursor) -> bool:
        """Whether the line that follows a cursor names the one before it."""
        end = self._journal.end
        if (cursor.segment, cursor.offset, cursor.digest) == (end.segment, end.size, end.digest):
            return True
        number = segment_number(cursor.segment)
        for name in segments(self._disk, self._folder):
            if segment_number(name) >= number:
                offset = cursor.offset if name == cursor.segment else 0
                line = next(forwards(pieces(self._disk, f"{self._folder}/{name}", offset)), None)
                if line is not None:
                    return line.endswith(cursor.digest.encode() + _END_OF_LINE)
        return False

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._settings.save_seconds)
            await self._save()

    async def _save(self) -> None:
        cursor = self._cursor
        if cursor == self._saved:
            return
        digest = cursor.digest or hashlib.sha256(self._last).hexdigest()
        content = msgspec.json.encode(msgspec.structs.replace(cursor, digest=digest))
        try:
            await self._disk.replace(self._path, whole(content))
        except OSError as exc:
            self._metrics.unsaved.inc()
            _log.error("event=cursor_not_saved sink=%s error=%s", self._sink.name, exc)
            return
        self._metrics.saved.inc()
        self._saved = cursor


async def whole(content: bytes) -> AsyncIterator[bytes]:
    """A file of one piece."""
    yield content
