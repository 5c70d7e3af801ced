"""REST for coroutines: HTTP/1.1 on asyncio's streams; signals as server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import msgspec

from signalyard import _http
from signalyard._url import read_url
from signalyard.following import Wanted
from signalyard.problems import Problem, ProblemDetails, SignalyardError, error
from signalyard.wire import BUDGET_HEADER, Signal

SILENCE = 15.0
"""Seconds without a byte after which a stream of signals is taken for dead; the router sends something every five."""
_MOST_KEPT = 8
_LINE = 1024 * 1024

_signal = msgspec.json.Decoder(Signal)
_problem = msgspec.json.Decoder(ProblemDetails)


class RestWire:
    """The REST interface of the router at ``url``; plain HTTP only. ``token`` is sent as a bearer token.

    Raises CallerError (invalid_setting) where the URL is none.
    """

    def __init__(self, url: str = "http://127.0.0.1:8090", token: str | None = None) -> None:
        self._host, self._port, authority, self._prefix = read_url(url)
        self._common = f"host: {authority}\r\nuser-agent: signalyard-client\r\n"
        if token is not None:
            self._common += f"authorization: Bearer {token}\r\n"
        self._kept: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._last_id = ""

    async def predict(self, body: bytes, budget: int) -> bytes:
        head = f"POST {self._prefix}/v1/predict HTTP/1.1\r\n{self._common}content-type: application/json\r\n"
        head += f"{BUDGET_HEADER}: {budget}\r\ncontent-length: {len(body)}\r\n\r\n"
        return await self._exchange(head.encode() + body)

    async def state(self, symbol: str | None = None, route: str | None = None) -> bytes:
        return await self._exchange(self._get(f"/v1/state{_query(symbol, route)}"))

    @asynccontextmanager
    async def signals(self, wanted: Wanted) -> AsyncIterator[AsyncIterator[Signal]]:
        symbol = next(iter(wanted.symbols)) if len(wanted.symbols) == 1 else None
        more = f"last-event-id: {self._last_id}\r\n" if self._last_id else ""
        reader, writer = await self._open()
        try:
            async with asyncio.timeout(SILENCE):
                writer.write(self._get(f"/v1/signals{_query(symbol, wanted.route)}", more))
                head = _http.parse_head(await _head(reader))
                if head.status != 200:
                    raise _refusal(head.status, await reader.readexactly(head.length or 0))
            yield self._events(reader)
        finally:
            writer.close()

    async def _events(self, reader: asyncio.StreamReader) -> AsyncIterator[Signal]:
        """The signals of a stream, whose fields are each a line (HTML, 9.2)."""
        while True:
            async with asyncio.timeout(SILENCE):
                line = await reader.readline()
            if not line:
                return
            field, _, value = line.rstrip(b"\r\n").partition(b": ")
            if field == b"id":
                self._last_id = value.decode("ascii", "replace")
            elif field == b"data":
                try:
                    yield _signal.decode(value)
                except ValueError as exc:
                    raise error(Problem.INTERNAL, f"a signal cannot be read: {exc}") from exc

    async def close(self) -> None:
        while self._kept:
            self._kept.pop()[1].close()

    def _get(self, target: str, more: str = "") -> bytes:
        return f"GET {self._prefix}{target} HTTP/1.1\r\n{self._common}{more}\r\n".encode()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port, limit=_LINE)

    async def _exchange(self, request: bytes) -> bytes:
        """The body of the answer, 200 or an error. A kept connection that proves to be closed is replaced once: the router's commit
        is idempotent."""
        kept = bool(self._kept)
        reader, writer = self._kept.pop() if kept else await self._open()
        keep = False
        try:
            try:
                writer.write(request)
                raw = await _head(reader)
            except (OSError, EOFError):
                if not kept:
                    raise
                writer.close()
                reader, writer = await self._open()
                writer.write(request)
                raw = await _head(reader)
            head = _http.parse_head(raw)
            if head.length is None or head.length > _http.MAX_BODY:
                raise error(Problem.INTERNAL, "the router's answer does not say how long it is, or is too long")
            body = await reader.readexactly(head.length)
            keep = head.keep
        except _http.UnreadableError as exc:
            raise error(Problem.INTERNAL, f"the router's answer cannot be read: {exc}") from exc
        finally:
            if keep and len(self._kept) < _MOST_KEPT:
                self._kept.append((reader, writer))
            else:
                writer.close()  # also where it was cancelled: what is still to come belongs to nobody
        if head.status != 200:
            raise _refusal(head.status, body)
        return body


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return (await reader.readuntil(b"\r\n\r\n"))[:-4]
    except asyncio.LimitOverrunError as exc:
        raise error(Problem.INTERNAL, "the router's answer has no end of its header") from exc


def _query(symbol: str | None, route: str | None) -> str:
    asked = [f"{name}={quote(value, safe='')}" for name, value in (("symbol", symbol), ("route", route)) if value]
    return "?" + "&".join(asked) if asked else ""


def _refusal(status: int, body: bytes) -> SignalyardError:
    try:
        details = _problem.decode(body)
    except (ValueError, RecursionError):
        gone = status in (502, 503, 504)
        problem = Problem.ROUTER_UNREACHABLE if gone else Problem.INTERNAL
        return error(problem, f"HTTP {status} and no problem that this client knows: {body[:200]!r}")
    return error(details.code, details.detail, details.pointer)
