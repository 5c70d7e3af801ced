"""One interface to the router, whatever the wire: `predict`, `subscribe`, `state`; for coroutines and for threads.

    async with AsyncClient(RestWire("http://127.0.0.1:8090")) as client:
        decisions = await client.predict(Snapshot(...))
        async with client.subscribe("rb2410.SHFE") as signals:
            async for update in signals: ...

`BlockingClient` is the same for a strategy's own threads. Its wire runs on one thread with an event loop, and a caller waits for what
comes of a call no longer than its deadline, whatever the network does.

**A late answer is no refusal**: see :mod:`signalyard.client`, which is the REST client without an event loop.
"""

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from signalyard._bodies import Snapshots, encode, only, read_decisions, read_state
from signalyard.following import Wanted, wanted
from signalyard.problems import Problem, error
from signalyard.subscription import AsyncSubscription, Following, Now, Subscription
from signalyard.wire import Decision, Snapshot, StateAnswer
from signalyard.wires.wire import Wire

LONGEST_DEADLINE = 3600.0
"""Seconds; a longer deadline is taken for a mistake of units."""

_CLOSING = 1.0
"""Seconds that closing waits for a thread that has been told to stop."""
_STATE_SECONDS = 2.0
"""How long a subscription waits for the router's state before it connects again."""

_T = TypeVar("_T")


class SignalClient(Protocol):
    """What every client for threads can do."""

    def predict(self, snapshots: Snapshots, *, deadline: float | None = None) -> list[Decision]:
        """Decisions on snapshots; see `signalyard.Client.predict`."""
        ...

    def predict_one(self, snapshot: Snapshot, *, deadline: float | None = None) -> Decision:
        """The decision on one snapshot; see `signalyard.Client.predict_one`."""
        ...

    def state(
        self, symbol: str | None = None, route: str | None = None, *, deadline: float | None = None
    ) -> StateAnswer:
        """What the routes last said; see `signalyard.Client.state`."""
        ...

    def subscribe(
        self, symbols: str | Collection[str] = (), *, route: str | None = None, now: Now = time.time_ns
    ) -> Subscription:
        """Signals of some instruments, or of all, as they leave; see `signalyard.subscription`. Never blocks."""
        ...

    def close(self) -> None:
        """Give up connections and threads; subscriptions end."""
        ...


