"""Answers that are to come."""

import asyncio
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Promise(Generic[T]):
    """As a future, but the one who waits is told at once, and not by a turn of the event loop of its own."""

    __slots__ = ("_cancelled", "_done", "_failure", "_result", "_tell", "_waiter")

    def __init__(self) -> None:
        self._tell: Callable[[Promise[T]], object] | None = None
        self._result: T | None = None
        self._failure: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._done = self._cancelled = False

    def add_done_callback(self, tell: "Callable[[Promise[T]], object]") -> None:
        """Say whom to tell; one alone can be."""
        assert self._tell is None, "somebody waits already"
        self._tell = tell
        if self._done:
            tell(self)

    def set_result(self, result: T) -> None:
        """Keep it."""
        self._result = result
        self._end()

    def set_exception(self, failure: BaseException) -> None:
        """Say why it cannot be kept."""
        self._failure = failure
        self._end()

    def cancel(self) -> bool:
        """Nobody waits any longer; False where it is done."""
        if self._done:
            return False
        self._cancelled = True
        self._failure = asyncio.CancelledError()
        self._end()
        return True

    def done(self) -> bool:
        """Whether it was kept, broken or cancelled."""
        # a task that waits is woken, to cancel it, in the loop's next turn alone
        return self._done or (self._waiter is not None and self._waiter.cancelled())

    def cancelled(self) -> bool:
        """Whether nobody waits any longer."""
        return self._cancelled

    def result(self) -> T:
        """What was promised, once it is done. Raises what it failed with; CancelledError where it was cancelled."""
        if self._failure is not None:
            raise self._failure
        return cast(T, self._result)

    def exception(self) -> BaseException | None:
        """What it failed with, once it is done."""
        return self._failure

    async def outcome(self) -> T:
        """`result` for who has a task to wait in; where that is cancelled, so is this."""
        waiter = self._waiter = asyncio.get_running_loop().create_future()

        def wake(_: "Promise[T]") -> None:
            if not waiter.done():
                waiter.set_result(None)

        self.add_done_callback(wake)
        try:
            await waiter
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self.result()

    def _end(self) -> None:
        self._done = True
        if self._tell is None:
            return
        try:
            self._tell(self)
        except Exception as exc:  # noqa: BLE001 -- as with a future, that is nobody's concern who keeps the promise
            context = {"message": "whoever waits for a promise failed", "exception": exc}
            asyncio.get_running_loop().call_exception_handler(context)


class UnderWay:
    """The promises that a wire waits for. It takes each out when it is told."""

    def __init__(self) -> None:
        self._promises: dict[Promise[Any], None] = {}
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._promises)

    def add(self, promise: Promise[Any]) -> None:
        """Wait for one more."""
        self._promises[promise] = None

    def remove(self, promise: Promise[Any]) -> None:
        """It is done."""
        del self._promises[promise]
        if not self._promises:
            self._empty.set()

    async def ended(self, seconds: float) -> bool:
        """Whether all of them are done within these seconds; returns as soon as they are."""
        if self._promises:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), seconds)
            except TimeoutError:
                return False
        return True

    def cancel(self) -> None:
        """Wait for none of them any longer."""
        for promise in list(self._promises):
            promise.cancel()
