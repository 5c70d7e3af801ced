"""One HTTP/1.1 connection of the blocking client, every step of it bounded by one point in time.

A library's time-outs count each socket operation anew, so a server that sends a byte a second outlasts them all. Here each
operation gets what remains until the deadline, and a connection is offered again only when its answer was read whole.

Framing after RFC 9112: Content-Length, chunked, or until the server closes.
"""

import contextlib
import errno
import socket
import threading
import time
from typing import Literal, NamedTuple

Step = Literal["resolving", "connecting", "sending", "waiting for the answer", "reading the answer"]

MAX_HEAD = 32 * 1024
"""Bytes of status line and headers that are read before the answer is refused."""
MAX_BODY = 32 * 1024 * 1024
"""Bytes of body that are read before the answer is refused."""
RESOLVED_FOR = 30.0
"""Seconds for which a name's addresses are used again; a failed connection forgets them at once."""
_READ = 64 * 1024

Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


class StaleError(Exception):
    """A kept connection ended before the first byte of an answer."""


class UnreadableError(Exception):
    """What the server sent is not an HTTP/1.1 answer within the limits; the text says why."""


class Answer(NamedTuple):
    """An answer read whole."""

    status: int
    body: bytes


class Resolver:
    """A host's addresses, looked up on a thread of their own: the system's lookup takes no time-out.

    At most one lookup is under way, however many calls wait for it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._lock = threading.Lock()
        self._lookup: _Lookup | None = None

    def addresses(self, until: float) -> list[Address]:
        """The addresses, in the system's order of preference. Raises TimeoutError, or OSError where there are none."""
        with self._lock:
            lookup = self._lookup
            if lookup is None or lookup.is_old():
                lookup = self._lookup = _Lookup(self._host, self._port)
                lookup.start()
        if not lookup.done.wait(max(0.0, until - time.monotonic())):
            raise TimeoutError
        if lookup.failure is not None:
            raise OSError(f"{self._host}: {lookup.failure}") from lookup.failure
        return lookup.found

    def forget(self) -> None:
        """Look the name up again for the next connection, unless a lookup is under way."""
        with self._lock:
            if self._lookup is not None and self._lookup.done.is_set():
                self._lookup = None


class _Lookup(threading.Thread):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="signalyard-resolver", daemon=True)
        self._target_host = host
        self._target_port = port
        self._ended = 0.0
        self.done = threading.Event()
        self.found: list[Address] = []
        self.failure: OSError | None = None

    def run(self) -> None:
        try:
            infos = socket.getaddrinfo(self._target_host, self._target_port, type=socket.SOCK_STREAM)
            self.found = [(family, address) for family, _, _, _, address in infos]
        except UnicodeError as exc:  # a label that is empty or too long
            self.failure = OSError(str(exc))
        except OSError as exc:
            self.failure = exc
        finally:
            self._ended = time.monotonic()
            self.done.set()

    def is_old(self) -> bool:
        return self.done.is_set() and (self.failure is not None or time.monotonic() - self._ended > RESOLVED_FOR)


