"""A shared log in memory, for several replicas in one process, with what can go wrong on the way to it.

It does what `adapters/redis/append.lua` does; the two are held against each other on a real server.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from signalyard.problems import Problem, error
from signalyard_router.ports import Appended, JournalInDoubt, LogEntry, LogReader, LogState, Place

_CALL_SECONDS = 1.0
_T = TypeVar("_T")

Pause = Callable[[], float]
"""Seconds that a message takes on its way."""


class MemoryServer:
    """What all replicas share. ``forget`` loses all of it, ``lose`` its newest entries, as a failover does; ``away`` refuses everybody."""

    def __init__(self) -> None:
        self.place: Place | None = None
        self.held_from = 0
        self.clock = "wall"
        self.log: list[LogEntry] = []
        self.kept: LogEntry | None = None
        self.signals: list[bytes] = []
        self.offers: dict[int, tuple[int, int, int]] = {}
        self.identity = 1
        self.begun_on = 0
        self.away = False
        self.turn: MemoryLog | None = None
        self.readers: list[MemoryLog] = []

    @property
    def whole(self) -> bool:
        """Whether it is the server that the epoch began on."""
        return self.identity == self.begun_on

    def forget(self) -> None:
        """Start anew, empty."""
        self.place, self.log, self.kept, self.signals = None, [], None, []
        self.offers.clear()
        self.restart()

    def lose(self, entries: int) -> None:
        """Become another server, which had not got the newest entries yet."""
        assert self.place is not None
        kept = self.log[: len(self.log) - entries]
        last = kept[-1] if kept else self.kept
        assert last is not None
        self.log, self.place = kept, Place(self.place.epoch, last.position, last.token)
        self.restart()

    def restart(self) -> None:
        """Close every connection, and go on as another server."""
        self.identity += 1
        self.disconnect()

    def disconnect(self) -> None:
        """Close every connection."""
        readers, self.readers = self.readers, []
        for log in readers:
            log.ended()

    def append(
        self, log: "MemoryLog", place: Place, entry: LogEntry, signals: Sequence[bytes], insist: bool
    ) -> Appended:
        """Append an entry, if nothing was appended since ``place``."""
        if self.place is None or not self.whole or self.place.epoch != place.epoch:
            return Appended.LOST
        if self.place != place:
            if insist and self.turn is None:
                self.turn = log
            same = self.place.position == place.position or self.place.position < place.position
            return Appended.LOST if same else Appended.BEHIND
        if self.turn not in (None, log):
            self.turn = self.turn if self.turn in self.readers else None
            if self.turn is not None:
                return Appended.WAIT
        self.turn = None
        self.log.append(entry)
        self.signals += signals
        self.place = Place(place.epoch, entry.position, entry.token)
        for reader in self.readers:
            reader.hears(place.epoch, entry)
        return Appended.DONE


class MemoryLog:
    """Implements `ports.SharedLog` on a `MemoryServer`.

    ``pause`` is how long a message takes; each way is in order. ``lose_replies``: so many answers of appends are lost, after they were
    carried out, and the connection with them; ``deaf``: entries do not arrive.
    """

    def __init__(self, server: MemoryServer, pause: Pause = lambda: 0.0) -> None:
        self._server = server
        self._pause = pause
        self._reader: LogReader | None = None
        self._waiting: set[asyncio.Future[Appended]] = set()
        self._session = 0
        self._next = 0.0
        self.lose_replies = 0
        self.hang = False
        self.appends = 0

    @property
    def name(self) -> str:
        return "memory"

    async def open(self, reader: LogReader) -> None:
        self._reach()
        self._session += 1
        self._reader = reader
        if self not in self._server.readers:
            self._server.readers.append(self)

    async def state(self) -> LogState | None:
        server = self._server

        def stands() -> LogState | None:
            if server.place is None:
                return None
            return LogState(server.place, server.whole, server.held_from, server.clock)

        return await self._ask(stands)

    async def entries(self, epoch: int, after: int, count: int) -> list[LogEntry]:
        server = self._server

        def behind() -> list[LogEntry]:
            if server.place is None or server.place.epoch != epoch:
                return []
            return [entry for entry in server.log if entry.position > after][:count]

        return await self._ask(behind)

    async def snapshot(self) -> LogEntry | None:
        return await self._ask(lambda: self._server.kept)

    def append(
        self, place: Place, entry: LogEntry, signals: Sequence[bytes], *, insist: bool
    ) -> asyncio.Future[Appended]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Appended] = loop.create_future()
        self.appends += 1
        if self._server.away or self not in self._server.readers:
            answer.set_exception(error(Problem.JOURNAL_UNAVAILABLE, "the log is away"))
            return answer
        self._waiting.add(answer)
        session = self._session

        def arrive() -> None:
            if self.hang:
                return
            became = self._server.append(self, place, entry, signals, insist)
            if self.lose_replies:
                self.lose_replies -= 1
                if self in self._server.readers:
                    self._server.readers.remove(self)
                self.ended()
                return
            self._deliver(session, lambda: self._answer(answer, became))

        self._later(arrive)
        return answer

    async def keep(self, epoch: int, snapshot: LogEntry, forget: int) -> None:
        server = self._server

        def keep() -> None:
            if server.place is not None and server.place.epoch == epoch:
                server.kept = snapshot
                server.log = [entry for entry in server.log if entry.position >= forget]

        await self._ask(keep)

    async def offer(self, place: Place, newest: int) -> bool:
        offers = self._server.offers

        def offer() -> bool:
            offers[id(self)] = (place.epoch, place.position, newest)
            return offers[id(self)] == max(offers.values())

        return await self._ask(offer)

    async def begin(self, before: Place | None, state: LogState, snapshot: LogEntry) -> bool:
        server = self._server

        def begin() -> bool:
            if server.place != before:
                return False
            server.place, server.held_from, server.clock = state.place, state.held_from, state.clock
            server.log, server.kept, server.begun_on = [], snapshot, server.identity
            server.offers.clear()
            return True

        return await self._ask(begin)

    async def close(self) -> None:
        if self in self._server.readers:
            self._server.readers.remove(self)
        self._reader = None

    # The server's side

    def hears(self, epoch: int, entry: LogEntry) -> None:
        """An entry is on its way to this replica."""
        session = self._session
        self._deliver(session, lambda: self._reader.took(epoch, entry) if self._reader is not None else None)

    def ended(self) -> None:
        """The connection is gone, with what was on its way."""
        self._session += 1
        waiting, self._waiting = self._waiting, set()
        for answer in waiting:
            if not answer.done():
                answer.set_exception(JournalInDoubt(Problem.JOURNAL_UNAVAILABLE, "the answer was lost"))
        if self._reader is not None:
            self._reader.away()

    def _answer(self, answer: asyncio.Future[Appended], became: Appended) -> None:
        self._waiting.discard(answer)
        if not answer.done():
            answer.set_result(became)

    def _deliver(self, session: int, what: Callable[[], None]) -> None:
        self._later(lambda: what() if session == self._session else None)

    def _later(self, what: Callable[[], None]) -> None:
        """In the order in which it was sent, whatever the pauses."""
        loop = asyncio.get_running_loop()
        self._next = max(self._next, loop.time() + self._pause())
        if self._next <= loop.time():
            loop.call_soon(what)
        else:
            loop.call_at(self._next, what)

    async def _ask(self, what: Callable[[], _T]) -> _T:
        """Have something done by the server; the answer comes behind all that was on its way before."""
        self._reach()
        answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        session = self._session

        def arrive() -> None:
            if self.hang:
                return
            found = what()
            self._later(lambda: answer.set_result(found) if session == self._session and not answer.done() else None)

        self._later(arrive)
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                return await answer
        except TimeoutError as exc:
            raise error(Problem.JOURNAL_UNAVAILABLE, "the log does not answer") from exc

    def _reach(self) -> None:
        if self._server.away:
            raise error(Problem.JOURNAL_UNAVAILABLE, "the log is away")
