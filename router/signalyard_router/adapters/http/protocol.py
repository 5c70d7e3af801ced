"""One client's connection: uvicorn's protocol class, with the limits that it does not have."""

import asyncio
import socket
from collections.abc import Sized
from math import inf
from typing import Any, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from signalyard.problems import Problem, describe
from signalyard_router.adapters.http.answers import Answer, problem_answer
from signalyard_router.adapters.http.metrics import HttpMetrics, Refusal, Wait
from signalyard_router.adapters.http.outbox import Outbox
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.adapters.http.statuses import HEADER_TOO_LARGE
from signalyard_router.ports import Clock

_EARLY = 0.001  # uvloop's timers count in milliseconds, and may fire that much too soon
_FRAMING = 6  # bytes on the wire for a byte of body, at worst: chunks of one byte


class _Ordered(dict[Any, None]):
    """A set in the order of its growth: uvicorn's is ordered by addresses, and a drain goes through it."""

    def add(self, item: Any) -> None:
        self[item] = None

    def discard(self, item: Any) -> None:
        self.pop(item, None)


class Connections(ServerState):
    """What the connections of one server share. ``empty`` is set while there are none."""

    def __init__(self, config: Config, settings: HttpSettings, clock: Clock, metrics: HttpMetrics) -> None:
        super().__init__()
        self.connections = cast(Any, _Ordered())
        self.config = config
        self.settings = settings
        self.clock = clock
        self.metrics = metrics
        self.draining = False
        self.empty = asyncio.Event()
        self.empty.set()


class _RefusedError(Exception):
    """Stops the parser in the middle of a request that has been refused."""


