"""How long the way of a bundle may take, and when it is tried again."""

import random
import time
from collections.abc import Callable

from signalyard.problems import CATALOGUE, Problem, SignalyardError, error

STALL_SECONDS = 30.0
"""How long nothing may arrive before a connection counts as lost."""

_ATTEMPTS = 5
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0


class Patience:
    """One transfer's time, and its attempts: five in a row that bring nothing are enough.

    Clock, sleep and chance are given by tests.
    """

    def __init__(
        self,
        seconds: float,
        *,
        stall_seconds: float = STALL_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.seconds = seconds
        self.stall_seconds = stall_seconds
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self._end = clock() + seconds
        self._failed = 0

    @property
    def remaining(self) -> float:
        """What is left, in seconds. Raises ModelError (bundle_transfer_timeout) where nothing is."""
        left = self._end - self._clock()
        if left <= 0:
            raise error(Problem.BUNDLE_TRANSFER_TIMEOUT, f"not done after {self.seconds:g} s")
        return left

    def pause(self, exc: SignalyardError, *, progress: bool) -> float:
        """Wait before the next attempt after ``exc``; gives the seconds. ``progress``: the attempt brought something.

        Raises ``exc`` itself where another attempt would be in vain, or there were enough.
        """
        self._failed = 1 if progress else self._failed + 1
        if not CATALOGUE[exc.problem].retryable or exc.problem is Problem.BUNDLE_TRANSFER_TIMEOUT:
            raise exc
        if self._failed >= _ATTEMPTS:
            raise error(exc.problem, f"{exc.detail}; tried {_ATTEMPTS} times", exc.pointer) from exc
        # Half of it by chance, so that many pods that lost one store do not come back to it at once.
        pause = min(_FIRST_PAUSE * float(2 ** (self._failed - 1)), _LONGEST_PAUSE) * (0.5 + self._chance() / 2)
        if pause >= self.remaining:
            raise exc
        self._sleep(pause)
        return pause

    def wait(self, seconds: float) -> None:
        """Wait for something else, as long as there is time. Raises ModelError (bundle_transfer_timeout)."""
        self._sleep(min(seconds, self.remaining))
