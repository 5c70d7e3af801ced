"""Subscriptions: signals as they leave the router, over whatever wire, for as long as somebody wants them.

A subscription reconnects by itself. It drops what has expired and what came before, notices by ``prev_seq`` where signals are
missing, and then, as on every connection, asks for the router's state: what is newer there than the signals that came is given as an
``Opinion`` in their place. Nothing waits for the strategy: where it falls far behind, an update takes the place of the one before it of
the same instrument and route, and that is counted.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Protocol, Self

import msgspec

from signalyard.following import Follower, Update, Verdict, Wanted
from signalyard.problems import SignalyardError
from signalyard.wire import Opinion, Signal, StateAnswer

MOST_WAITING = 10_000
"""Updates that may wait for the strategy; beyond it one an instrument and route."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds between attempts to connect; a pause doubles with each that fails."""

Now = Callable[[], int]
"""The time by which signals expire, UTC nanoseconds. A router on event time needs another one than the machine's clock."""


class Feed(Protocol):
    """One wire's way to the signals and the state."""

    def signals(self, wanted: Wanted) -> AbstractAsyncContextManager[AsyncIterator[Signal]]:
        """Connect; signals that leave from then on come one by one, perhaps more than were asked for.

        Raises OSError or SignalyardError, also later, where the connection ends; the iterator's end is one, too.
        """
        ...

    async def state(self) -> StateAnswer:
        """What every route last said. Raises SignalyardError."""
        ...


class Counts(msgspec.Struct):
    """What a subscription has seen: connections that were made; signals missing by ``prev_seq``; those that had expired, those that
    came again; updates that gave way to newer ones because nobody took them."""

    connected: int = 0
    gaps: int = 0
    expired: int = 0
    repeated: int = 0
    dropped: int = 0


