"""An event loop in virtual time. Nothing in it depends on an address in memory, so that a seed repeats exactly."""

import asyncio
import contextvars
from asyncio import base_events, events
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")


class Owner(Protocol):
    """Whoever tasks, callbacks and timers belong to."""

    @property
    def halted(self) -> bool:
        """Whether `hold` is to be asked before anything of the owner's runs."""
        ...

    def hold(self, handle: asyncio.Handle) -> bool:
        """Keep a callback back that is due, for later or for good; whether that was done."""
        ...

    def adopt(self, task: "SimTask[Any]") -> None:
        """A task was started in the owner's context."""
        ...


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class DeadlockError(Exception):
    """Everything waits, and nothing is left that could ever happen."""


class SimTask(asyncio.Task[_T]):
    """A task that hashes by the order of its creation: asyncio keeps tasks in sets."""

    number: int
    owner: Owner | None

    def __hash__(self) -> int:
        return self.number


class SimFuture(asyncio.Future[_T]):
    """A future that hashes by the order of its creation."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimLoop(base_events.BaseEventLoop):
    """Runs what is due, then moves its time on to the next timer. ``now`` is nanoseconds since the loop's beginning.

    Timers that are due at one time run in the order in which they were set. Raises DeadlockError where no timer is left and
    the main task is not done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self._numbers = count(1)
        self._timers: list[tuple[int, int, asyncio.TimerHandle]] = []
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]  # typeshed has it keyword-only

    def time(self) -> float:
        return self.now / 1e9

    def create_future(self) -> asyncio.Future[Any]:
        future: SimFuture[Any] = SimFuture(loop=self)
        future.number = next(self._numbers)
        return future

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self._set(self.now + round(delay * 1e9), callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self._set(round(when * 1e9), callback, args, context)

    def again(self, handles: list[asyncio.Handle]) -> None:
        """Let what was held back run now."""
        self._ready.extend(handles)  # type: ignore[attr-defined]

    def _set(
        self, due: int, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> asyncio.TimerHandle:
        handle = events.TimerHandle(due / 1e9, callback, args, self, context)
        heappush(self._timers, (due, next(self._numbers), handle))
        return handle

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            while timers and timers[0][2]._cancelled:
                heappop(timers)
            if not timers:
                raise DeadlockError("everything waits, and no timer is left")
            self.now = max(self.now, timers[0][0])
        while timers and timers[0][0] <= self.now:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            owner = handle._context.get(OWNER)
            if owner is not None and owner.halted and owner.hold(handle):
                continue
            handle._run()

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, _T], context: Context | None = None
    ) -> asyncio.Task[_T]:
        task: SimTask[_T] = SimTask.__new__(SimTask)
        task.number = next(self._numbers)
        task.owner = owner = OWNER.get() if context is None else context.get(OWNER)
        task.__init__(coro, loop=loop, context=context or contextvars.copy_context())  # type: ignore[misc]
        if owner is not None:
            owner.adopt(task)
        return task

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""
