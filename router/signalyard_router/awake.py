"""Keeping the event loop awake while an answer is nearly there: of a model server, of the shared log."""

import asyncio

from signalyard_router.ports import Clock

_RAREST = 10
"""Where it never helps, it is tried with one question of two to the power of this."""


class Awake:
    """The loop asks the kernel for news without a pause while a question to one server is under way, for ``most`` nanoseconds, instead of
    sleeping. With 0 it always sleeps.

    A core that sleeps for a tenth of a millisecond wakes late: that was an eighth of a commit that went alone. Where there is other
    work the loop does it as ever. Where no answer came in that time, the next ones are slept for, twice as many each time: the server may
    be far, and then there is little to gain, or wait for this very core, and then it would be kept from answering.
    """

    def __init__(self, clock: Clock, most: int) -> None:
        self._now = clock.monotonic
        self._most = most
        self._sent = 0
        self._waits = False
        self._turns = False
        self._failures = 0
        self._slept = 0

    def sent(self, loop: asyncio.AbstractEventLoop) -> None:
        """A question went off."""
        self._sent, self._waits = self._now(), True
        if self._slept:
            self._slept -= 1
        elif self._most and not self._turns:
            self._turns = True
            loop.call_soon(self._turn, loop)

    def answered(self) -> None:
        """Its answer is there, or will not come."""
        if self._turns:
            self._failures = 0
        self._waits = False

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._waits:
            self._turns = False
        elif self._now() - self._sent < self._most:
            loop.call_soon(self._turn, loop)
        else:
            self._turns = False
            self._failures = min(self._failures + 1, _RAREST)
            self._slept = 2**self._failures - 1
