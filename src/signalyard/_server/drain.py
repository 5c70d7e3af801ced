"""How a server stops without failing a request."""

import asyncio
import logging
from contextlib import suppress
from typing import Protocol

from signalyard._server.connection import Connections

_log = logging.getLogger("signalyard.http")

_CANCEL_SECONDS = 1.0
"""How long a request that was cancelled at the end of the grace may take to say so to its client."""


class Listener(Protocol):
    """A listening socket."""

    def close(self) -> None:
        """Stop accepting; connections that are open stay open."""
        ...


async def drain(shared: Connections, listener: Listener | None, grace_seconds: float) -> None:
    """No new connections, idle ones closed after one more request or a moment without, what is in hand answered within the
    grace; then all is closed."""
    shared.draining = True
    if listener is not None:
        listener.close()
    # A connection that was accepted in this turn is made in the next, and has to be among those that are waited for: its
    # request would be read when what it needs is closed already.
    for _ in range(2):
        await asyncio.sleep(0)
    for connection in list(shared.connections):
        connection.shutdown()
    try:
        async with asyncio.timeout(grace_seconds):
            await shared.empty.wait()
            await shared.answered()
    except TimeoutError:
        _log.warning(
            "event=drain_expired connections=%d requests=%d seconds=%g",
            len(shared.connections),
            len(shared.tasks),
            grace_seconds,
        )
        await _cut(shared)


async def _cut(shared: Connections) -> None:
    for doing in list(shared.tasks):
        doing.cancel()
    with suppress(TimeoutError):
        async with asyncio.timeout(_CANCEL_SECONDS):
            await shared.answered()
    for connection in list(shared.connections):
        connection.transport.abort()
    await shared.empty.wait()
