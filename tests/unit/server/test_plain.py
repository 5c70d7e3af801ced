"""What is read without the parser is what the parser reads; all else is left to it."""

import asyncio
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from signalyard._server import plain
from signalyard._server.answer import Answer
from signalyard._server.bounds import ConnectionSettings
from signalyard._server.connection import Connection, Connections
from signalyard._server.request import Request
from signalyard._server.testing import exchange

SETTINGS = ConnectionSettings(max_body_bytes=1000)
REQUEST = b"POST /v1/predict?a=b HTTP/1.1\r\nHost: x\r\nX-Note: a b\tc\r\nContent-Length: 5\r\n\r\nhello"


class Noting:
    """Answers with what was asked."""

    metrics: Any = None

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    async def answer(self, request: Request) -> Answer:
        self.seen.append((request.method, request.path, request.query, list(request.headers), request.body))
        return Answer(200, b"text/plain", request.body)

    def refusal(self, problem: Any, detail: str, status: int | None) -> Answer:
        raise AssertionError(detail)


def by_parser(data: bytes) -> list[tuple[Any, ...]]:
    """Its first byte comes alone, so that it cannot be plain."""
    app = Noting()
    exchange(app, data[:1], data[1:])
    return app.seen


def by_hand(data: bytes) -> tuple[Any, ...] | None:
    request = plain.read(data, SETTINGS)
    return request and (request.method, request.path, request.query, list(request.headers), request.body)


def test_a_plain_request_is_read() -> None:
    headers = [(b"host", b"x"), (b"x-note", b"a b\tc"), (b"content-length", b"5")]
    assert by_hand(REQUEST) == ("POST", "/v1/predict", b"a=b", headers, b"hello")
    assert by_hand(b"GET /%41 HTTP/1.1\r\n\r\n") == ("GET", "/A", b"", [], b"")


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (b"hello", b"hell"),
        (b"hello", b"hello!"),
        (b"POST", b"PUT"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b" /v1", b"  /v1"),
        (b" /v1/predict", b" http://x/v1/predict"),
        (b" /v1/predict", b" *"),
        (b"predict?", b"pr\xc3\xa9dict?"),
        (b"Host: x", b"Host : x"),
        (b"Host: x", b"Host: "),
        (b"Host: x", b"Host: x "),
        (b"Host: x", b"Host: x\r\n folded"),
        (b"Host: x", b"Host: \xc3\xa9"),
        (b"Host: x", b"Host: \x00"),
        (b"Host: x\r\n", b"Host: x\n"),
        (b"Host: x", b"Connection: close"),
        (b"Host: x", b"Connection: keep-alive, x"),
        (b"Host: x", b"Upgrade: h2c"),
        (b"Host: x", b"Expect: 100-continue"),
        (b"Host: x", b"Transfer-Encoding: chunked"),
        (b"Host: x", b"Content-Length: 5"),
        (b"Length: 5", b"Length: +5"),
        (b"Length: 5", b"Length: 5, 5"),
        (b"Length: 5", b"Length: " + b"0" * 20 + b"5"),
        (b"Host: x", b"Host: " + b"x" * 5000),
        (b"Content-Length: 5\r\n\r\nhello", b"Content-Length: 1001\r\n\r\n" + b"x" * 1001),
    ],
)
def test_what_is_not_plain_is_left_alone(part: bytes, other: bytes) -> None:
    assert part in REQUEST
    assert by_hand(REQUEST.replace(part, other)) is None


def test_the_servers_own_bound_of_a_header_holds() -> None:
    assert plain.read(REQUEST, ConnectionSettings(max_header_bytes=60)) is None


PIECES = [
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b": ", b"?", b"#", b"%", b"%41", b"/", b"//", b"\x00", b"\x7f", b"\x80", b"\xff"),
    *(b"GET", b"HTTP/1.1", b"HTTP/1.0", b"Host: y\r\n", b"Connection: Keep-Alive\r\n", b"connection: close\r\n", b"x:\r\n", b"x: y \r\n"),
    *(b"content-length: 5\r\n", b"0", b"5", b"-", b"+", b",", b'"', b"<", b"[", b"]", b"@", b"\\", b"|", b"^", b"Trailer: x\r\n", b"TE: trailers\r\n"),
]  # fmt: skip