class Connection:
    """A connection to the router, used by one thread at a time; only :meth:`interrupt` may come from another.

    ``step`` says what it is doing, for messages. ``fresh`` holds until an answer has been read from it, ``reusable`` once one
    was read whole and the server has not said that it closes.
    """

    def __init__(self) -> None:
        self.step: Step = "resolving"
        self.fresh = True
        self.reusable = False
        self._lock = threading.Lock()
        self._interrupted = False
        self._socket: socket.socket | None = None

    def open(self, resolver: Resolver, until: float) -> None:
        """Connect to the first address that accepts. Raises TimeoutError or OSError."""
        self.step = "resolving"
        addresses = resolver.addresses(until)
        self.step = "connecting"
        failure: OSError = OSError("the name has no address")
        for index, (family, address) in enumerate(addresses):
            now = time.monotonic()
            if now >= until:
                raise TimeoutError
            attempt = socket.socket(family, socket.SOCK_STREAM)
            try:
                attempt.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # A first address that swallows packets must leave time for the second.
                attempt.settimeout((until - now) / (len(addresses) - index))
                self._adopt(attempt)
                attempt.connect(address)
            except OSError as exc:
                failure = exc
                self.close()
                continue
            return
        resolver.forget()
        raise failure

    def _adopt(self, attempt: socket.socket) -> None:
        with self._lock:
            self._socket = attempt
            interrupted = self._interrupted
        if interrupted:
            raise TimeoutError

    def is_quiet(self) -> bool:
        """Whether a kept connection is still open, with nothing on it that nobody asked for.

        Bytes that came unasked would be read as the answer to the next request.
        """
        sock = self._socket
        if sock is None:
            return False
        try:
            sock.settimeout(0.0)
            sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def exchange(self, request: bytes, until: float) -> Answer:
        """Send one request and read its answer.

        Raises StaleError, UnreadableError, TimeoutError or OSError; the connection is not ``reusable`` then.
        """
        sock = self._socket
        if sock is None:
            raise OSError("the connection is closed")
        self.reusable = False
        self.step = "sending"
        refused: OSError | None = None
        try:
            sock.settimeout(_remaining(until))
            sock.sendall(request)
        except TimeoutError:
            raise
        except OSError as exc:
            refused = exc  # a server may answer "too large" and close before it has read everything
        self.step = "waiting for the answer"
        try:
            first = self._receive(until)
        except ConnectionError as exc:
            if self.fresh:
                raise
            raise StaleError from exc
        if not first:
            if not self.fresh:
                raise StaleError from refused
            raise refused or OSError("the server closed the connection without an answer")
        self.step = "reading the answer"
        answer, keep = self._read_answer(first, until)
        self.fresh = False
        self.reusable = keep and refused is None
        return answer

    def _read_answer(self, data: bytes, until: float) -> tuple[Answer, bool]:
        while True:
            head, data = self._read_head(data, until)
            if not 100 <= head.status < 200:
                break
            if head.status == 101:
                raise UnreadableError("it switches protocols, which nobody asked for")
        if head.chunked:
            body, rest = self._read_chunks(data, until)
        elif head.length is not None:
            if head.length > MAX_BODY:
                raise UnreadableError(
                    f"its body has {head.length} bytes, more than the {MAX_BODY} that this client reads"
                )
            data = self._read_to(data, head.length, until)
            body, rest = data[: head.length], data[head.length :]
        elif head.status in (204, 304):
            body, rest = b"", data
        else:
            return Answer(head.status, self._read_to_end(data, until)), False
        return Answer(head.status, body), head.keep and not rest

    def _read_head(self, data: bytes, until: float) -> tuple["Head", bytes]:
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > MAX_HEAD:
                raise UnreadableError(f"its headers are longer than {MAX_HEAD} bytes")
            data += self._more(len(data), None, until)
        if end > MAX_HEAD:
            raise UnreadableError(f"its headers are longer than {MAX_HEAD} bytes")
        return parse_head(data[:end]), data[end + 4 :]

    def _read_to(self, data: bytes, size: int, until: float) -> bytes:
        if len(data) >= size:
            return data
        buffer = bytearray(data)
        while len(buffer) < size:
            buffer += self._more(len(buffer), size, until)
        return bytes(buffer)

    def _read_to_end(self, data: bytes, until: float) -> bytes:
        buffer = bytearray(data)
        while part := self._receive(until):
            buffer += part
            if len(buffer) > MAX_BODY:
                raise UnreadableError(f"its body has more than the {MAX_BODY} bytes that this client reads")
        return bytes(buffer)

    def _read_chunks(self, data: bytes, until: float) -> tuple[bytes, bytes]:
        buffer = bytearray(data)
        body = bytearray()
        at = 0
        while True:
            at, line = self._read_line(buffer, at, until)
            size = _chunk_size(line)
            if size == 0:
                break
            if len(body) + size > MAX_BODY:
                raise UnreadableError(f"its body has more than the {MAX_BODY} bytes that this client reads")
            while len(buffer) < at + size + 2:
                buffer += self._more(len(body) + len(buffer) - at, None, until)
            body += memoryview(buffer)[at : at + size]
            at += size
            if buffer[at : at + 2] != b"\r\n":
                raise UnreadableError("a chunk of its body does not end where it says")
            # Drop what has been taken, or a body of small chunks is held twice.
            del buffer[: at + 2]
            at = 0
        trailers = 0
        while line:
            at, line = self._read_line(buffer, at, until)
            trailers += len(line)
            if trailers > MAX_HEAD:
                raise UnreadableError(f"its trailers are longer than {MAX_HEAD} bytes")
        return bytes(body), bytes(buffer[at:])

    def _read_line(self, buffer: bytearray, at: int, until: float) -> tuple[int, bytes]:
        while (end := buffer.find(b"\r\n", at)) < 0:
            if len(buffer) - at > MAX_HEAD:
                raise UnreadableError("a line between its chunks is too long")
            buffer += self._more(len(buffer), None, until)
        return end + 2, bytes(buffer[at:end])

    def _more(self, have: int, want: int | None, until: float) -> bytes:
        part = self._receive(until)
        if not part:
            of = f" of {want}" if want is not None else ""
            raise OSError(
                errno.ECONNRESET,
                f"the server closed the connection in the middle of its answer, after {have}{of} bytes",
            )
        return part

    def _receive(self, until: float) -> bytes:
        sock = self._socket
        if sock is None:
            raise OSError("the connection is closed")
        sock.settimeout(_remaining(until))
        part = sock.recv(_READ)
        if not part and self._interrupted:
            raise TimeoutError
        return part

    def interrupt(self) -> None:
        """Make whatever waits on this connection return at once; safe from any thread."""
        with self._lock:
            self._interrupted = True
            if self._socket is not None:
                _shut_down(self._socket)

    def close(self) -> None:
        """Give the socket back to the system."""
        with self._lock:
            sock, self._socket = self._socket, None
        self.reusable = False
        if sock is not None:
            sock.close()


