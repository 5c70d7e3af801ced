"""One client's connection: HTTP/1.1 by httptools' parser, with a bound on everything that it waits for and reads."""

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from functools import lru_cache, partial
from http import HTTPStatus
from math import inf
from typing import Any, Protocol, cast

import httptools
import msgspec

from signalyard._server import plain
from signalyard._server.answer import Answer
from signalyard._server.bounds import HEADER_TOO_LARGE, ConnectionMetrics, ConnectionSettings, Refusal, Wait
from signalyard._server.request import ID_HEADER, Request, split_target
from signalyard.problems import Problem

_EARLY = 0.001  # uvloop's timers count in milliseconds, and may fire that much too soon
_LARGE_PART = 4096  # bytes; a body's smaller parts are put together as they come, each by itself would take more memory than it has bytes
_FRAMING = 6  # bytes on the wire for a byte of body, at worst: chunks of one byte
_ID = b"\r\n" + ID_HEADER + b": "


class Answering(Protocol):
    """Who answers requests.

    A task for each request costs more than a quick answer. So it may have a method ``at_once``, too, from a request to its answer,
    whatever happens, which is called as soon as the request is read; and a method ``begin`` that also may give a `Later`, and is
    called when all that came in one turn of the event loop has been read. Both give None where it takes a task.
    """

    @property
    def metrics(self) -> ConnectionMetrics:
        """What is counted of its connections."""
        ...

    async def answer(self, request: Request) -> Answer:
        """The answer, whatever happens; where it is cancelled too."""
        ...

    def refusal(self, problem: Problem, detail: str, status: int | None) -> Answer:
        """The answer to what was never a request; ``status`` replaces the problem's own."""
        ...


class Doing(Protocol):
    """What an answer waits for, a future or something like it."""

    def add_done_callback(self, tell: Callable[[Any], object], /) -> None:
        """Call ``tell`` once with this when it is done, or was cancelled."""
        ...

    def cancel(self) -> bool:
        """Nobody waits any longer."""
        ...


class Later(msgspec.Struct, frozen=True):
    """An answer that was begun without a task: ``made`` makes it, whatever happens, once ``done`` is done, or was cancelled at the end
    of the server's grace."""

    done: Doing
    made: Callable[[Any], Answer]


class Clock(Protocol):
    """A clock that never steps."""

    def monotonic(self) -> int:
        """Nanoseconds of no fixed origin; the event loop's timers run on the same clock."""
        ...


class Connections:
    """What the connections of one server share. ``empty`` is set while there are none. The sets are dicts, for their order."""

    def __init__(self, app: Answering, settings: ConnectionSettings, clock: Clock) -> None:
        self.app = app
        self.at_once: Callable[[Request], Answer | None] | None = getattr(app, "at_once", None)
        self._begin: Callable[[Request], Answer | Later | None] | None = getattr(app, "begin", None)
        self._turn: list[tuple[Connection, Request]] = []
        self.settings = settings
        self.clock = clock
        self.metrics = app.metrics
        self.connections: dict[Connection, None] = {}
        self.tasks: dict[Doing, None] = {}
        """What is being answered."""
        self.draining = False
        self._none_left = asyncio.Event()
        self.empty = asyncio.Event()
        self.empty.set()

    def start(self, connection: "Connection", request: Request) -> None:
        """Have a request answered whose turn has come on its connection."""
        if self._begin is None:
            connection.start_task(request)
            return
        if not self._turn:
            asyncio.get_running_loop().call_soon(self._begin_turn, self._begin)
        self._turn.append((connection, request))

    def began(self, doing: Doing) -> None:
        """An answer is on its way; what it waits for calls `ended` then."""
        self.tasks[doing] = None

    def ended(self, doing: Doing) -> None:
        """It is given, or nobody wants it."""
        del self.tasks[doing]
        if not self.tasks:
            self._none_left.set()

    async def answered(self) -> None:
        """Return once nothing is being answered, nor about to be."""
        while self.tasks or self._turn:
            if not self.tasks:
                await asyncio.sleep(0)
                continue
            self._none_left.clear()
            await self._none_left.wait()

    def _begin_turn(self, begin: Callable[[Request], Answer | Later | None]) -> None:
        turn, self._turn = self._turn, []
        for connection, request in turn:
            connection.begin(request, begin)


