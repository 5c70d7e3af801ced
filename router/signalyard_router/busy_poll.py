"""Keeping a core awake, for whoever would rather pay for it than wait for it."""

import asyncio
from collections.abc import Callable

from signalyard_router.ports import Clock

_LOOK_SECONDS = 0.01
"""How often is looked whether requests have begun to come."""


class BusyPoll:
    """The event loop asks the kernel for news without a pause, for ``patience`` nanoseconds after each request, instead of sleeping.

    A core that sleeps wakes late, and finds little in its caches; on a virtual machine that is a third of a lone request's time. Whoever
    asks for this gives the process a core of its own: it is busy all the while. ``requests`` says how many have come so far.
    """

    def __init__(self, clock: Clock, requests: Callable[[], int], patience: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._now = clock.monotonic
        self._requests = requests
        self._patience = patience
        self._seen = requests()
        self._until = 0
        self._next: asyncio.Handle = self._loop.call_later(_LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Let the loop sleep."""
        self._next.cancel()

    def _look(self) -> None:
        if self._requests() != self._seen:
            self._turn()
        else:
            self._next = self._loop.call_later(_LOOK_SECONDS, self._look)

    def _turn(self) -> None:
        now, count = self._now(), self._requests()
        if count != self._seen:
            self._seen, self._until = count, now + self._patience
        if now < self._until:
            self._next = self._loop.call_soon(self._turn)
        else:
            self._next = self._loop.call_later(_LOOK_SECONDS, self._look)
