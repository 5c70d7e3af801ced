"""Waiting until nobody asks any more, where a client cannot be told to go."""

import asyncio
from collections.abc import Callable

_QUIET = 250_000_000
"""Nanoseconds: whoever was about to ask has asked after so long."""


async def quiet(asked: Callable[[], int], now: Callable[[], int], until: int) -> None:
    """Return when nobody has asked for a quarter of a second from now on, ``until`` at the latest.

    ``asked`` says when somebody did last, ``now`` is the monotonic clock; nanoseconds all of them.

    grpcio cancels what comes on an open connection once it is told to stop, and has no way to tell clients before. Those who heed the
    health service, which says so from the beginning of a shutdown, have gone by then.
    """
    began = now()
    while (left := min(max(began, asked()) + _QUIET, until) - now()) > 0:  # noqa: ASYNC110 -- for nothing to happen
        await asyncio.sleep(left / 1e9)