class Head(NamedTuple):
    """What the head of an answer says of what follows it."""

    status: int
    length: int | None
    chunked: bool
    keep: bool


def parse_head(head: bytes) -> Head:
    """The head of an answer, without the empty line at its end. Raises UnreadableError."""
    lines = head.split(b"\r\n")
    start = lines[0]
    if (
        not start.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
        or not start[9:12].isdigit()
        or start[12:13] not in (b"", b" ")
    ):
        raise UnreadableError(f"it does not begin as an HTTP/1.1 answer but with {start[:40]!r}")
    keep = start[7:8] == b"1"
    length: int | None = None
    chunked = False
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise UnreadableError(f"it has a header that is none: {line[:40]!r}")
        match name.lower():
            case b"content-length":
                value = value.strip()
                if not value.isdigit() or len(value) > 18 or length not in (None, int(value)):
                    raise UnreadableError(f"its content-length is {value[:40]!r}")
                length = int(value)
            case b"transfer-encoding":
                if chunked or value.strip().lower() != b"chunked":
                    raise UnreadableError(f"its transfer-encoding is {value.strip()[:40]!r}, not chunked")
                chunked = True
            case b"content-encoding":
                if value.strip().lower() != b"identity":
                    raise UnreadableError(f"its content-encoding is {value.strip()[:40]!r}, and none was asked for")
            case b"connection":
                tokens = value.lower()
                keep = b"close" not in tokens and (keep or b"keep-alive" in tokens)
            case _:
                pass
    if chunked and length is not None:
        raise UnreadableError("it has both a content-length and a transfer-encoding")
    return Head(int(start[9:12]), length, chunked, keep)


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    # int() alone would take a sign, an underscore or 0x
    if not digits or len(digits) > 15 or digits.translate(None, b"0123456789abcdefABCDEF"):
        raise UnreadableError(f"a chunk of its body has the size {line[:40]!r}")
    return int(digits, 16)


def _remaining(until: float) -> float:
    remaining = until - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # not connected yet, or no longer: nothing waits on it
        sock.shutdown(socket.SHUT_RDWR)
