"""One connection to a model server, with one request in flight at most."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import httptools

from signalyard_router.adapters.oip.errors import EndedError, ExpiredError, UnreadableError, WireError
from signalyard_router.adapters.oip.settings import OipSettings


class Connection(asyncio.Protocol):
    """An HTTP/1.1 connection that is reused only while there is no doubt whose answer comes next.

    Whatever leaves such a doubt closes it at once: a request given up or timed out, bytes that no request asked for, an
    answer that cannot be parsed, is too large or says ``connection: close``. Otherwise one instrument gets another's score.

    :meth:`send` returns a future that only says that the outcome is there: then either ``failure`` is set, or ``status`` is
    and :meth:`take_body` has the body. ``on_closed`` is called once, when the connection stops being usable, whoever ended it.

    A body that ends with the connection, having neither a length nor chunks, is refused: half of it could not be told from
    the whole.
    """

    __slots__ = (
        "_body",
        "_complete",
        "_excess",
        "_in_body",
        "_keep_alive",
        "_loop",
        "_max_answer",
        "_max_header",
        "_on_closed",
        "_parser",
        "_received",
        "_timer",
        "_transport",
        "_waiter",
        "closed",
        "failure",
        "status",
    )

    def __init__(self, settings: OipSettings, on_closed: Callable[["Connection"], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_answer = settings.max_answer_bytes
        self._max_header = settings.max_header_bytes
        self._on_closed = on_closed
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._body: bytes | bytearray = b""
        self._received = 0
        self._in_body = False
        self._complete = False
        self._excess = False
        self._keep_alive = False
        self.closed = False
        self.failure: WireError | None = None
        self.status = 0

    def take_body(self) -> bytes:
        """The body of the answer, once: an idle connection holds no memory."""
        body, self._body = self._body, b""
        return bytes(body)  # the same object where it is bytes already

    @property
    def usable(self) -> bool:
        """Whether another request may be sent on it."""
        return not self.closed and self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, seconds: float) -> asyncio.Future[None]:
        """Send a whole request whose answer is worth ``seconds``; the future completes within them.

        Cancelling the future leaves the connection to be closed by whoever awaits it.
        """
        assert self._transport is not None, "not connected"
        assert self._waiter is None, "a request is in flight"
        self._body = b""
        self._received = 0
        self._in_body = self._complete = self._excess = False
        self._waiter = waiter = self._loop.create_future()
        self._timer = self._loop.call_later(seconds, self._expire)
        self._transport.write(request)
        return waiter

    def close(self) -> None:
        """Give the connection up. A request in flight fails."""
        if self._waiter is not None and self.failure is None:
            self.failure = EndedError("the connection was closed here", answering=False)
        self._end()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self.closed:
            self._transport.abort()
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.close()  # nobody asked, or who asked has gone
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            if not self._complete:
                self._fail(UnreadableError(f"the answer is not HTTP: {exc}"), exc)
                return
            self._excess = True
        limit = self._max_answer if self._in_body else self._max_header
        if self._received > limit:
            part = "answer" if self._in_body else "answer's header"
            self._fail(UnreadableError(f"the {part} is larger than {limit} bytes"))
        elif self._complete:
            self._waiter = None
            self._stop_timer()
            if self._excess or not self._keep_alive:
                self._end()
            waiter.set_result(None)

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None:
            answering = self._received > 0
            when = "within the answer" if answering else "before an answer"
            self._fail(EndedError(f"the connection ended {when}", answering=answering), exc)
        else:
            self._end()

    # httptools' side; it needs no headers, so it is given no callback for them and keeps none

    def on_message_begin(self) -> None:
        """A first byte of a message came; after the answer's end nobody asked for it."""
        if self._complete:
            self._excess = True

    def on_headers_complete(self) -> None:
        """The header is whole; an interim answer (1xx) has no body and is not the answer."""
        if not self._complete:
            self.status = self._parser.get_status_code()
            self._in_body = self.status >= 200

    def on_body(self, data: bytes) -> None:
        """A part of the body came."""
        if self._complete:
            return
        if not self._body:
            self._body = data
        else:
            if not isinstance(self._body, bytearray):
                self._body = bytearray(self._body)
            self._body += data

    def on_message_complete(self) -> None:
        """The message is whole."""
        if self._in_body and not self._complete:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()

    # own

    def _expire(self) -> None:
        self._timer = None
        answering = "; a part of the answer had come" if self._received else ""
        self._fail(ExpiredError(f"no answer within the budget{answering}"))

    def _fail(self, failure: WireError, cause: BaseException | None = None) -> None:
        failure.__cause__ = cause
        self.failure = failure
        self._end()

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        self._on_closed(self)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