@given(
    st.lists(
        st.tuples(st.integers(0, len(REQUEST)), st.integers(0, 3), st.sampled_from(PIECES) | st.binary(max_size=2)),
        max_size=3,
    )
)
@example([(5, 0, b"#")])
@example([(12, 0, b'"<>[]\\^|{}`')])
def test_what_is_read_is_what_the_parser_reads(changes: list[tuple[int, int, bytes]]) -> None:
    data = REQUEST
    for place, gone, piece in changes:
        data = data[:place] + piece + data[place + gone :]
    read = by_hand(data)
    if read is not None:
        assert by_parser(data) == [read]


class Prompt(Noting):
    """Answers bodies of five bytes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt: list[bytes] = []

    def at_once(self, request: Request) -> Answer | None:
        if len(request.body) != 5:
            return None
        self.prompt.append(request.body)
        return Answer(200, b"text/plain", request.body)


def bodies(written: bytes) -> list[bytes]:
    return [part.split(b"\r\n", 1)[0][:5] for part in written.split(b"\r\n\r\n")[1:]]


def test_what_needs_no_wait_is_answered_without_a_task() -> None:
    app = Prompt()
    waits = REQUEST.replace(b"Length: 5\r\n\r\nhello", b"Length: 1\r\n\r\nw")
    written = exchange(app, REQUEST, waits, REQUEST)
    assert [body[:1] for body in bodies(written)] == [b"h", b"w", b"h"]
    assert (len(app.prompt), len(app.seen)) == (2, 1)


def test_the_requests_of_one_read_are_answered_in_order_and_only_the_first_at_once() -> None:
    app = Prompt()
    stream = b"".join(REQUEST.replace(b"hello", b"hell%d" % number) for number in range(5))
    assert bodies(exchange(app, stream)) == [b"hell%d" % number for number in range(5)]
    assert app.prompt == [b"hell0"]
    assert [seen[-1] for seen in app.seen] == [b"hell%d" % number for number in range(1, 5)]


def test_the_last_request_of_a_connection_may_be_answered_at_once() -> None:
    app = Prompt()
    written = exchange(app, REQUEST.replace(b"Host: x", b"Connection: close") + REQUEST)
    assert bodies(written) == [b"hello"]
    assert b"\r\nconnection: close\r\n" in written
    assert not app.seen


def test_an_answer_at_once_goes_before_the_refusal_of_what_came_with_it() -> None:
    class Refusing(Prompt):
        def __init__(self) -> None:
            super().__init__()
            self.metrics = type("Metrics", (), {"refusals": _Counts(), "timeouts": _Counts()})()

        def refusal(self, problem: Any, detail: str, status: int | None) -> Answer:
            return Answer(400, b"text/plain", b"wrong")

    written = exchange(Refusing(), REQUEST + b"\x16\x03\x01 no HTTP\r\n\r\n")
    assert bodies(written) == [b"hello", b"wrong"]


class _Counts(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        return type("Count", (), {"inc": lambda self: None})()


def test_a_client_that_does_not_read_is_waited_for() -> None:
    async def talk() -> tuple[Prompt, list[bytes]]:
        app, written = Prompt(), []

        class Transport(asyncio.Transport):
            def write(self, data: Any) -> None:
                written.append(bytes(data))

            def is_closing(self) -> bool:
                return False

        shared = Connections(app, SETTINGS, type("Clock", (), {"monotonic": lambda self: 0})())
        connection = Connection(shared)
        connection.connection_made(Transport())
        connection.pause_writing()
        connection.data_received(REQUEST)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert written == []
        connection.resume_writing()
        await asyncio.wait_for(shared.answered(), 10)
        connection.connection_lost(None)
        return app, written

    app, written = asyncio.run(talk())
    assert (app.prompt, len(app.seen), len(written)) == ([], 1, 1)
