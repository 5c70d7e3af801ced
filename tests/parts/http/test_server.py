"""The server against clients that behave, and many that do not."""

import asyncio
import contextlib
import json
import socket
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.parts

ONE = {"symbol": "rb2410.SHFE", "ts_event": 1_718_923_456_000_000_000, "features": {"close": 3512.0}}
GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
SOON = {
    "first_byte_seconds": 0.2,
    "headers_seconds": 0.2,
    "body_seconds": 0.2,
    "idle_seconds": 0.2,
    "linger_seconds": 0.2,
}
MB = 1_000_000


def post(body: Any, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = ("POST /v1/predict HTTP/1.1", "host: x", f"content-length: {len(content)}", *headers, "", "")
    return "\r\n".join(lines).encode() + content


def test_requests_on_one_connection(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        for _ in range(3):
            client.send(post(ONE))
            reply = await client.reply()
            assert (reply.status, reply.json["outcome"]) == (200, "abstained")
            assert "server" not in reply.headers
            assert "date" not in reply.headers
            client.send(post([ONE, ONE | {"ts_event": "x"}]))
            assert len((await client.reply()).json) == 2
        assert stage.sample("signalyard_http_connections") == 1
        assert stage.sample("signalyard_http_requests_total", path="/v1/predict", status="200") == 6
        client.send(b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert (await client.reply()).headers["connection"] == "close"
        assert await client.ended() == b""

    play(scenario)


def test_paths_methods_and_types(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        for sent, status in (
            (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
            (b"GET /v1/predict HTTP/1.1\r\n\r\n", 405),
            (b"PUT /v1/predict HTTP/1.1\r\ncontent-length: 0\r\n\r\n", 405),
            (post(ONE, "content-type: text/csv"), 415),
            (b"GET /v1/state?x=1 HTTP/1.1\r\n\r\n", 400),
            (post(b"{"), 400),
            (post(ONE), 200),
            (b"GET /metrics HTTP/1.1\r\n\r\n", 200),
        ):
            client.send(sent)
            reply = await client.reply()
            assert reply.status == status
            assert "connection" not in reply.headers
        client.send(b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n")
        reply = await client.reply()
        assert (reply.status, reply.json["code"]) == (431, "invalid_request")

    play(scenario)


def test_a_pipeline(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        client.send((GET + post(ONE)) * 5_000)
        replies = [(await client.reply()).status for _ in range(10_000)]
        assert replies == [200] * 10_000

    play(scenario)


def test_one_byte_at_a_time(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        for byte in post(ONE):
            client.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.reply()).status == 200

    play(scenario)


# Time runs out


def test_a_client_that_says_nothing(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        assert await client.ended() == b""
        assert stage.sample("signalyard_http_timeouts_total", waited_for="first_byte") == 1

    play(scenario, **SOON)


def test_a_client_that_says_nothing_more(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        client.send(GET)
        assert (await client.reply()).status == 200
        assert await client.ended() == b""
        assert stage.sample("signalyard_http_timeouts_total", waited_for="idle") == 1

    play(scenario, **SOON)


@pytest.mark.parametrize(
    ("begun", "waited_for"), [(b"G", "headers"), (post(ONE)[:40], "headers"), (post(ONE)[:-1], "body")]
)
@pytest.mark.parametrize("behind", [False, True])
def test_a_client_that_stops_in_the_middle(
    play: Callable[..., None], begun: bytes, waited_for: str, behind: bool
) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        client.send(GET + begun if behind else begun)
        if behind:
            assert (await client.reply()).status == 200
        reply = await client.reply()
        assert (reply.status, reply.json["code"], reply.headers["connection"]) == (408, "request_timeout", "close")
        assert await client.ended() == b""
        assert stage.sample("signalyard_http_timeouts_total", waited_for=waited_for) == 1
        await stage.until(lambda: stage.sample("signalyard_http_connections") == 0)

    play(scenario, **SOON)


@pytest.mark.parametrize("start", [0, 70])
def test_a_client_that_dribbles(play: Callable[..., None], start: int) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        request = post(ONE | {"features": {f"feature_{index}": index for index in range(100)}})
        client.send(request[:start])

        async def dribble() -> None:
            for byte in request[start:]:
                client.send(bytes([byte]))
                await asyncio.sleep(0.01)

        dribbling = asyncio.ensure_future(dribble())
        reply = await client.reply()
        assert reply.status == 408
        dribbling.cancel()

    play(scenario, **SOON)


def test_a_client_that_only_closes_its_own_side(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        client.send(post(ONE))
        client.writer.write_eof()
        assert (await client.reply()).status == 200
        assert await client.ended() == b""
        client = await stage.connect()
        client.send(post(ONE)[:-1])
        client.writer.write_eof()
        assert await client.ended() == b""

    play(scenario)


def small_buffers() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.setblocking(False)
    return sock


@pytest.mark.parametrize("close", [False, True])
def test_a_client_that_never_reads(play: Callable[..., None], close: bool) -> None:
    async def scenario(stage: Any) -> None:
        stage.router.pad = "x" * 10 * MB
        sock = small_buffers()
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", stage.server.port))
        request = post(ONE, *(["connection: close"] if close else []))
        await asyncio.get_running_loop().sock_sendall(sock, request)
        await stage.until(lambda: stage.sample("signalyard_http_timeouts_total", waited_for="unread") == 1)
        await stage.until(lambda: stage.sample("signalyard_http_connections") == 0)
        sock.close()

    play(scenario, unread_seconds=0.2)


def test_a_client_that_never_reads_what_it_pipelines(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        stage.router.pad = "x" * MB
        sock = small_buffers()
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", stage.server.port))
        tracemalloc.start()
        try:
            with contextlib.suppress(ConnectionError):
                while True:
                    await asyncio.wait_for(loop.sock_sendall(sock, post(ONE) * 100), 5)
            assert tracemalloc.get_traced_memory()[1] < 40 * MB
        finally:
            tracemalloc.stop()
        await stage.until(lambda: stage.sample("signalyard_http_connections") == 0)
        sock.close()

    play(scenario, unread_seconds=0.5)


# Too much


@pytest.mark.parametrize("form", ["declared", "chunked"])
def test_a_hundred_megabytes(play: Callable[..., None], form: str) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        block = b" " * 500_000
        head = b"POST /v1/predict HTTP/1.1\r\nhost: x\r\n"
        tracemalloc.start()

        async def upload() -> None:
            if form == "declared":
                client.send(head + b"content-length: 100000000\r\n\r\n")
            else:
                client.send(head + b"transfer-encoding: chunked\r\n\r\n")
            for _ in range(200):
                client.send(block if form == "declared" else b"%x\r\n%s\r\n" % (len(block), block))
                await client.writer.drain()

        try:
            await upload()  # before it reads at all, as simple clients do
            reply = await client.reply()
            assert (reply.status, reply.json["code"], reply.headers["connection"]) == (413, "body_too_large", "close")
            assert await client.ended() == b""
            assert tracemalloc.get_traced_memory()[1] < 8 * MB
        finally:
            tracemalloc.stop()
        assert stage.sample("signalyard_http_refusals_total", reason="body") == 1

    play(scenario, max_body_bytes=2 * MB, linger_seconds=10)


def test_who_goes_on_sending_after_a_refusal_is_cut(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        client.send(b"POST /v1/predict HTTP/1.1\r\ncontent-length: 100000000000\r\n\r\n")

        async def send_on() -> None:
            while True:
                client.send(b" " * 100_000)
                await client.writer.drain()
                await asyncio.sleep(0.001)

        with pytest.raises(ConnectionError):
            await send_on()
        assert stage.sample("signalyard_http_timeouts_total", waited_for="linger") == 1

    play(scenario, linger_seconds=0.2)


def test_a_body_as_large_as_may_be(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        client = await stage.connect()
        body = json.dumps(ONE).encode()
        client.send(post(body + b" " * (MB - len(body))))
        assert (await client.reply()).status == 200

    play(scenario, max_body_bytes=MB)


def test_too_many_connections(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        clients = [await stage.connect() for _ in range(5)]
        await stage.until(lambda: stage.sample("signalyard_http_connections") == 5)
        refused = await stage.connect()
        refused.send(post(ONE))
        reply = await refused.reply()
        assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, "overloaded", "1")
        assert await refused.ended() == b""
        await refused.close()
        await clients[0].close()
        await stage.until(lambda: stage.sample("signalyard_http_connections") == 4)
        client = await stage.connect()
        client.send(post(ONE))
        assert (await client.reply()).status == 200

    play(scenario, max_connections=5)


# Drain


def test_drain_with_a_request_in_flight(play: Callable[..., None]) -> None:
    async def scenario(stage: Any) -> None:
        stage.router.hold = asyncio.Event()
        busy, idle = await stage.connect(), await stage.connect()
        idle.send(GET)
        assert (await idle.reply()).status == 200
        busy.send(post(ONE))
        await stage.until(lambda: stage.router.waiting)
        drain = asyncio.ensure_future(stage.server.drain(20))
        assert await idle.ended() == b""
        with pytest.raises(ConnectionRefusedError):
            await stage.connect()
        assert not drain.done()
        stage.router.hold.set()
        reply = await busy.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await busy.ended() == b""
        await asyncio.wait_for(drain, 5)

    play(scenario)


def test_drain_does_not_wait_for_ever(play: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(stage: Any) -> None:
        stage.router.hold = asyncio.Event()
        client, half = await stage.connect(), await stage.connect()
        client.send(post(ONE))
        half.send(post(ONE)[:-1])
        await stage.until(lambda: stage.router.waiting)
        await asyncio.wait_for(stage.server.drain(0.1), 5)
        reply = await client.reply()
        assert (reply.status, reply.json["code"]) == (503, "draining")
        with contextlib.suppress(ConnectionError):
            assert await half.ended() == b""

    play(scenario)
    assert [record.message.split()[0] for record in caplog.records] == ["event=drain_expired"]
