"""A connection over a transport in memory: every split of the bytes, pipelines, refusals, what is cut and what lingers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from signalyard_router.adapters.http.app import App
from signalyard_router.adapters.http.server import HttpServer
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.testing.world import ManualClock

BODY = json.dumps({"symbol": "rb2410.SHFE", "ts_event": 1, "features": {"close": 1.0}}).encode()
PREDICT = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
CHUNKED = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; knows nothing of sockets. ``unread`` is what the client has not taken."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = bytearray()
        self.writes = 0
        self.unread = 0
        self.reading = True
        self.half_closed = self.closing = self.aborted = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: Any) -> None:
        assert not self.half_closed
        assert not self.closing
        self.written += data
        self.writes += 1

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.half_closed = True

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        if not self.closing and not self.unread:
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
        self.closing = True

    def abort(self) -> None:
        if not self.aborted:
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
        self.closing = self.aborted = True


class MemoryListener:
    port = 1
    closed = False

    def close(self) -> None:
        self.closed = True


class MemoryNetwork:
    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> MemoryListener:
        self.factory = factory
        return MemoryListener()

    def connect(self) -> MemoryTransport:
        protocol = self.factory()
        transport = MemoryTransport(protocol)
        protocol.connection_made(transport)
        return transport


class MemoryWorld:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.network = MemoryNetwork()

    def random_bytes(self, count: int) -> bytes:
        return bytes(count)


class Stage:
    def __init__(self, caller: Any, **settings: Any) -> None:
        self.router = caller().router
        self.world: Any = MemoryWorld()
        chosen = HttpSettings(**settings)
        self.server = HttpServer(self.world, App(self.router, self.world.clock, chosen, CollectorRegistry()), chosen)
        self.hold: asyncio.Event | None = None
        decide = self.router.decide

        async def held(rows: Any, **more: Any) -> Any:
            if self.hold is not None:
                await self.hold.wait()
            return await decide(rows, **more)

        self.router.decide = held

    async def turn(self, times: int = 50) -> None:
        for _ in range(times):
            await asyncio.sleep(0)


def answers(written: bytes) -> list[tuple[int, dict[bytes, bytes], Any]]:
    found = []
    while written:
        head, _, written = written.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        status = int(lines[0].split()[1])
        if status == 100:
            found.append((status, {}, None))
            continue
        headers = dict(line.split(b": ", 1) for line in lines[1:])
        length = int(headers[b"content-length"])
        found.append((status, headers, json.loads(written[:length])))
        written = written[length:]
    return found


@pytest.fixture
def play(caller: Any) -> Callable[..., None]:
    def run(scenario: Callable[[Stage], Awaitable[None]], **settings: Any) -> None:
        async def performance() -> None:
            stage = Stage(caller, **settings)
            await stage.server.start()
            await scenario(stage)
            await stage.server.drain(0.05)

        asyncio.run(performance())

    return run


def test_any_split_of_the_bytes(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        for size in (1, 2, 3, 7, 50, 1_000):
            transport = stage.world.network.connect()
            stream = PREDICT + GET + CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY) + GET
            for start in range(0, len(stream), size):
                while not transport.reading:
                    await stage.turn(1)
                transport.protocol.data_received(stream[start : start + size])
            await stage.turn()
            got = answers(bytes(transport.written))
            assert [status for status, _, _ in got] == [200] * 4
            assert got[0][2]["outcome"] == got[2][2]["outcome"] == "suppressed"
            assert got[1][2] == got[3][2] == {"status": "alive"}
            assert transport.writes == 4  # head and body together
            assert not transport.closing

    play(scenario)


def test_received_is_the_time_of_the_last_byte(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        transport = stage.world.network.connect()
        transport.protocol.data_received(PREDICT[:-1])
        await stage.turn()
        stage.world.clock.advance(5_000)
        transport.protocol.data_received(PREDICT[-1:])
        at = stage.world.clock.monotonic()
        stage.world.clock.advance(5_000)
        await stage.turn()
        assert [call["received"] for call in stage.router.calls] == [at]

    play(scenario)


def test_nothing_runs_before_the_request_is_whole(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        before = len(asyncio.all_tasks())
        transport = stage.world.network.connect()
        transport.protocol.data_received(PREDICT[:-1])
        await stage.turn()
        assert len(asyncio.all_tasks()) == before

    play(scenario)


def test_a_pipeline_is_answered_in_order_and_read_no_further_than_needed(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        stage.hold = asyncio.Event()
        transport = stage.world.network.connect()
        transport.protocol.data_received(PREDICT + GET * 3)
        await stage.turn()
        assert not transport.reading
        assert not transport.written
        stage.hold.set()
        await stage.turn()
        assert transport.reading
        assert [status for status, _, _ in answers(bytes(transport.written))] == [200] * 4
        transport.protocol.data_received(GET + PREDICT[:-1])
        await stage.turn()
        assert transport.reading
        transport.protocol.data_received(PREDICT[-1:])
        await stage.turn()
        assert [status for status, _, _ in answers(bytes(transport.written))] == [200] * 6

    play(scenario)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"nonsense\r\n\r\n", 400, "invalid_request"),
        (b"GET / HTTP/9.9\r\n\r\n", 400, "invalid_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "invalid_request"),
        (b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400, "invalid_request"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, "invalid_request"),
        (b"POST / HTTP/1.1\r\ncontent-length: %s\r\n\r\n" % (b"9" * 40), 400, "invalid_request"),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400, "invalid_request"),
        (b"POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400, "invalid_request"),
        (b"CONNECT host:1 HTTP/1.1\r\n\r\n", 400, "invalid_request"),
        (b"POST / HTTP/1.1\r\ncontent-length: 1001\r\n\r\n", 413, "body_too_large"),
        (b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 1001\r\n\r\n", 413, "body_too_large"),
        (CHUNKED + b"3e9\r\n" + b"x" * 1_001, 413, "body_too_large"),
        (CHUNKED + b"1f4\r\n" + b"x" * 500 + b"\r\n1f5\r\n" + b"x" * 501, 413, "body_too_large"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431, "invalid_request"),
        (b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\n\r\n", 431, "invalid_request"),
        (b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n", 431, "invalid_request"),
    ],
)
@pytest.mark.parametrize("behind", [False, True])
def test_refused(play: Any, sent: bytes, status: int, code: str, behind: bool) -> None:
    async def scenario(stage: Stage) -> None:
        transport = stage.world.network.connect()
        if behind:
            stage.hold = asyncio.Event()
            transport.protocol.data_received(PREDICT + sent)
            await stage.turn()
            assert not transport.written  # an answer never overtakes another
            stage.hold.set()
        else:
            transport.protocol.data_received(sent)
        await stage.turn()
        got = answers(bytes(transport.written))
        assert [each[0] for each in got] == ([200, status] if behind else [status])
        _, headers, body = got[-1]
        assert headers[b"content-type"] == b"application/problem+json"
        assert headers[b"connection"] == b"close"
        assert (body["code"], body["status"]) == (code, status)
        assert transport.half_closed
        assert not transport.closing
        transport.protocol.data_received(GET * 100)  # dropped
        await stage.turn()
        assert len(answers(bytes(transport.written))) == len(got)
        assert transport.protocol.eof_received() is False

    play(scenario, max_body_bytes=1_000)


def test_an_endless_header_line_is_not_kept(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        for begun in (b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\nx"):
            transport = stage.world.network.connect()
            transport.protocol.data_received(begun)
            for _ in range(70):
                transport.protocol.data_received(b"y" * 1_000)
            assert [each[0] for each in answers(bytes(transport.written))] == [431]

    play(scenario)


@pytest.mark.parametrize("end", [b"", b"x", b"0\r\nt: "])
def test_framing_that_carries_no_body_is_not_read_for_ever(play: Any, end: bytes) -> None:
    async def scenario(stage: Stage) -> None:
        transport = stage.world.network.connect()
        transport.protocol.data_received(CHUNKED + (end if end != b"x" else b"1;"))
        for _ in range(70):
            transport.protocol.data_received(b"0" * 1_000)
        assert [each[0] for each in answers(bytes(transport.written))] in ([431], [400])

    play(scenario)


def test_chunks_of_one_byte_are_fine(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        transport = stage.world.network.connect()
        spaced = BODY + b" " * 100_000
        transport.protocol.data_received(CHUNKED)
        for at in range(len(spaced)):
            transport.protocol.data_received(b"1\r\n%c\r\n" % spaced[at])
        transport.protocol.data_received(b"0\r\n\r\n")
        await stage.turn()
        assert [each[0] for each in answers(bytes(transport.written))] == [200]

    play(scenario)


def test_expect_100_continue(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        transport = stage.world.network.connect()
        head, _, body = PREDICT.partition(b"\r\n\r\n")
        transport.protocol.data_received(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert answers(bytes(transport.written)) == [(100, {}, None)]
        transport.protocol.data_received(body)
        await stage.turn()
        assert [each[0] for each in answers(bytes(transport.written))] == [100, 200]

    play(scenario)


def test_an_offer_of_another_protocol_is_overheard(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        head, _, body = PREDICT.partition(b"\r\n\r\n")
        offer = head + b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAE\r\n\r\n" + body
        stream = offer + PREDICT + offer + offer
        for size in (1, 60, 1_000):
            transport = stage.world.network.connect()
            for start in range(0, len(stream), size):
                while not transport.reading:
                    await stage.turn(1)
                transport.protocol.data_received(stream[start : start + size])
            await stage.turn()
            got = answers(bytes(transport.written))
            assert [(status, body["outcome"]) for status, _, body in got] == [(200, "suppressed")] * 4
            assert not transport.closing

    play(scenario)


def test_connect_is_answered_and_closed(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        transport = stage.world.network.connect()
        transport.protocol.data_received(b"CONNECT /v1/predict HTTP/1.1\r\n\r\n" + PREDICT)
        await stage.turn()
        ((status, headers, _),) = answers(bytes(transport.written))
        assert (status, headers[b"connection"]) == (405, b"close")
        assert transport.closing

    play(scenario)


def test_http_1_0_is_closed_after_its_answer(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        transport = stage.world.network.connect()
        transport.protocol.data_received(b"GET /healthz HTTP/1.0\r\n\r\n")
        await stage.turn()
        assert [each[0] for each in answers(bytes(transport.written))] == [200]
        assert transport.closing

    play(scenario)


def test_a_client_that_ends_its_side_still_gets_its_answers(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        stage.hold = asyncio.Event()
        transport = stage.world.network.connect()
        transport.protocol.data_received(PREDICT + GET)
        assert transport.protocol.eof_received() is True
        await stage.turn()
        stage.hold.set()
        await stage.turn()
        assert [each[0] for each in answers(bytes(transport.written))] == [200, 200]
        assert transport.closing

    play(scenario)


def test_a_client_that_goes_in_the_middle(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        for sent in (b"", PREDICT[:30], PREDICT[:-1]):
            transport = stage.world.network.connect()
            transport.protocol.data_received(sent)
            assert transport.protocol.eof_received() is False
            transport.close()
        stage.hold = asyncio.Event()
        transport = stage.world.network.connect()
        transport.protocol.data_received(PREDICT + GET + PREDICT[:-1])
        await stage.turn()
        transport.abort()
        await stage.turn()
        stage.hold.set()
        await stage.turn()
        assert not transport.written
        assert len(stage.router.calls) == 1

    play(scenario)


def test_a_client_that_left_is_not_decided_for(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        transport = stage.world.network.connect()
        transport.protocol.data_received(PREDICT)
        transport.protocol.connection_lost(None)
        await stage.turn()
        assert stage.router.calls == []
        assert not transport.written

    play(scenario)


def test_an_answer_waits_for_a_client_that_does_not_read(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        transport = stage.world.network.connect()
        transport.protocol.pause_writing()
        transport.protocol.data_received(PREDICT)
        await stage.turn()
        assert (len(stage.router.calls), bytes(transport.written)) == (1, b"")
        transport.protocol.resume_writing()
        await stage.turn()
        assert [status for status, _, _ in answers(bytes(transport.written))] == [200]

    play(scenario)


def test_head_gets_no_body(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        transport = stage.world.network.connect()
        transport.protocol.data_received(b"HEAD /healthz HTTP/1.1\r\n\r\n")
        await stage.turn()
        head, end, body = bytes(transport.written).partition(b"\r\n\r\n")
        assert (head.split(b"\r\n")[0], end, body) == (b"HTTP/1.1 405 Method Not Allowed", b"\r\n\r\n", b"")

    play(scenario)


def test_one_connection_too_many(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        connect = stage.world.network.connect
        first = [connect() for _ in range(3)]
        refused = [connect() for _ in range(2)]
        cut = connect()
        assert [each[0] for each in answers(bytes(refused[0].written))] == [503]
        assert (refused[0].half_closed, refused[0].closing) == (True, False)
        assert (cut.aborted, bytes(cut.written)) == (True, b"")
        for transport in (first[0], *refused):
            transport.close()
        await stage.turn()
        transport = connect()
        transport.protocol.data_received(GET)
        await stage.turn()
        assert [each[0] for each in answers(bytes(transport.written))] == [200]

    play(scenario, max_connections=3, max_refused_connections=2)


def test_the_timer_is_one_and_only_moved_when_it_must_be(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        transport = stage.world.network.connect()
        before = len(loop._scheduled)  # type: ignore[attr-defined]
        for _ in range(100):
            transport.protocol.data_received(PREDICT)
            await stage.turn()
        assert len(loop._scheduled) == before  # type: ignore[attr-defined]
        assert len(answers(bytes(transport.written))) == 100

    play(scenario)


def test_drain_while_nothing_is_open(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        await asyncio.wait_for(stage.server.drain(60), 1)

    play(scenario)


def test_drain_closes_the_idle_and_answers_the_rest(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        stage.hold = asyncio.Event()
        connect = stage.world.network.connect
        silent, idle, kept, busy, half, refused = (connect() for _ in range(6))
        for transport in (idle, kept):
            transport.protocol.data_received(GET)
        await stage.turn()
        busy.protocol.data_received(PREDICT)
        half.protocol.data_received(PREDICT[:-5])
        refused.protocol.data_received(b"nonsense\r\n\r\n")
        await stage.turn()
        drain = asyncio.ensure_future(stage.server.drain(60))
        await stage.turn()
        # none is closed under a request that may be on its way: the next one is answered, and then the connection ends
        assert not [t for t in (silent, idle, kept, busy, half) if t.closing]
        kept.protocol.data_received(GET)
        await stage.turn()
        (_, (status, headers, _)) = answers(bytes(kept.written))
        assert (status, headers[b"connection"], kept.closing) == (200, b"close", True)
        await asyncio.sleep(0.06)
        await stage.turn()
        assert silent.closing
        assert idle.closing
        assert not busy.closing
        assert not half.closing
        stage.hold.set()
        half.protocol.data_received(PREDICT[-5:])
        await stage.turn()
        for transport in (busy, half):
            ((status, headers, _),) = answers(bytes(transport.written))
            assert (status, headers[b"connection"]) == (200, b"close")
            assert transport.closing
        assert not drain.done()
        refused.close()
        await asyncio.wait_for(drain, 1)

    play(scenario, drain_idle_seconds=0.05)


def test_a_connection_accepted_as_the_listener_closed_is_waited_for(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        late: list[Any] = []
        drain = asyncio.ensure_future(stage.server.drain(60))
        asyncio.get_running_loop().call_soon(lambda: late.append(stage.world.network.connect()))
        await stage.turn()
        assert not drain.done()
        late[0].protocol.data_received(PREDICT)
        await asyncio.wait_for(drain, 5)
        ((status, headers, _),) = answers(bytes(late[0].written))
        assert (status, headers[b"connection"]) == (200, b"close")

    play(scenario)


def test_what_is_not_decided_within_the_grace_is_told_so(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        stage.hold = asyncio.Event()
        transport = stage.world.network.connect()
        transport.protocol.data_received(PREDICT)
        await stage.turn()
        await stage.server.drain(0.01)
        ((status, headers, body),) = answers(bytes(transport.written))
        assert (status, body["code"], headers[b"connection"]) == (503, "draining", b"close")

    play(scenario)


def test_a_slow_decision_is_not_a_slow_client(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        loop = asyncio.get_running_loop()
        time, passed = loop.time, 0.0
        loop.time = lambda: time() + passed  # type: ignore[method-assign]
        for sent in (PREDICT, PREDICT + GET, PREDICT + GET + PREDICT[:-1]):
            stage.hold = asyncio.Event()
            transport = stage.world.network.connect()
            transport.protocol.data_received(sent[:20])
            await stage.turn()
            transport.protocol.data_received(sent[20:])
            await stage.turn()
            passed += 1_000
            await stage.turn()
            assert not transport.written
            stage.hold.set()
            await stage.turn()
            if sent.endswith(PREDICT[:-1]):
                # only now could the client have sent the rest
                passed += 9.9
                await stage.turn()
                transport.protocol.data_received(PREDICT[-1:])
                await stage.turn()
            assert {status for status, _, _ in answers(bytes(transport.written))} == {200}
            passed += 74.9
            await stage.turn()
            assert not transport.closing
            passed += 0.2
            await stage.turn()
            assert transport.closing

    play(scenario)