class _Waiting:
    """Updates between whoever brings them and whoever takes them, on one thread or two."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._updates: deque[Update] = deque()
        self._changed = threading.Condition()
        self._heard: Callable[[], None] | None = None
        self.closed = False

    def put(self, update: Update) -> bool:
        """Add an update; False where an older one had to go for it."""
        with self._changed:
            older = self._of_the_same(update) if len(self._updates) >= self._most else None
            if older is not None:
                del self._updates[older]
            self._updates.append(update)
            self._changed.notify()
        if self._heard is not None:
            self._heard()
        return older is None

    def _of_the_same(self, update: Update) -> int | None:
        for index, other in enumerate(self._updates):
            if (other.symbol, other.route) == (update.symbol, update.route):
                return index
        return None

    def pop(self) -> Update | None:
        """The oldest, if there is one."""
        with self._changed:
            return self._updates.popleft() if self._updates else None

    def wait(self, seconds: float | None) -> None:
        """Block until there may be one, it is closed, or the time is over."""
        with self._changed:
            if not self._updates and not self.closed:
                self._changed.wait(seconds)

    def tell(self, heard: Callable[[], None]) -> None:
        """Call ``heard`` whenever there is news, on the thread that brings it."""
        self._heard = heard

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()
        if self._heard is not None:
            self._heard()


class Following:
    """The task behind a subscription: it connects, follows and reconciles until it is cancelled."""

    def __init__(self, feed: Feed, wanted: Wanted, now: Now, most: int = MOST_WAITING) -> None:
        self._feed = feed
        self._wanted = wanted
        self._now = now
        self._follower = Follower(wanted)
        self.waiting = _Waiting(most)
        self.counts = Counts()
        self.failure: BaseException | None = None
        """Why the last connection ended, or could not be made; None while it is good."""

    async def run(self) -> None:
        """Follow. Ends by being cancelled alone."""
        pause = FIRST_PAUSE
        try:
            while True:
                connected = self.counts.connected
                try:
                    await self._connection()
                    self.failure = None
                except (OSError, SignalyardError, EOFError) as exc:
                    self.failure = exc
                pause = FIRST_PAUSE if self.counts.connected > connected else min(2 * pause, LONGEST_PAUSE)
                await asyncio.sleep(pause)
        finally:
            self.waiting.close()

    async def _connection(self) -> None:
        async with self._feed.signals(self._wanted) as signals:
            # Asked for after the signals: what leaves in between comes by both ways, and counts once.
            await self._reconcile()
            self.counts.connected += 1
            self.failure = None
            async for signal in signals:
                await self._take(signal)

    async def _take(self, signal: Signal) -> None:
        match self._follower.heed(signal, self._now()):
            case Verdict.NEXT:
                self._put(signal)
            case Verdict.AFTER_GAP:
                self.counts.gaps += 1
                self._put(signal)
                # What is missing here may be missing elsewhere, where nothing newer will come to show it.
                await self._reconcile()
            case Verdict.EXPIRED:
                self.counts.expired += 1
            case Verdict.REPEATED:
                self.counts.repeated += 1
            case Verdict.OTHERS:
                pass

    async def _reconcile(self) -> None:
        for opinion in self._follower.reconcile(await self._feed.state()):
            self._put(opinion)

    def _put(self, update: Update) -> None:
        if not self.waiting.put(update):
            self.counts.dropped += 1

    def taken(self) -> Update | None:
        """The next update that has not expired, if there is one."""
        while (update := self.waiting.pop()) is not None:
            live = update.live if isinstance(update, Opinion) else True
            if live and update.ts_expire > self._now():
                return update
            self.counts.expired += 1
        return None


class AsyncSubscription:
    """Updates for a coroutine: an async iterator, and a context manager that ends it.

    ``counts`` says what it has seen, ``failure`` why it is not connected, where it is not.
    """

    def __init__(self, feed: Feed, wanted: Wanted, now: Now = time.time_ns) -> None:
        self._following = Following(feed, wanted, now)
        self._news = asyncio.Event()
        self._following.waiting.tell(self._news.set)
        self._task = asyncio.get_running_loop().create_task(self._following.run())

    @property
    def counts(self) -> Counts:
        """What it has seen."""
        return self._following.counts

    @property
    def failure(self) -> BaseException | None:
        """Why it is not connected; None where it is."""
        return self._following.failure

    def on_end(self, ended: Callable[["AsyncSubscription"], None]) -> None:
        """Call ``ended`` with the subscription once it is over."""
        self._task.add_done_callback(lambda _: ended(self))

    async def next(self, within: float | None = None) -> Update | None:
        """The next update, or None: none came ``within`` so many seconds, or the subscription was closed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                while True:
                    self._news.clear()
                    update = self._following.taken()
                    if update is not None or self._following.waiting.closed:
                        return update
                    await self._news.wait()
        return self._following.taken()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        update = await self.next()
        if update is None:
            raise StopAsyncIteration
        return update

    async def close(self) -> None:
        """End it; whoever waits for an update gets none."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()


class Subscription:
    """Updates for a thread: an iterator that blocks, `next` that blocks no longer than it is told, a context manager that ends it."""

    def __init__(self, following: Following, end: Callable[[], Awaitable[None] | None]) -> None:
        self._following = following
        self._end = end

    @property
    def counts(self) -> Counts:
        """What it has seen."""
        return self._following.counts

    @property
    def failure(self) -> BaseException | None:
        """Why it is not connected; None where it is."""
        return self._following.failure

    def next(self, within: float | None = None) -> Update | None:
        """The next update, or None: none came ``within`` so many seconds, or the subscription was closed."""
        until = None if within is None else time.monotonic() + within
        while True:
            update = self._following.taken()
            remaining = None if until is None else until - time.monotonic()
            if update is not None or self._following.waiting.closed or (remaining is not None and remaining <= 0):
                return update
            self._following.waiting.wait(remaining)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Update:
        update = self.next()
        if update is None:
            raise StopIteration
        return update

    def close(self) -> None:
        """End it; whoever waits for an update gets none."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