class _Flow(FlowControl):
    """Reads no further while requests are queued. uvicorn reads on with each that it starts, and the queue grows."""

    def __init__(self, transport: asyncio.Transport, pipeline: Sized) -> None:
        super().__init__(transport)
        self._pipeline = pipeline

    def resume_reading(self) -> None:
        if not self._pipeline:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """A connection that waits for nothing for ever, and reads nothing without a bound.

    The app is started when a request is whole, so that a slow client costs a buffer and no task, and ``received`` in the
    scope's state is the monotonic time of its last byte. What is refused before that is answered here, after the answers
    to requests that came before it on the connection; then the connection stays half open for a moment, and what the client
    still sends is dropped, so that it can read the answer.

    One timer serves all waits. It is set again only when something is due before it fires; what is put off is noticed then.
    """

    def __init__(self, shared: Connections) -> None:
        super().__init__(shared.config, shared, {}, asyncio.get_running_loop())
        self._shared = shared
        self._settings = shared.settings
        # the request that is being read
        self._reading: Wait | None = None  # HEADERS or BODY
        self._moved = False  # a part of a request has begun or ended
        self._chunk = 0  # bytes in the read being parsed
        self._later = 0  # bytes of the header or body in the reads after the one that it began in
        self._length = 0  # of the body, as declared
        self._offered = False  # another protocol; it is read again without the offer
        self._held: tuple[RequestResponseCycle, Any] | None = None  # it starts when its body is whole
        # the request that is being answered
        self._running: RequestResponseCycle | None = None
        # the end
        self._refusal: Answer | None = None
        self._deaf = False  # what still comes is dropped
        self._ended = False  # the client will send no more
        # the timer
        self._waiting = Wait.FIRST_BYTE
        self._due = inf
        self._unread_due = inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf

    # asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = _Flow(transport, self.pipeline)
        self._outbox = Outbox(transport)
        shared = self._shared
        shared.empty.clear()
        count, most = len(self.connections), self._settings.max_connections
        if count > most:
            if count > most + self._settings.max_refused_connections:
                shared.metrics.refusals[Refusal.CONNECTIONS].inc()
                transport.abort()
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
        super().connection_lost(exc)
        if self._running is not None:
            # uvicorn tells the request that was read last, which need not be the one that runs
            self._running.disconnected = True
            self._running.message_event.set()
        self._held = self._running = None
        self._deaf = True
        self.pipeline.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.connections:
            self._shared.empty.set()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._chunk = len(data)
        if self._reading is not None:
            self._later += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as exc:
            if not isinstance(exc.__context__, _RefusedError):
                self._refuse(Refusal.INVALID, Problem.INVALID_REQUEST, "the request is not valid HTTP/1.1")
            return
        if self._reading is not None:
            # what httptools holds of an unfinished line is seen here alone
            most = self._settings.max_header_bytes
            if self._later > (most if self._reading is Wait.HEADERS else most + _FRAMING * len(self.cycle.body)):
                self._refuse_header()
            elif self._moved:
                self._await_rest()
        self._moved = False

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the transport open while there is an answer to give to a client that only closed its own side."""
        self._ended = True
        if self._running is None or self._refusal is not None:
            return False
        if self._reading is None:
            self.cycle.keep_alive = False
        return True

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_due = self.loop.time() + self._settings.unread_seconds
        self._arm()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_due = inf

    # httptools' side

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as exc:
                if not self._offered:  # CONNECT: it is answered, and what follows is in another protocol
                    self._deaf = True
                    self.cycle.keep_alive = False
                    return
                # httptools takes a body for the other protocol's bytes; Java's client offers h2c with every request
                self._offered = False
                data = self._head_without_upgrade() + data[exc.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        lines += [name + b": " + value for name, value in self.headers if name not in (b"connection", b"upgrade")]
        return b"\r\n".join((*lines, b"", b""))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._reading = Wait.HEADERS
        self._moved = True
        self._later = self._length = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(name) == 14 and name.lower() == b"content-length":
            self._length = int(value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
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
        super().on_headers_complete()
        if self._shared.draining:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if len(cycle.body) + len(body) > self._settings.max_body_bytes:
            self._refuse_body("it is longer")
            raise _RefusedError
        cycle.body += body

    def on_message_complete(self) -> None:
        if self._offered:
            return
        self._reading = None
        cycle = self.cycle
        cycle.scope["state"]["received"] = self._shared.clock.monotonic()
        cycle.more_body = False
        cycle.message_event.set()
        held, self._held = self._held, None
        if held is not None:
            self._start_asgi_task(*held)

    # uvicorn's side

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.more_body:
            self._held = (cycle, app)
            if cycle.waiting_for_100_continue:
                self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                cycle.waiting_for_100_continue = False
            return
        self._due = inf
        self._running = cycle
        cycle.transport = cast(asyncio.Transport, self._outbox)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        self._running = None
        self._outbox.flush()
        if self.transport.is_closing():
            # by uvicorn, because the connection was not to be kept; what the client does not read must not keep it open
            self._deaf = True
            self._wait(Wait.UNREAD, self._settings.unread_seconds)
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        self.flow.resume_reading()
        if self._running is not None:
            self._await_rest()
        elif self._refusal is not None:
            self._send_refusal(self._refusal)
        elif self._ended:
            self._close()
        elif self._reading is not None:
            self._await_rest()
        else:
            self._wait_idle()

    def shutdown(self) -> None:
        """Close as soon as the request in hand, if there is one, is answered; an idle connection, once its next request is.

        A client that keeps connections may be sending on this one right now: closed under it, the request would be lost. One
        that asks nothing for a while longer loses nothing.
        """
        if self._running is None and self._reading is None:
            if self._refusal is None and not self._deaf:
                self._wait_idle()
        elif self.cycle is not None:
            self.cycle.keep_alive = False

    # Own: refusals and the end

    def _refuse_header(self) -> None:
        text = f"the header is larger than {self._settings.max_header_bytes} bytes"
        self._refuse(Refusal.HEADER, Problem.INVALID_REQUEST, text, HEADER_TOO_LARGE)

    def _refuse_body(self, how_long: str) -> None:
        text = f"{how_long}, at most {self._settings.max_body_bytes} bytes are read"
        self._refuse(Refusal.BODY, Problem.BODY_TOO_LARGE, text)

    def _refuse(self, reason: Refusal, problem: Problem, detail: str, status: int | None = None) -> None:
        self._shared.metrics.refusals[reason].inc()
        self._answer_last(problem_answer(describe(problem, detail), status))

    def _answer_last(self, answer: Answer) -> None:
        """Give this answer in place of the request being read, after those to the requests before it, and then no more."""
        if self._held is not None:
            self._held = None
        elif self.pipeline and self._reading is Wait.BODY:
            self.pipeline.popleft()
        self._deaf = True
        self._reading = None
        self._refusal = answer
        self._due = inf
        if self._running is None:
            self._send_refusal(answer)

    def _send_refusal(self, answer: Answer) -> None:
        lines = [STATUS_LINE[answer.status]]
        for name, value in answer.all_headers():
            lines += (name, b": ", value, b"\r\n")
        lines += (b"connection: close\r\n\r\n", answer.body)
        self.transport.write(b"".join(lines))
        if self._ended or not self.transport.can_write_eof():
            self._close()
            return
        self.flow.resume_reading()
        self.transport.write_eof()
        self._wait(Wait.LINGER, self._settings.linger_seconds)

    def _close(self) -> None:
        """Close once everything is written; cut it where the client does not read."""
        self._deaf = True
        self.transport.close()
        self._wait(Wait.UNREAD, self._settings.unread_seconds)

    # Own: the timer

    def _wait_idle(self) -> None:
        settings = self._settings
        self._wait(Wait.IDLE, settings.drain_idle_seconds if self._shared.draining else settings.idle_seconds)

    def _await_rest(self) -> None:
        """Wait for what is missing of the request being read, unless it is we who keep the client from sending it."""
        if self._reading is None or self.flow.read_paused or self._refusal is not None:
            return
        settings = self._settings
        seconds = settings.headers_seconds if self._reading is Wait.HEADERS else settings.body_seconds
        self._wait(self._reading, seconds)

    def _wait(self, what: Wait, seconds: float) -> None:
        self._waiting = what
        self._due = self.loop.time() + seconds
        self._arm()

    def _arm(self) -> None:
        due = min(self._due, self._unread_due)
        if due == inf:
            return
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        self._timer_at = due
        self._timer = self.loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self.loop.time() + _EARLY
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
            self._answer_last(problem_answer(describe(Problem.REQUEST_TIMEOUT, text)))
        elif self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait for the client to read
        else:
            self.transport.close()

    def _header_bytes(self) -> int:
        return len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])
