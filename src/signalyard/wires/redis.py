"""Redis Streams: requests on the router's stream of snapshots, answers on a stream of this client's own, signals from the bounded
stream that routers append to (docs/redis-wires.md). Needs the extra ``redis``; nobody here speaks to a router directly.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import msgspec

from signalyard._redis.connection import RedisConnection
from signalyard._redis.errors import RedisWireError
from signalyard._redis.keys import VERSION, Keys
from signalyard.following import Wanted
from signalyard.problems import Problem, ProblemDetails, SignalyardError, error
from signalyard.wire import Signal

_BLOCK = 5.0
"""Seconds that the server holds back an answer while nothing comes."""
_SECONDS = 2.0
"""Seconds that a command may take besides."""
_AT_ONCE = 256

_signal = msgspec.json.Decoder(Signal)
_problem = msgspec.json.Decoder(ProblemDetails)


class RedisWire:
    """The streams of the routers that share ``prefix`` on the server at ``url``.

    Raises CallerError (invalid_setting) where the URL is none of a Redis server.
    """

    def __init__(self, url: str = "redis://127.0.0.1:6379/0", prefix: str = "signalyard") -> None:
        self._url = url
        self._keys = Keys(prefix)
        self._asking = self._connect("asks")
        self._replies = Replies(self._connect("waits"), f"{self._keys.replies}{os.urandom(12).hex()}")
        self._newest: bytes | None = None

    async def predict(self, body: bytes, budget: int) -> bytes:
        return await self._exchange("predict", body, "budget_us", budget)

    async def state(self, symbol: str | None = None, route: str | None = None) -> bytes:
        asked = {name: value for name, value in (("symbol", symbol), ("route", route)) if value is not None}
        return await self._exchange("state", msgspec.json.encode(asked))

    @asynccontextmanager
    async def signals(self, wanted: Wanted) -> AsyncIterator[AsyncIterator[Signal]]:
        server = self._connect("follows")
        try:
            newest = await server.ask("XREVRANGE", self._keys.signals, "+", "-", "COUNT", 1)
            end = newest[0][0] if newest else b"0-0"
            # After a server that lost the stream goes on with older ids, what was read last would hide all that comes.
            if self._newest is None or _order(end) < _order(self._newest):
                self._newest = end
            yield self._following(server)
        finally:
            await server.close()

    async def _following(self, server: RedisConnection) -> AsyncIterator[Signal]:
        words = ("XREAD", "COUNT", _AT_ONCE, "BLOCK", int(_BLOCK * 1000), "STREAMS", self._keys.signals)
        while True:
            assert self._newest is not None
            for entry_id, fields in _entries(await server.ask(*words, self._newest, wait=_BLOCK)):
                self._newest = entry_id
                yield _read_signal(fields)

    async def close(self) -> None:
        await self._replies.close()
        await self._asking.close()

    async def _exchange(self, kind: str, body: bytes, *more: str | int) -> bytes:
        with self._replies.expect() as (name, reply):
            words = ("v", VERSION, "kind", kind, "id", name, "reply", self._replies.key, "body", body)
            await self._asking.ask("XADD", self._keys.snapshots, "*", *words, *more)
            fields = await reply
        if b"body" in fields:
            return fields[b"body"]
        raise _refusal(fields.get(b"problem", b""))

    def _connect(self, role: str) -> RedisConnection:
        return RedisConnection(self._url, seconds=_SECONDS, name=f"signalyard-client-{role}", pointer="/url")


class Expected:
    """A reply that is waited for: the name that it will have, and the future of its fields."""

    def __init__(self, waiting: dict[bytes, "asyncio.Future[dict[bytes, bytes]]"], name: str) -> None:
        self._waiting = waiting
        self._name = name

    def __enter__(self) -> "tuple[str, asyncio.Future[dict[bytes, bytes]]]":
        future = asyncio.get_running_loop().create_future()
        self._waiting[self._name.encode()] = future
        return self._name, future

    def __exit__(self, *_: object) -> None:
        self._waiting.pop(self._name.encode(), None)


class Replies:
    """Reads the stream ``key`` while a reply is waited for, and gives each to whoever waits for it."""

    def __init__(self, server: RedisConnection, key: str) -> None:
        self.key = key
        self._server = server
        self._waiting: dict[bytes, asyncio.Future[dict[bytes, bytes]]] = {}
        self._numbers = count(1)
        self._newest = b"0-0"
        self._reading: asyncio.Task[None] | None = None

    def expect(self) -> Expected:
        """A place for the reply to one request."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._read())
        return Expected(self._waiting, str(next(self._numbers)))

    async def close(self) -> None:
        """Read no more; whoever still waits has an OSError."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        self._end(ConnectionError("the client was closed"))
        await self._server.close()

    async def _read(self) -> None:
        await asyncio.sleep(0)  # whoever had this task started waits from now on
        words = ("XREAD", "COUNT", _AT_ONCE, "BLOCK", int(_BLOCK * 1000), "STREAMS", self.key)
        try:
            while self._waiting:
                for entry_id, fields in _entries(await self._server.ask(*words, self._newest, wait=_BLOCK)):
                    self._newest = entry_id
                    future = self._waiting.get(fields.get(b"id", b""))
                    if future is not None and not future.done():
                        future.set_result(fields)
        except RedisWireError as exc:
            self._end(exc)

    def _end(self, exc: OSError) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(exc)


def _entries(answer: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of the one stream in an answer to XREAD, none where it is nil."""
    found = answer[0][1] if answer else []
    return [(entry_id, dict(zip(flat[::2], flat[1::2], strict=True))) for entry_id, flat in found]


def _read_signal(fields: dict[bytes, bytes]) -> Signal:
    try:
        return _signal.decode(fields[b"signal"])
    except (KeyError, ValueError) as exc:
        text = f"the stream's signals cannot be read; the router is to write them as json: {exc!r}"
        raise error(Problem.INTERNAL, text) from exc


def _refusal(body: bytes) -> SignalyardError:
    try:
        details = _problem.decode(body)
    except ValueError as exc:
        return error(Problem.INTERNAL, f"the router's answer cannot be read: {exc}")
    return error(details.code, details.detail, details.pointer)


def _order(entry_id: bytes) -> tuple[int, int]:
    first, _, second = entry_id.partition(b"-")
    return int(first), int(second)
