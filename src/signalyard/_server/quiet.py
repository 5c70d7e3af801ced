"""Waiting until nobody asks any more, where a client cannot be told to go."""

import asyncio
from collections.abc import Callable

_QUIET = 250_000_000
"""Nanoseconds: whoever was about to ask has asked after so long."""


async def quiet(asked: Callable[[], int], now: Callable[[], int], grace_seconds: float) -> float:
    """Return when nobody has asked for a quarter of a second from now on, after half of the grace at the latest; the seconds that are left of
    it.

    ``asked`` says when somebody did last, ``now`` is the monotonic clock; nanoseconds both.

    grpcio cancels what comes on an open connection once it is told to stop, and has no way to tell clients before. Those who heed the
    health service, which says so from the beginning of a shutdown, have gone by then.
    """
    began, grace = now(), round(grace_seconds * 1e9)
    until = began + grace // 2
    while (left := min(max(began, asked()) + _QUIET, until) - now()) > 0:  # noqa: ASYNC110 -- for nothing to happen
        await asyncio.sleep(left / 1e9)
    return max(0, began + grace - now()) / 1e9
