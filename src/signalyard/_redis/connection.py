"""One connection to a Redis server, with one question at a time.

It is redis-py's connection without its client: no pool and no retries, for a command that is sent again may be done twice, and
only who asks knows whether that does harm. Whatever goes wrong closes it; the next question opens it anew.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from signalyard._redis.errors import LostError, RefusedError
from signalyard._redis.url import shown
from signalyard.problems import Problem, error

Command: TypeAlias = tuple[str | bytes | int, ...]
"""A command's words, the first of them its name."""

_KNOWN = frozenset({"host", "port", "db", "path", "username", "password", "connection_class", "ssl_ca_certs"})
"""What a URL may say. The rest of redis-py's parameters are time-outs and retries, and those are ours."""


class Asking(Protocol):
    """A Redis server that answers; see `RedisConnection`."""

    async def ask(self, *command: str | bytes | int, wait: float = 0.0) -> Any:
        """The answer to one command. Raises LostError, RefusedError."""
        ...

    async def ask_all(self, commands: Sequence[Command], *, wait: float = 0.0) -> list[Any]:
        """The answers to several, errors among them. Raises LostError."""
        ...

    async def close(self) -> None:
        """Close it."""
        ...


class RedisConnection:
    """A connection that opens itself. ``seconds`` bounds each question, opening included; it may be shared between tasks.

    Raises CallerError (invalid_setting) where the URL is none of a Redis server.
    """

    def __init__(self, url: str, *, seconds: float, name: str, pointer: str = "/redis") -> None:
        self._seconds = seconds
        self._connection = _connection(url, seconds, name, pointer)
        self._turn = asyncio.Lock()

    async def ask(self, *command: str | bytes | int, wait: float = 0.0) -> Any:
        """The answer to one command, which the server may hold back for ``wait`` seconds. Raises LostError, RefusedError."""
        (answer,) = await self.ask_all([command], wait=wait)
        if isinstance(answer, RefusedError):
            raise answer
        return answer

    async def ask_all(self, commands: Sequence[Command], *, wait: float = 0.0) -> list[Any]:
        """The answers to commands that are sent together and done in order; a RefusedError stands in the place of its command's.

        Raises LostError: then any of them may have been done.
        """
        async with self._turn:
            return await self._bounded(commands, len(commands), self._seconds + wait)

    async def tell(self, *command: str | bytes | int) -> None:
        """Send a command whose answer `next` gives in its turn. Raises LostError."""
        async with self._turn:
            await self._bounded([command], 0, self._seconds)

    async def next(self, wait: float) -> Any:
        """What the server sends unasked, to a subscriber, within ``wait`` seconds; None where nothing comes. Raises LostError."""
        async with self._turn:
            if not self._connection.is_connected:
                raise LostError("the connection is closed")
            try:
                async with asyncio.timeout(wait):
                    return await self._connection.read_response(timeout=_FOREVER, disconnect_on_error=False)
            except TimeoutError:
                return None
            except RedisError as exc:
                raise await self._lost(exc) from exc
            except asyncio.CancelledError:
                await self._drop()
                raise

    async def close(self) -> None:
        """Close it, at once; a later question opens it again."""
        await self._drop()

    async def _bounded(self, commands: Sequence[Command], answers: int, seconds: float) -> list[Any]:
        connection = self._connection
        try:
            async with asyncio.timeout(seconds):
                await connection.send_packed_command(connection.pack_commands(commands))
                return [await self._answer() for _ in range(answers)]
        except (RedisError, OSError, TimeoutError) as exc:
            raise await self._lost(exc) from exc
        except BaseException:  # an answer that is still to come would be taken for the next question's
            await self._drop()
            raise

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response(timeout=_FOREVER)
        except ResponseError as exc:
            return RefusedError(str(exc))

    async def _lost(self, exc: Exception) -> LostError:
        await self._drop()
        if isinstance(exc, AuthenticationError):
            return LostError("the server does not take this user and password")
        return LostError(f"no answer within {self._seconds:g} s" if isinstance(exc, TimeoutError) else str(exc))

    async def _drop(self) -> None:
        await self._connection.disconnect(nowait=True)


_FOREVER = float("inf")
"""redis-py's word for no time-out of its own."""


def _connection(url: str, seconds: float, name: str, pointer: str) -> AbstractConnection:
    right = "redis://HOST:PORT/DB, rediss:// for TLS, or unix:///PATH; user and password may stand before the host"
    try:
        said: dict[str, Any] = dict(parse_url(url))
    except ValueError as exc:
        raise error(Problem.INVALID_SETTING, f"{shown(url)} is not a Redis server's URL: {right}", pointer) from exc
    for parameter in said:
        if parameter not in _KNOWN:
            raise error(Problem.INVALID_SETTING, f"{parameter!r} is not taken from a URL: {right}", pointer)
    kind = said.pop("connection_class", Connection)
    made: AbstractConnection = kind(
        **said,
        socket_timeout=None,
        socket_connect_timeout=seconds,
        retry=Retry(NoBackoff(), 0),
        client_name=name,
        protocol=2,
    )
    return made