class StateFeed:
    """A wire as a subscription sees it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.signals = wire.signals

    async def state(self) -> StateAnswer:
        async with asyncio.timeout(_STATE_SECONDS):
            return read_state(await self._wire.state())


class AsyncClient:
    """A client for coroutines, on the event loop that it is used on. ``deadline`` is in seconds, for calls that name none.

    Raises as `signalyard.Client` does.
    """

    def __init__(self, wire: Wire, deadline: float = 0.1) -> None:
        self._wire = wire
        self._deadline = checked(deadline)
        self._subscriptions: set[AsyncSubscription] = set()

    async def predict(self, snapshots: Snapshots, *, deadline: float | None = None) -> list[Decision]:
        """Decisions on snapshots; see `signalyard.Client.predict`."""
        body = encode(snapshots)
        seconds = self._seconds(deadline)
        answer = await self._within(seconds, lambda: self._wire.predict(body, max(1, int(seconds * 1e6))))
        return read_decisions(snapshots, answer)

    async def predict_one(self, snapshot: Snapshot, *, deadline: float | None = None) -> Decision:
        """The decision on one snapshot; see `signalyard.Client.predict_one`."""
        return only(snapshot, await self.predict(snapshot, deadline=deadline))

    async def state(
        self, symbol: str | None = None, route: str | None = None, *, deadline: float | None = None
    ) -> StateAnswer:
        """What the routes last said; see `signalyard.Client.state`."""
        return read_state(await self._within(self._seconds(deadline), lambda: self._wire.state(symbol, route)))

    def subscribe(
        self, symbols: str | Collection[str] = (), *, route: str | None = None, now: Now = time.time_ns
    ) -> AsyncSubscription:
        """Signals of some instruments, or of all, as they leave; see `signalyard.subscription`."""
        subscription = AsyncSubscription(StateFeed(self._wire), wanted(symbols, route), now)
        self._subscriptions.add(subscription)
        subscription.on_end(self._subscriptions.discard)
        return subscription

    async def close(self) -> None:
        """Give the connections up; subscriptions end."""
        for subscription in list(self._subscriptions):
            await subscription.close()
        await self._wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def _seconds(self, deadline: float | None) -> float:
        if deadline is None:
            return self._deadline
        if deadline <= 0:
            raise error(Problem.DEADLINE_EXCEEDED, "the deadline passed before the request was sent")
        return checked(deadline)

    async def _within(self, seconds: float, call: Callable[[], Awaitable[bytes]]) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                return await call()
        except TimeoutError as exc:
            raise error(Problem.DEADLINE_EXCEEDED, "the deadline passed while waiting for the answer") from exc
        except (OSError, EOFError) as exc:
            raise error(Problem.ROUTER_UNREACHABLE, str(exc) or type(exc).__name__) from exc


class Background:
    """An event loop on a thread of its own, started when it is first needed.

    It belongs to the process that made it; after a fork, and after `close`, it raises RuntimeError.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, coroutine: Coroutine[Any, Any, _T]) -> "Future[_T]":
        """Run a coroutine there."""
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, self._running())
        except BaseException:
            coroutine.close()
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        if os.getpid() != self._pid:
            raise RuntimeError(f"this client belongs to process {self._pid}: make one of your own after a fork")
        with self._lock:
            if self._closed:
                raise RuntimeError("this client is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, name="signalyard-client", daemon=True)
                self._thread.start()
            return self._loop

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def close(self) -> None:
        """End the loop and everything on it, and wait for its thread, though not for long."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None or os.getpid() != self._pid:
            return
        with suppress(RuntimeError):  # it is closed already
            loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join(_CLOSING)


class Subscribing:
    """Subscriptions for threads, over a wire that runs on a background loop."""

    def __init__(self, background: Background, open_wire: Callable[[], Wire]) -> None:
        self._background = background
        self._open_wire = open_wire
        self._wire: Wire | None = None
        self._followings: set[Future[None]] = set()

    async def wire(self) -> Wire:
        """The one wire, opened on the loop."""
        if self._wire is None:
            self._wire = self._open_wire()
        return self._wire

    def subscribe(self, asked: Wanted, now: Now) -> Subscription:
        """Begin to follow."""
        following = Following(_Late(self.wire), asked, now)
        task = self._background.submit(following.run())
        self._followings.add(task)

        def end() -> None:
            task.cancel()
            self._followings.discard(task)
            following.waiting.close()

        return Subscription(following, end)

    def close(self) -> None:
        """End the subscriptions and close the wire."""
        for task in list(self._followings):
            task.cancel()
        if self._wire is not None:
            with suppress(TimeoutError, RuntimeError):
                self._background.submit(self._wire.close()).result(_CLOSING)


class _Late:
    """A wire that is opened on the loop that it is for."""

    def __init__(self, wire: Callable[[], Awaitable[Wire]]) -> None:
        self._wire = wire

    def signals(self, asked: Wanted) -> "_Opening":
        return _Opening(self._wire, asked)

    async def state(self) -> StateAnswer:
        return await StateFeed(await self._wire()).state()


class _Opening:
    def __init__(self, wire: Callable[[], Awaitable[Wire]], asked: Wanted) -> None:
        self._wire = wire
        self._asked = asked

    async def __aenter__(self) -> Any:
        self._entered = (await self._wire()).signals(self._asked)
        return await self._entered.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._entered.__aexit__(kind, exc, traceback)


class BlockingClient:
    """A client for threads, over any wire; it may be shared between them. ``open_wire`` is called on the client's own thread.

    Raises as `signalyard.Client` does.
    """

    def __init__(self, open_wire: Callable[[], Wire], deadline: float = 0.1) -> None:
        self._deadline = checked(deadline)
        self._background = Background()
        self._subscribing = Subscribing(self._background, open_wire)

    def predict(self, snapshots: Snapshots, *, deadline: float | None = None) -> list[Decision]:
        """Decisions on snapshots; see `signalyard.Client.predict`."""
        return self._call(lambda client, seconds: client.predict(snapshots, deadline=seconds), deadline)

    def predict_one(self, snapshot: Snapshot, *, deadline: float | None = None) -> Decision:
        """The decision on one snapshot; see `signalyard.Client.predict_one`."""
        return only(snapshot, self.predict(snapshot, deadline=deadline))

    def state(
        self, symbol: str | None = None, route: str | None = None, *, deadline: float | None = None
    ) -> StateAnswer:
        """What the routes last said; see `signalyard.Client.state`."""
        return self._call(lambda client, seconds: client.state(symbol, route, deadline=seconds), deadline)

    def subscribe(
        self, symbols: str | Collection[str] = (), *, route: str | None = None, now: Now = time.time_ns
    ) -> Subscription:
        """Signals of some instruments, or of all, as they leave; see `signalyard.subscription`. Never blocks."""
        return self._subscribing.subscribe(wanted(symbols, route), now)

    def close(self) -> None:
        """Give the connections and the thread up; subscriptions end."""
        self._subscribing.close()
        self._background.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, call: Callable[[AsyncClient, float], Coroutine[Any, Any, _T]], deadline: float | None) -> _T:
        seconds = self._deadline if deadline is None else deadline
        until = time.monotonic() + seconds

        async def run() -> _T:
            # From here on only what is left of the deadline counts: the loop may have been busy.
            return await call(AsyncClient(await self._subscribing.wire()), until - time.monotonic())

        future = self._background.submit(run())
        try:
            return future.result(max(0.0, seconds))
        except TimeoutError as exc:
            future.cancel()
            raise error(Problem.DEADLINE_EXCEEDED, "the deadline passed while waiting for the answer") from exc


def checked(deadline: float) -> float:
    """A deadline in seconds. Raises CallerError (invalid_setting)."""
    if not 0 < deadline <= LONGEST_DEADLINE:
        raise error(
            Problem.INVALID_SETTING,
            f"the deadline is in seconds, above 0 and at most {LONGEST_DEADLINE:.0f}; it is {deadline}",
            "/deadline",
        )
    return deadline
