"""One connection to Redis: commands answered in order, and what is pushed between the answers (RESP3)."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

Then = Callable[[Any], None]
"""Gets an answer: what hiredis makes of it, a `hiredis.ReplyError` where the server refuses, a ConnectionError where none came."""


class RespConnection(asyncio.Protocol):
    """Whoever calls bounds it in time. ``on_push`` gets what the server pushes, ``on_end`` hears once that the connection is gone, after
    all that waited for an answer has heard."""

    def __init__(self, on_push: Callable[[list[Any]], None], on_end: Callable[[], None]) -> None:
        self._on_push = on_push
        self._on_end = on_end
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[Then] = deque()
        self._failure: ConnectionError | None = None

    def send(self, then: Then, *words: bytes | str) -> None:
        """Send a command; ``then`` gets its answer, at once where there is no connection any more."""
        if self._failure is not None or self._transport is None:
            then(self._failure or ConnectionError("not connected"))
            return
        self._waiting.append(then)
        self._transport.write(hiredis.pack_command(tuple[Any, ...](words)))

    def ask(self, *words: bytes | str) -> asyncio.Future[Any]:
        """Send a command. The future has the answer; it raises ConnectionError, or hiredis.ReplyError where the server refuses."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def then(reply: Any) -> None:
            if answer.done():
                return
            if isinstance(reply, Exception):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

        self.send(then, *words)
        return answer

    def subscribe(self, channel: str) -> None:
        """Ask for what is published on a channel; that it worked is pushed, too, and no answer."""
        if self._transport is not None:
            self._transport.write(hiredis.pack_command(tuple[Any, ...](("SUBSCRIBE", channel))))

    def close(self, why: str = "it was closed here") -> None:
        """Give it up."""
        self._end(ConnectionError(why))

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                if isinstance(reply, hiredis.PushNotification):
                    self._on_push(reply)
                elif self._waiting:
                    self._waiting.popleft()(reply)
                else:
                    self._end(ConnectionError("the server answered what nobody asked"))
                    return
        except hiredis.ProtocolError as exc:
            self._end(ConnectionError(f"the answer is not RESP: {exc}"))

    def eof_received(self) -> None:
        self._end(ConnectionError("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionError(f"the connection ended{f': {exc}' if exc else ''}"))

    def _end(self, failure: ConnectionError) -> None:
        if self._failure is not None:
            return
        self._failure = failure
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        for then in waiting:
            then(failure)
        self._on_end()