class _RefusedError(Exception):
    """Stops the parser in the middle of a request that has been refused."""


class Connection(asyncio.Protocol):
    """A connection that waits for nothing for ever, and reads nothing without a bound.

    A request is started when it is whole, so that a slow client costs a buffer and no task. Requests that came while one is being
    answered wait their turn, and nothing more is read meanwhile. What is refused is answered here, after the answers to the
    requests that came before it on the connection; then the connection stays half open for a moment, and what the client still
    sends is dropped, so that it can read the answer.

    One timer serves all waits. It is set again only when something is due before it fires; what is put off is noticed then.
    """

    def __init__(self, shared: Connections) -> None:
        self._shared = shared
        self._settings = shared.settings
        self._loop = asyncio.get_running_loop()
        self._parser = self._new_parser()
        self._client = ""
        # the request that is being read
        self._reading: Wait | None = None  # HEADERS or BODY
        self._moved = False  # a part of a request has begun or ended
        self._chunk = 0  # bytes in the read being parsed
        self._later = 0  # bytes of the header or body in the reads after the one that it began in
        self._length = 0  # of the body, as declared
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._request: Request | None = None  # from the end of its header on
        self._body: list[bytes | bytearray] = []
        self._size = 0  # of it, so far
        self._expects = False  # it waits to be told to go on with its body
        self._offered = False  # another protocol; it is read again without the offer
        # the requests that are being answered
        self._running: Request | None = None
        self._fresh = False  # it came in this read
        self._queue: deque[Request] = deque()
        self._read_paused = False
        self._writable: asyncio.Event | None = None  # there while the client does not read
        # the end
        self._refusal: Answer | None = None
        self._deaf = False  # what still comes is dropped
        self._ended = False  # the client will send no more
        self._lost = False
        # the timer
        self._waiting = Wait.FIRST_BYTE
        self._due = inf
        self._unread_due = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        shared = self._shared
        shared.connections[self] = None
        shared.empty.clear()
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and peer:
            self._client = str(peer[0])
        count, most = len(shared.connections), self._settings.max_connections
        if count > most:
            if count > most + self._settings.max_refused_connections:
                shared.metrics.refusals[Refusal.CONNECTIONS].inc()
                transport.abort()  # type: ignore[attr-defined]  # every transport of a stream has it
            else:
                self._refuse(
                    Refusal.CONNECTIONS, Problem.OVERLOADED, f"{most} connections are open, the most there may be"
                )
            return
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._wait(Wait.FIRST_BYTE, self._settings.first_byte_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        shared = self._shared
        shared.connections.pop(self, None)
        self._lost = self._deaf = True
        self._running = self._request = None
        self._queue.clear()
        if self._writable is not None:
            self._writable.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._timer_at = inf
        if not shared.connections:
            shared.empty.set()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._reading is None and self._running is None:
            request = plain.read(data, self._settings)
            if request is not None:
                request.client = self._client
                request.keep_alive = not self._shared.draining
                self._take(request)
                if self._fresh:
                    self._answer_fresh(request)
                return
        self._chunk = len(data)
        if self._reading is not None:
            self._later += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as exc:
            if not isinstance(exc.__context__, _RefusedError):
                self._refuse(Refusal.INVALID, Problem.INVALID_REQUEST, "the request is not valid HTTP/1.1")
        else:
            if self._reading is not None:
                # what httptools holds of an unfinished line is seen here alone
                most = self._settings.max_header_bytes
                if self._request is not None:
                    most += _FRAMING * self._size
                if self._later > most:
                    self._refuse_header()
                elif self._moved:
                    self._await_rest()
            self._moved = False
        if self._fresh and self._running is not None:
            self._answer_fresh(self._running)

    def eof_received(self) -> bool:
        """Keep the transport open while there is an answer to give to a client that only closed its own side."""
        self._ended = True
        if self._running is None or self._refusal is not None:
            return False
        if self._reading is None:
            self._last().keep_alive = False
        return True

    def pause_writing(self) -> None:
        self._writable = asyncio.Event()
        self._unread_due = self._loop.time() + self._settings.unread_seconds
        self._arm()

    def resume_writing(self) -> None:
        self._unread_due = inf
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    # httptools' side

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # the requests behind one that asks to be the last are read, to be dropped
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                if not self._offered:  # CONNECT: it is answered, and what follows is in another protocol
                    self._deaf = True
                    self._last().keep_alive = False
                    return
                # httptools takes a body for the other protocol's bytes; Java's client offers h2c with every request
                self._offered = False
                data = self._head_without_upgrade() + data[exc.args[0] :]
                self._parser = self._new_parser()
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%s %s HTTP/1.1" % (self._parser.get_method(), self._url)]
        lines += [name + b": " + value for name, value in self._headers if name not in (b"connection", b"upgrade")]
        return b"\r\n".join((*lines, b"", b""))

    def on_message_begin(self) -> None:
        """A request's first byte came."""
        self._url = b""
        self._headers = []
        self._request = None
        self._body = []
        self._expects = False
        self._reading = Wait.HEADERS
        self._moved = True
        self._later = self._length = self._size = 0

    def on_url(self, url: bytes) -> None:
        """A part of its target came."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of its header came."""
        name = name.lower()
        self._headers.append((name, value))
        if name == b"content-length":
            self._length = int(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self._expects = True

    def on_headers_complete(self) -> None:
        """Its header is whole: from here on there is a request."""
        parser = self._parser
        method = parser.get_method()
        if parser.should_upgrade() and method != b"CONNECT":
            self._offered = True
            return
        most = self._settings.max_header_bytes
        if self._chunk + self._later > most and self._header_bytes() > most:
            self._refuse_header()
            raise _RefusedError
        if self._length > self._settings.max_body_bytes:
            self._refuse_body(f"it is {self._length} bytes long")
            raise _RefusedError
        self._reading = Wait.BODY
        self._moved = True
        self._later = 0
        path, query = split_target(self._url)
        keep = not self._shared.draining and parser.get_http_version() != "1.0" and parser.should_keep_alive()
        self._request = Request(
            method.decode("ascii"), path, query, self._headers, client=self._client, keep_alive=keep
        )
        if self._running is not None:
            self._pause_reading()
        elif self._expects:
            self._tell_to_go_on()

    def on_body(self, body: bytes) -> None:
        """A part of its body came."""
        self._size += len(body)
        if self._size > self._settings.max_body_bytes:
            self._refuse_body("it is longer")
            raise _RefusedError
        parts = self._body
        if not parts or len(body) >= _LARGE_PART:
            parts.append(body)
        elif isinstance(parts[-1], bytearray):
            parts[-1] += body
        else:
            parts.append(bytearray(body))

    def on_message_complete(self) -> None:
        """It is whole."""
        request = self._request
        if self._offered or request is None:
            return
        self._reading = self._request = None
        request.body, self._body = b"".join(self._body), []  # the same object where it is one
        self._take(request)

    # Own: answers

    def _take(self, request: Request) -> None:
        """Have a request that is whole answered, when its turn comes."""
        request.received = self._shared.clock.monotonic()
        if self._running is not None:
            self._queue.append(request)
        elif self._shared.at_once is None:
            self._start(request)
        else:
            # answered when the read is parsed, and not from within the parser
            self._running = request
            self._fresh = True

    def _answer_fresh(self, request: Request) -> None:
        """Answer the first request of a read; those behind it, however many came, take turns with other connections."""
        self._fresh = False
        at_once = self._shared.at_once
        answer = None if at_once is None or self._writable is not None else at_once(request)
        if answer is None:
            self._start(request)
        else:
            self._give(answer, request)

    def _start(self, request: Request) -> None:
        self._due = inf
        self._running = request
        self._shared.start(self, request)

    def begin(self, request: Request, begin: Callable[[Request], Answer | Later | None]) -> None:
        """Begin the answer to the request that is running."""
        if self._lost:
            return
        answer = begin(request) if self._writable is None else None
        if answer is None:
            self.start_task(request)
        elif isinstance(answer, Later):
            self._shared.began(answer.done)
            answer.done.add_done_callback(partial(self._give_later, answer.made, request))
        else:
            self._give(answer, request)

    def start_task(self, request: Request) -> None:
        """Answer the request that is running in a task of its own."""
        self._run(self._answer(request))

    def _run(self, answering: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(answering)
        self._shared.began(task)
        task.add_done_callback(self._shared.ended)

    def _give_later(self, made: Callable[[Any], Answer], request: Request, done: Doing) -> None:
        answer = made(done)
        if self._writable is None:
            self._give(answer, request)
        else:
            self._run(self._give_when_writable(self._writable, answer, request))
        self._shared.ended(done)

    async def _give_when_writable(self, writable: asyncio.Event, answer: Answer, request: Request) -> None:
        await writable.wait()
        self._give(answer, request)

    async def _answer(self, request: Request) -> None:
        if self._lost:
            return  # before its turn came
        answer = await self._shared.app.answer(request)
        if self._writable is not None:
            await self._writable.wait()
        self._give(answer, request)

    def _give(self, answer: Answer, request: Request) -> None:
        """Write an answer, and go on to what follows it."""
        if self._lost or self.transport.is_closing():
            return
        # by one write: it is a system call and a packet, and wakes the client
        self.transport.write(_bytes_of(answer, request))
        self._running = None
        if not request.keep_alive:
            self._close()
            return
        if self._queue:
            self._start(self._queue.popleft())
        if not self._queue:
            self._resume_reading()
        if self._running is not None:
            self._await_rest()
        elif self._refusal is not None:
            self._send_refusal(self._refusal)
        elif self._ended:
            self._close()
        elif self._reading is not None:
            if self._expects and self._request is not None:
                self._tell_to_go_on()
            self._await_rest()
        else:
            self._wait_idle()

    # A stream's side

    def answers(self, request: Request) -> bool:
        """Whether it is this request that is being answered here."""
        return self._running is request

    @property
    def gone(self) -> bool:
        """Whether nothing that is written arrives any more."""
        return self._lost or self.transport.is_closing()

    async def writable(self) -> None:
        """Return once the client has read enough, or is gone."""
        if self._writable is not None:
            await self._writable.wait()

    def finish(self) -> None:
        """Close once everything is written; the answer to the request in hand is over."""
        self._close()

    # Own: what follows an answer

    def _last(self) -> Request:
        """The request after which nothing more is to be answered."""
        last = self._request or (self._queue[-1] if self._queue else self._running)
        assert last is not None, "there is no request"
        return last

    def _tell_to_go_on(self) -> None:
        self._expects = False
        self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _pause_reading(self) -> None:
        if not self._read_paused:
            self._read_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._read_paused:
            self._read_paused = False
            self.transport.resume_reading()

    def shutdown(self) -> None:
        """Close as soon as the request in hand, if there is one, is answered; an idle connection, once its next request is.

        A client that keeps connections may be sending on this one right now: closed under it, the request would be lost. One
        that asks nothing for a while longer loses nothing.
        """
        if self._running is None and self._reading is None:
            if self._refusal is None and not self._deaf:
                self._wait_idle()
        elif self._reading is not Wait.HEADERS:  # of which there is no request yet; it will be the last
            self._last().keep_alive = False

    # Own: refusals and the end

    def _refuse_header(self) -> None:
        text = f"the header is larger than {self._settings.max_header_bytes} bytes"
        self._refuse(Refusal.HEADER, Problem.INVALID_REQUEST, text, HEADER_TOO_LARGE)

    def _refuse_body(self, how_long: str) -> None:
        text = f"{how_long}, at most {self._settings.max_body_bytes} bytes are read"
        self._refuse(Refusal.BODY, Problem.BODY_TOO_LARGE, text)

    def _refuse(self, reason: Refusal, problem: Problem, detail: str, status: int | None = None) -> None:
        self._shared.metrics.refusals[reason].inc()
        self._answer_last(self._shared.app.refusal(problem, detail, status))

    def _answer_last(self, answer: Answer) -> None:
        """Give this answer in place of the request being read, after those to the requests before it, and then no more."""
        self._deaf = True
        self._reading = self._request = None
        self._refusal = answer
        self._due = inf
        if self._running is None:
            self._send_refusal(answer)

    def _send_refusal(self, answer: Answer) -> None:
        self.transport.write(_head(answer) + b"\r\nconnection: close\r\n\r\n" + answer.body)
        if self._ended or not self.transport.can_write_eof():
            self._close()
            return
        self._resume_reading()
        self.transport.write_eof()
        self._wait(Wait.LINGER, self._settings.linger_seconds)

    def _close(self) -> None:
        """Close once everything is written; cut it where the client does not read."""
        self._deaf = True
        self._queue.clear()
        self.transport.close()
        self._wait(Wait.UNREAD, self._settings.unread_seconds)

    # Own: the timer

    def _wait_idle(self) -> None:
        settings = self._settings
        self._wait(Wait.IDLE, settings.drain_idle_seconds if self._shared.draining else settings.idle_seconds)

    def _await_rest(self) -> None:
        """Wait for what is missing of the request being read, unless it is we who keep the client from sending it."""
        if self._reading is None or self._read_paused or self._refusal is not None:
            return
        settings = self._settings
        seconds = settings.headers_seconds if self._reading is Wait.HEADERS else settings.body_seconds
        self._wait(self._reading, seconds)

    def _wait(self, what: Wait, seconds: float) -> None:
        self._waiting = what
        self._due = due = self._loop.time() + seconds
        if due < self._timer_at:
            self._arm()

    def _arm(self) -> None:
        due = min(self._due, self._unread_due)
        if due >= self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = inf
        now = self._loop.time() + _EARLY
        if self._unread_due <= now:
            self._unread_due = inf
            self._expire(Wait.UNREAD)
        elif self._due <= now:
            self._due = inf
            self._expire(self._waiting)
        self._arm()

    def _expire(self, what: Wait) -> None:
        self._shared.metrics.timeouts[what].inc()
        if what in (Wait.HEADERS, Wait.BODY):
            text = f"the {'header' if what is Wait.HEADERS else 'body'} was not whole in time"
            self._answer_last(self._shared.app.refusal(Problem.REQUEST_TIMEOUT, text, None))
        elif self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait for the client to read
        else:
            self.transport.close()

    def _header_bytes(self) -> int:
        return len(self._url) + sum([len(name) + len(value) + 4 for name, value in self._headers])


def _bytes_of(answer: Answer, request: Request) -> bytes:
    """A whole answer as it is written."""
    if not (answer.headers or request.id) and request.keep_alive and request.method != "HEAD":
        body = answer.body
        return b"%b%d\r\n\r\n%b" % (_beginning(answer.status, answer.content_type), len(body), body)
    head = _head(answer)
    if request.id:
        head += _ID + request.id.encode()
    if not request.keep_alive:
        head += b"\r\nconnection: close"
    return head + b"\r\n\r\n" + (answer.body if request.method != "HEAD" else b"")


def _head(answer: Answer) -> bytes:
    """The head of an answer, without the end of its last line."""
    head = b"%b%d" % (_beginning(answer.status, answer.content_type), len(answer.body))
    for name, value in answer.headers:
        head += b"\r\n%b: %b" % (name, value)
    return head


@lru_cache(maxsize=256)
def _beginning(status: int, content_type: bytes) -> bytes:
    line = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()
    return line + b"\r\ncontent-type: " + content_type + b"\r\ncontent-length: "
