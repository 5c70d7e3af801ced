"""What a client needs of a wire."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from signalyard.following import Wanted
from signalyard.wire import Signal


class Wire(Protocol):
    """One way to a router, used on one event loop. Bodies are the JSON of the REST interface (docs/rest.md).

    Whoever calls bounds a call in time, by cancelling it. A call raises SignalyardError with what the router answered instead, OSError where
    there was no whole answer; the router may have decided all the same, and asking again gives what it decided.
    """

    async def predict(self, body: bytes, budget: int) -> bytes:
        """The decisions on the snapshots in ``body``; ``budget`` is how many microseconds the caller still waits."""
        ...

    async def state(self, symbol: str | None = None, route: str | None = None) -> bytes:
        """What the routes last said."""
        ...

    def signals(self, wanted: Wanted) -> AbstractAsyncContextManager[AsyncIterator[Signal]]:
        """Connect; signals that leave from then on come one by one, perhaps more than were asked for, perhaps some again.

        Raises OSError or SignalyardError, also later, where the connection ends; the iterator's end is one, too.
        """
        ...

    async def close(self) -> None:
        """Give up whatever it holds."""
        ...
