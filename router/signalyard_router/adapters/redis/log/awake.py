"""Keeping the event loop awake while an answer is nearly there."""

import asyncio

from signalyard_router.ports import Clock


class Awake:
    """The loop asks the kernel for news without a pause while an append is on its way, for ``most`` nanoseconds, instead of sleeping.

    A core that sleeps for a tenth of a millisecond wakes late: what that takes is a third of a commit that goes alone. Where there is other
    work the loop does it as ever. An answer that took longer than ``most`` is slept for the next time: there is little to gain, and
    much to burn.
    """

    def __init__(self, clock: Clock, most: int) -> None:
        self._now = clock.monotonic
        self._most = most
        self._sent = 0
        self._took = 0
        self._waits = False
        self._turns = False

    def sent(self, loop: asyncio.AbstractEventLoop) -> None:
        """An append went off."""
        self._sent, self._waits = self._now(), True
        if self._took < self._most and not self._turns:
            self._turns = True
            loop.call_soon(self._turn, loop)

    def answered(self) -> None:
        """Its answer is there, or will not come."""
        self._took, self._waits = self._now() - self._sent, False

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turns = self._waits and self._now() - self._sent < self._most
        if self._turns:
            loop.call_soon(self._turn, loop)
