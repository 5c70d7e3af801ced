"""An event loop in virtual time. Nothing in it depends on an address in memory, so that a seed repeats exactly."""

import asyncio
from asyncio import base_events
from collections.abc import Coroutine
from contextvars import Context, ContextVar
from itertools import count
from typing import Any, Protocol, TypeVar

_T = TypeVar("_T")


class Owner(Protocol):
    """Whoever tasks belong to."""

    def adopt(self, number: int, task: "asyncio.Task[Any]") -> None:
        """A task was started in the owner's context."""


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class DeadlockError(Exception):
    """Everything waits, and nothing is left that could ever happen."""


class SimTask(asyncio.Task[_T]):
    """A task that hashes by the order of its creation: asyncio keeps tasks in sets."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimFuture(asyncio.Future[_T]):
    """A future that hashes by the order of its creation."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimLoop(base_events.BaseEventLoop):
    """Runs what is due, then moves its time on to the next timer. ``now`` is nanoseconds since the loop's beginning.

    Raises DeadlockError where no timer is left and the main task is not done.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self._numbers = count(1)
        self._selector = self  # asked by the base class, with the time until the next timer
        self._clock_resolution = 1e-9
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]  # typeshed has it keyword-only

    def time(self) -> float:
        return self.now / 1e9

    def create_future(self) -> asyncio.Future[Any]:
        future: SimFuture[Any] = SimFuture(loop=self)
        future.number = next(self._numbers)
        return future

    def select(self, timeout: float | None) -> list[Any]:
        """Instead of waiting for the outside, let time pass."""
        if timeout is None:
            raise DeadlockError("everything waits, and no timer is left")
        if timeout > 0:
            self.now += max(1, round(timeout * 1e9))
        return []

    def _make_task(
        self, loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, _T], context: Context | None = None
    ) -> asyncio.Task[_T]:
        task: SimTask[_T] = SimTask.__new__(SimTask)
        task.number = next(self._numbers)
        task.__init__(coro, loop=loop, context=context)  # type: ignore[misc]
        owner = OWNER.get()
        if owner is not None:
            owner.adopt(task.number, task)
        return task

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no events from outside."""

    def _write_to_self(self) -> None:
        """Nobody calls from another thread."""
