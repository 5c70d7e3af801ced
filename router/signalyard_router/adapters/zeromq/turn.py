"""What came in one turn of the event loop."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Turn(Generic[_T]):
    """Keeps what is to begin until the turn has ended; ``begin`` raises nothing.

    How long it waits for that says how busy the loop is, which is what admission goes by.
    """

    def __init__(self, begin: Callable[[_T], None]) -> None:
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._came: list[_T] = []

    def __len__(self) -> int:
        return len(self._came)

    def add(self, one: _T) -> None:
        """Have it begun when the turn has ended."""
        if not self._came:
            self._loop.call_soon(self.end)
        self._came.append(one)

    def end(self) -> None:
        """Begin at once what is kept."""
        came, self._came = self._came, []
        for one in came:
            self._begin(one)
