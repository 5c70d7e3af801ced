"""One connection to the API server, with one request at a time. A watch reads its answer as it comes."""

import asyncio
from collections import deque
from typing import cast

import httptools

from signalyard_router.adapters.kube.errors import ApiError, GarbledError, UnreachableError


class Connection(asyncio.Protocol):
    """HTTP/1.1. Whoever calls bounds it in time, and closes it unless the answer was read to its end.

    ``most`` is how many bytes may wait to be read.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._begun = False
        self._head = False
        self._complete = True
        self._failure: ApiError | None = None
        self._keep = False
        self.status = 0
        self.retry_after: float | None = None

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return (
            self._complete
            and self._failure is None
            and self._transport is not None
            and not self._transport.is_closing()
        )

    def send(self, request: bytes) -> None:
        """Send a whole request."""
        assert self._transport is not None, "not connected"
        self._pieces.clear()
        self._size, self.status, self.retry_after = 0, 0, None
        self._begun = self._head = self._complete = self._keep = False
        self._transport.write(request)

    async def head(self) -> int:
        """The answer's status. Raises ApiError."""
        while not self._head:
            await self._wait()
        return self.status

    async def piece(self) -> bytes:
        """The next piece of the body, or nothing at its end. Raises ApiError where the connection ends before."""
        while not self._pieces:
            if self._complete:
                return b""
            await self._wait()
        piece = self._pieces.popleft()
        self._size -= len(piece)
        return piece

    async def body(self) -> bytes:
        """All that is left of the body. Raises ApiError."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Give it up."""
        self._fail(UnreachableError("the connection was closed here"))

    @property
    def reusable(self) -> bool:
        """Whether the answer was read to its end, and the server keeps the connection open."""
        return self._keep and not self._pieces and self.usable

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._complete:
            self._fail(GarbledError("the API server sent what nobody asked for"))
            return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self._fail(GarbledError(f"the answer is not HTTP: {exc}"))
        if self._size > self._most:
            self._fail(GarbledError(f"the answer is larger than {self._most} bytes"))
        self._news.set()

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        when = "within the answer" if self._begun else "before an answer"
        why = f": {exc}" if exc else ""
        self._fail(UnreachableError(f"the connection ended {when}{why}", unsent=not self._begun))

    # httptools' side

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header came; one of them says how long to wait."""
        if name.lower() == b"retry-after" and value.isdigit():
            self.retry_after = float(value)

    def on_headers_complete(self) -> None:
        """The header is whole; an interim one (1xx) is not the answer's."""
        self.status = self._parser.get_status_code()
        self._head = self.status >= 200

    def on_body(self, data: bytes) -> None:
        """A part of the body came."""
        if self._head:
            self._pieces.append(data)
            self._size += len(data)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._head:
            self._complete = True
            self._keep = self._parser.should_keep_alive()

    # own

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._news.clear()
        await self._news.wait()

    def _fail(self, failure: ApiError) -> None:
        if self._failure is None:
            self._failure = failure
        if isinstance(failure, GarbledError):
            # Nothing of it is to be believed; of a connection that only ended, what came before is.
            self._pieces.clear()
            self._complete = False
        if self._transport is not None:
            self._transport.abort()
        self._news.set()
