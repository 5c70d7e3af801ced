"""The router and its models for a strategy without an event loop: they have one on a thread of their own."""

import asyncio
import concurrent.futures
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import uvloop
from prometheus_client import CollectorRegistry

from signalyard._bodies import Snapshots, encode, only
from signalyard.clients import checked
from signalyard.problems import Problem, error
from signalyard.wire import Decision, Snapshot, StateAnswer
from signalyard_inline.opening import AsyncInlineRouter, open_inline
from signalyard_inline.settings import InlineSettings
from signalyard_router.router import Status
from signalyard_router.rules.levers import Lever, Order

_PULL_SECONDS = 10.0
"""How long a lever may take: with fsync, a slow disk."""
_SETTLE_SECONDS = 1.0
"""How long close() waits for calls of other threads."""
_CLOSE_SECONDS = 30.0
_T = TypeVar("_T")


class InlineRouter:
    """A router in this process, for a strategy that blocks; threads may share it. It is asked as a `signalyard.Client` is.

        with InlineRouter(InlineSettings(models=Path("models"), routes=Path("routes"))) as router:
            decision = router.decide(Snapshot(symbol="rb2410.SHFE", ts_event=..., features={"close": 3512.0}))

    ``deadline`` is in seconds, for calls that name none of their own. It belongs to the process that made it: after a fork, and after
    close(), its methods raise RuntimeError; what is still under way a second after close() raises RouterError (draining).
    """

    def __init__(
        self, settings: InlineSettings, deadline: float = 0.1, *, registry: CollectorRegistry | None = None
    ) -> None:
        """Returns once the router is ready. Raises as `open_inline` does, and CallerError (invalid_setting)."""
        self._deadline = checked(deadline)
        self._home = _Home(settings, registry)
        # The thread holds its home and not the router, so that a forgotten one ends too.
        self._finalizer = weakref.finalize(self, self._home.close)

    def decide(self, snapshot: Snapshot, *, deadline: float | None = None) -> Decision:
        """The decision on one snapshot, in ``deadline`` seconds. Raises as `AsyncInlineRouter.decide` and `predict` do."""
        return only(snapshot, self.predict(snapshot, deadline=deadline))

    def predict(self, snapshots: Snapshots, *, deadline: float | None = None) -> list[Decision]:
        """Decisions, as `AsyncInlineRouter.predict` gives them, in ``deadline`` seconds.

        Raises RouterError (deadline_exceeded) where that passes first. Then the router may have decided all the same; the same snapshot
        again gets that decision.
        """
        received = time.monotonic_ns()
        seconds = self._deadline if deadline is None else deadline
        body = encode(snapshots)
        return self._home.call(self._home.router.predict_body(body, received, seconds), max(0.0, seconds))

    def state(self, symbol: str | None = None, route: str | None = None) -> StateAnswer:
        """What the routes last said, of all instruments or ``symbol``, of all routes or ``route``."""
        return self._home.call(_later(lambda: self._home.router.state(symbol, route)), self._deadline)

    def status(self) -> Status:
        """The router as it stands, for people."""
        return self._home.call(_later(self._home.router.status), self._deadline)

    def pull(self, order: Order) -> Lever:
        """Pull a lever: halt, pause, weight, rollback. Raises CallerError naming the field, RouterError where it is not recorded."""
        return self._home.call(self._home.router.pull(order), _PULL_SECONDS)

    def close(self) -> None:
        """Let what is under way end, close the journal, and end the thread."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Home:
    """The thread with the event loop on which a router lives."""

    def __init__(self, settings: InlineSettings, registry: CollectorRegistry | None) -> None:
        self.router: AsyncInlineRouter
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._under_way: set[asyncio.Task[Any]] = set()
        self._pid = os.getpid()
        self._closed = False
        ready: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = threading.Thread(
            target=self._live, args=(settings, registry, ready), name="signalyard-router", daemon=True
        )
        self._thread.start()
        ready.result()

    def call(self, work: Coroutine[Any, Any, _T], seconds: float) -> _T:
        """Have ``work`` done on the loop. Raises RouterError (deadline_exceeded) after so many seconds, and what it raises."""
        if self._closed or os.getpid() != self._pid:
            work.close()
            raise RuntimeError("this router is closed" if self._closed else f"it belongs to process {self._pid}")
        done = asyncio.run_coroutine_threadsafe(self._known(work), self._loop)
        try:
            return done.result(seconds)
        except concurrent.futures.TimeoutError as exc:
            if done.done():
                raise
            raise error(Problem.DEADLINE_EXCEEDED, "the deadline passed while the router decided") from exc
        except concurrent.futures.CancelledError as exc:
            raise error(Problem.DRAINING, "the router was closed before it had decided") from exc

    async def _known(self, work: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        try:
            return await work
        finally:
            self._under_way.discard(task)

    def close(self) -> None:
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_CLOSE_SECONDS)

    def _live(
        self,
        settings: InlineSettings,
        registry: CollectorRegistry | None,
        ready: "concurrent.futures.Future[None]",
    ) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve(settings, registry, ready))
        except BaseException as exc:
            if ready.done():
                raise
            ready.set_exception(exc)

    async def _serve(
        self,
        settings: InlineSettings,
        registry: CollectorRegistry | None,
        ready: "concurrent.futures.Future[None]",
    ) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with open_inline(settings, registry=registry) as self.router:
            ready.set_result(None)
            await self._stop.wait()
            if self._under_way:
                await asyncio.wait(self._under_way, timeout=_SETTLE_SECONDS)


async def _later(function: Callable[[], _T]) -> _T:
    return function()
