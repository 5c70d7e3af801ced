"""The connections to one endpoint."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from signalyard_router.adapters.oip.connection import Connection
from signalyard_router.adapters.oip.errors import (
    ConnectError,
    EndedError,
    ExpiredError,
    StatusError,
)
from signalyard_router.adapters.oip.request import at_budget
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.awake import Awake
from signalyard_router.ports import World
from signalyard_router.rules.units import SECOND

Answer = TypeVar("Answer")


class Pool:
    """Keeps the connections to ``host:port`` and runs calls over them.

    The idle ones are a stack: the most recently used is used next, so that those which a burst left behind stay at the
    bottom until the server closes them. Calls beyond ``max_open`` wait in order of arrival and are handed what is given
    back. A retired pool serves whoever still calls, and keeps nothing idle.
    """

    def __init__(self, world: World, settings: OipSettings, host: str, port: int) -> None:
        self._network = world.network
        self._now = world.clock.monotonic
        self._settings = settings
        self._awake = Awake(world.clock, round(settings.awake_seconds * SECOND))
        self._host = host
        self._port = port
        self._idle: list[Connection] = []
        self._open: dict[Connection, None] = {}  # in order of opening, so that a simulation repeats
        self._slots = 0  # taken: connections that are open or being opened
        self._queue: deque[asyncio.Future[Connection | None]] = deque()
        self._retired = False
        self._closed = False
        self.in_flight = 0
        """How many scoring calls are under way, those that wait for a connection included; who calls counts them."""

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """How many connections are in use or being opened."""
        return self._slots - len(self._idle)

    def retire(self) -> None:
        """Keep no idle connections any more."""
        self._retired = True
        for connection in self._idle[:]:
            connection.close()

    def revive(self) -> None:
        """Keep idle connections again."""
        self._retired = False

    def close(self) -> None:
        """Close every connection; calls in flight fail, and so do later ones."""
        self._closed = True
        queue, self._queue = self._queue, deque()
        for waiter in queue:
            if not waiter.done():
                waiter.set_exception(ConnectError("the router is closing"))
        for connection in list(self._open):
            connection.close()

    async def closed(self) -> None:
        """Return once what closing begins is done: at once, for connections are aborted."""

    async def call(self, head: bytes, body: bytes, until: int, read: Callable[[bytes], Answer]) -> Answer:
        """Send a request, read the body of its answer, both by ``until`` (nanoseconds of the monotonic clock).

        Raises WireError, and what ``read`` raises. An answer that ``read`` does not accept closes the connection: it may
        belong to another request. If a connection that was kept alive ends before a byte of the answer came, as when the
        server closes it at the very moment when it is used, the request is sent once more, on a connection opened for it;
        that is safe because scoring changes nothing.
        """
        connection = self._take()
        kept = connection is not None
        if connection is None:
            connection = await self._obtain(until)
        while True:
            remaining = until - self._now()
            if remaining < 1000:  # the least that the budget header can say
                self._give_back(connection)
                raise ExpiredError("the budget was spent before the request could be sent")
            try:
                sent = connection.send(at_budget(head, remaining // 1000, body), remaining / 1e9)
                self._awake.sent(asyncio.get_running_loop())
                try:
                    await sent
                finally:
                    self._awake.answered()
                failure, status = connection.failure, connection.status
                if failure is None:
                    content = connection.take_body()
                    if status == 200:
                        answer = read(content)
            except BaseException:
                connection.close()
                raise
            if failure is None:
                break
            if not kept or not isinstance(failure, EndedError) or failure.answering or self._closed:
                raise failure
            kept = False
            connection = await self._obtain(until)
        self._give_back(connection)
        if status != 200:
            raise StatusError(status, content)
        if self._now() > until:
            raise ExpiredError("the answer was read after the budget was spent")
        return answer

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.close()
        return None

    async def _obtain(self, until: int) -> Connection:
        if self._closed:
            raise ConnectError("the router is closing")
        remaining = until - self._now()
        if remaining <= 0:
            raise ExpiredError("the budget was spent before a connection could be opened")
        try:
            async with asyncio.timeout(remaining / 1e9):
                if self._slots >= self._settings.max_open:
                    handed = await self._wait()
                    if handed is not None:
                        return handed
                else:
                    self._slots += 1
                return await self._connect()
        except TimeoutError as exc:
            raise ExpiredError("no connection within the budget") from exc

    async def _wait(self) -> Connection | None:
        """A connection that was given back, or None for the right to open one."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.done() or waiter.cancelled():
                if waiter in self._queue:
                    self._queue.remove(waiter)
            elif waiter.exception() is None:  # handed something at the very moment of giving up
                handed = waiter.result()
                if handed is None:
                    self._free_slot()
                else:
                    self._give_back(handed)
            raise

    async def _connect(self) -> Connection:
        """Open a connection on a slot that is taken already."""
        if self._closed:  # since the slot was handed over
            self._free_slot()
            raise ConnectError("the router is closing")
        connection = Connection(self._settings, self._forget)
        self._open[connection] = None
        try:
            await self._network.connect(lambda: connection, self._host, self._port)
        except (OSError, UnicodeError) as exc:  # UnicodeError: a name that cannot be one
            connection.close()
            raise ConnectError(f"cannot connect to {self._host} port {self._port}: {exc}") from exc
        except BaseException:
            connection.close()
            raise
        if not connection.usable:
            connection.close()
            raise ConnectError(f"{self._host} port {self._port} closed the connection at once")
        return connection

    def _give_back(self, connection: Connection) -> None:
        if connection.closed:
            return
        if not connection.usable:
            connection.close()
            return
        waiter = self._next()
        if waiter is not None:
            waiter.set_result(connection)
        elif self._retired or self._closed or len(self._idle) >= self._settings.max_idle:
            connection.close()
        else:
            self._idle.append(connection)

    def _forget(self, connection: Connection) -> None:
        del self._open[connection]
        if connection in self._idle:
            self._idle.remove(connection)
        self._free_slot()

    def _free_slot(self) -> None:
        waiter = self._next()
        if waiter is not None:
            waiter.set_result(None)  # the slot stays taken, by the one who waited
        else:
            self._slots -= 1

    def _next(self) -> "asyncio.Future[Connection | None] | None":
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                return waiter
        return None
