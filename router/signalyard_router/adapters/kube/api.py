"""Calls to the API server: single ones over a connection that is kept, watches over one each."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode

import msgspec

from signalyard_router.adapters.kube.access import Access
from signalyard_router.adapters.kube.connection import Connection
from signalyard_router.adapters.kube.errors import GarbledError, StatusError, UnreachableError
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.ports import Network

_SHOWN = 300


class _Status(msgspec.Struct, frozen=True):
    message: str = ""


_status_decoder = msgspec.json.Decoder(_Status)


class Api:
    """One API server. Every call ends within ``call_seconds``; one that is cancelled closes its connection."""

    def __init__(self, network: Network, access: Access, settings: KubeSettings) -> None:
        self._network = network
        self._access = access
        self._settings = settings
        self._kept: Connection | None = None

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        content_type: str = "application/json",
    ) -> bytes:
        """The body of a good answer. Raises ApiError.

        What is sent twice because a kept connection had just ended is safe to be: reads, and writes that name what they change.
        """
        request = self._request(method, path, query, body, content_type)
        try:
            async with asyncio.timeout(self._settings.call_seconds):
                kept, self._kept = self._kept, None
                if kept is not None and kept.usable:
                    try:
                        return await self._exchange(kept, request)
                    except UnreachableError as exc:
                        if not exc.unsent:
                            raise
                return await self._exchange(await self._connect(), request)
        except TimeoutError as exc:
            raise UnreachableError(f"no answer within {self._settings.call_seconds:g} s") from exc

    async def watch(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The lines of a watch's answer, until the API server ends it. Raises ApiError.

        A line that the end of the connection cut is no line.
        """
        settings = self._settings
        request = self._request("GET", path, query, b"", "")
        connection: Connection | None = None
        rest = b""
        try:
            async with asyncio.timeout(settings.call_seconds):
                connection = await self._connect()
                connection.send(request)
                status = await connection.head()
                if status != 200:
                    raise await self._refusal(connection, status)
            async with asyncio.timeout(settings.watch_seconds + settings.call_seconds):
                while piece := await connection.piece():
                    *lines, rest = (rest + piece).split(b"\n")
                    if len(rest) > settings.answer_bytes:
                        raise GarbledError(f"an event is larger than {settings.answer_bytes} bytes")
                    for line in lines:
                        yield line
                if rest.strip():
                    raise GarbledError("the watch ended in the middle of an event")
        except TimeoutError as exc:
            raise UnreachableError("the watch does not end when it should: nothing gets through") from exc
        finally:
            if connection is not None:
                connection.close()

    def close(self) -> None:
        """Close the connection that is kept."""
        if self._kept is not None:
            self._kept.close()

    async def _exchange(self, connection: Connection, request: bytes) -> bytes:
        try:
            connection.send(request)
            status = await connection.head()
            if status >= 400:
                raise await self._refusal(connection, status)
            body = await connection.body()
        finally:
            if not connection.reusable or self._kept is not None:
                connection.close()
            else:
                self._kept = connection
        return body

    async def _refusal(self, connection: Connection, status: int) -> StatusError:
        body = await connection.body()
        try:
            text = _status_decoder.decode(body).message
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            text = body[: 4 * _SHOWN].decode(errors="replace")
        printable = "".join(character if character.isprintable() else " " for character in text[: 4 * _SHOWN])
        return StatusError(status, " ".join(printable.split())[:_SHOWN], connection.retry_after)

    async def _connect(self) -> Connection:
        access = self._access
        connection = Connection(self._settings.answer_bytes)
        try:
            await self._network.connect(lambda: connection, access.host, access.port, access.context())
        except (OSError, ssl.SSLError, UnicodeError, ValueError) as exc:
            connection.close()
            raise UnreachableError(f"cannot connect to {access.host} port {access.port}: {exc}") from exc
        except BaseException:
            connection.close()
            raise
        return connection

    def _request(
        self, method: str, path: str, query: Mapping[str, str] | None, body: bytes, content_type: str
    ) -> bytes:
        access = self._access
        host = f"[{access.host}]" if ":" in access.host else access.host
        target = f"{access.prefix}{path}" + (f"?{urlencode(query)}" if query else "")
        lines = [
            f"{method} {target} HTTP/1.1",
            f"host: {host}:{access.port}",
            "user-agent: signalyard-router",
            "accept: application/json",
        ]
        try:
            who = access.authorization()
        except (OSError, ValueError) as exc:
            raise UnreachableError(f"the token cannot be read: {exc}") from exc
        if who:
            lines.append(f"authorization: {who}")
        if body:
            lines += [f"content-type: {content_type}", f"content-length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body
