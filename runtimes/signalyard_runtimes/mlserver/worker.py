"""A thread that works off one call after another for an event loop."""

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

_Made = TypeVar("_Made")


class Worker:
    """The thread; it begins with its first call. An executor of one thread takes three times as long for a call and its answer."""

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # It holds nothing that would be lost: whoever stops the process has waited for the answers.
        self._thread = Thread(target=_work, args=(self._calls,), name=name, daemon=True)
        self._begun = self._ended = False

    async def run(self, function: Callable[..., _Made], *arguments: Any) -> _Made:
        """What ``function`` makes of the arguments on the thread, where it goes on if its caller is cancelled; after `end`, here."""
        if self._ended:
            return function(*arguments)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_Made] = loop.create_future()

        def call() -> None:
            try:
                made = function(*arguments)
            except BaseException as exc:  # noqa: BLE001 -- it is the caller's
                loop.call_soon_threadsafe(_fail, done, exc)
            else:
                loop.call_soon_threadsafe(_give, done, made)

        if not self._begun:
            self._begun = True
            self._thread.start()
        self._calls.put(call)
        return await done

    def end(self) -> None:
        """Let the thread end once it has worked off what it was given."""
        self._ended = True
        self._calls.put(None)


def _work(calls: "SimpleQueue[Callable[[], None] | None]") -> None:
    while (call := calls.get()) is not None:
        call()
        del call  # else all that it holds would be kept until the next


def _give(done: asyncio.Future[_Made], made: _Made) -> None:
    if not done.cancelled():
        done.set_result(made)


def _fail(done: asyncio.Future[Any], exc: BaseException) -> None:
    if not done.cancelled():
        done.set_exception(exc)
