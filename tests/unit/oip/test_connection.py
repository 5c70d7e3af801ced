"""One connection, byte by byte, on a transport that only remembers."""

import asyncio

import pytest

from signalyard_router.adapters.oip.connection import Connection
from signalyard_router.adapters.oip.errors import EndedError, ExpiredError, UnreadableError
from signalyard_router.adapters.oip.settings import OipSettings

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Remembering(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.written = []
        self.aborted = False

    def get_extra_info(self, name, default=None):
        return default

    def is_closing(self):
        return self.aborted

    def write(self, data):
        self.written.append(data)

    def abort(self):
        self.aborted = True


@pytest.fixture
def connected():
    """Runs a scenario with a connection, its transport, and the list of those that were reported closed."""

    def run(scenario, **settings):
        async def performance():
            closed = []
            connection = Connection(OipSettings(**settings), closed.append)
            transport = Remembering()
            connection.connection_made(transport)
            await scenario(connection, transport)
            connection.close()
            connection.connection_lost(None)
            assert transport.aborted
            assert closed == [connection]

        asyncio.run(performance())

    return run


def test_a_request_is_one_write_and_its_answer_leaves_the_connection_usable(connected):
    async def scenario(connection, transport):
        for _ in range(3):
            outcome = connection.send(b"ask", 60)
            connection.data_received(ANSWER)
            await outcome
            assert (connection.failure, connection.status, connection.take_body()) == (None, 200, b"{}")
            assert connection.take_body() == b""
            assert connection.usable
        assert transport.written == [b"ask"] * 3

    connected(scenario)


@pytest.mark.parametrize("cut", range(1, len(ANSWER)))
def test_it_does_not_matter_where_the_answer_is_cut(connected, cut):
    async def scenario(connection, transport):
        outcome = connection.send(b"ask", 60)
        connection.data_received(ANSWER[:cut])
        assert not outcome.done()
        connection.data_received(ANSWER[cut:])
        await outcome
        assert connection.take_body() == b"{}"
        assert connection.usable

    connected(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}more",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        ANSWER + b"H",
        ANSWER + ANSWER,
        ANSWER + b"\x00",
    ],
)
def test_a_whole_answer_after_which_the_connection_ends(connected, answer):
    async def scenario(connection, transport):
        outcome = connection.send(b"ask", 60)
        connection.data_received(answer)
        await outcome
        assert (connection.failure, connection.take_body()) == (None, b"{}")
        assert not connection.usable
        assert transport.aborted

    connected(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 10,
        b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n" + b" " * 200,
    ],
)
def test_what_is_no_answer(connected, answer):
    async def scenario(connection, transport):
        outcome = connection.send(b"ask", 60)
        connection.data_received(answer)
        await outcome
        assert isinstance(connection.failure, UnreadableError)
        assert not connection.usable

    connected(scenario, max_header_bytes=100, max_answer_bytes=200)


def test_many_interim_answers_are_not_the_answer(connected):
    async def scenario(connection, transport):
        outcome = connection.send(b"ask", 60)
        connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
        assert not outcome.done()
        connection.data_received(ANSWER)
        await outcome
        assert (connection.status, connection.take_body()) == (200, b"{}")
        assert connection.usable

    connected(scenario)


@pytest.mark.parametrize("part", [b"", ANSWER[:5], ANSWER[:-1]])
@pytest.mark.parametrize("how", ["eof", "lost"])
def test_the_end_before_the_whole_answer(connected, part, how):
    async def scenario(connection, transport):
        outcome = connection.send(b"ask", 60)
        if part:
            connection.data_received(part)
        cause = ConnectionResetError("reset") if how == "lost" else None
        if how == "eof":
            assert not connection.eof_received()
        else:
            connection.connection_lost(cause)
        await outcome
        assert isinstance(connection.failure, EndedError)
        assert connection.failure.answering is bool(part)
        assert connection.failure.__cause__ is cause

    connected(scenario)


@pytest.mark.parametrize("ending", [lambda c: c.eof_received(), lambda c: c.data_received(b"x"), lambda c: c.close()])
def test_an_idle_connection_ends_at_once(connected, ending):
    async def scenario(connection, transport):
        ending(connection)
        assert not connection.usable
        assert transport.aborted

    connected(scenario)


def test_expiry_ends_the_connection(connected):
    async def scenario(connection, transport):
        await connection.send(b"ask", 0)
        assert isinstance(connection.failure, ExpiredError)
        assert transport.aborted
        connection.data_received(ANSWER)  # too late for anybody

    connected(scenario)


def test_an_answer_to_a_call_that_was_cancelled_ends_the_connection(connected):
    async def scenario(connection, transport):
        connection.send(b"ask", 60).cancel()
        connection.data_received(ANSWER)
        assert transport.aborted

    connected(scenario)


def test_a_connection_given_up_before_it_was_made_ends_when_it_is(connected):
    async def scenario(connection, transport):
        early = Connection(OipSettings(), lambda _: None)
        early.close()
        late = Remembering()
        early.connection_made(late)
        assert late.aborted

    connected(scenario)
