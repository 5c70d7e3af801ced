"""ZeroMQ, for coroutines: a DEALER for requests, a SUB for signals. It needs the extra ``zeromq``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import TypeVar

import msgspec
import zmq
import zmq.asyncio

from signalyard.curve import KeyPair, public_key
from signalyard.following import Wanted
from signalyard.problems import Problem, ProblemDetails, error
from signalyard.wire import Signal

VERSION = b"signalyard/1"
BEAT_TOPIC = b"~beat"

_BEAT_SECONDS = 1.0
SILENCE = 3.0
"""Seconds without a sign of life after which a router is taken for gone."""
_LINGER = 0
_HIGH_WATER = 10_000

_signal = msgspec.json.Decoder(Signal)
_signals = msgspec.json.Decoder(list[Signal])
_problem = msgspec.json.Decoder(ProblemDetails)
_encode = msgspec.json.Encoder().encode
_T = TypeVar("_T")


class _Pending(msgspec.Struct):
    """A request without an answer yet, as it was sent, and when, by the loop's clock."""

    frames: list[bytes]
    done: asyncio.Future[tuple[bytes, bytes]]
    sent: float


class ZeromqWire:
    """The ZeroMQ sockets of a router: ``requests`` such as tcp://127.0.0.1:8092, ``signals`` such as tcp://127.0.0.1:8093; one that is
    not used need not be given.

    Where the router says that it stops, or gives no sign of life for three seconds, another connection is opened. What has no answer
    is asked again there, and every second: libzmq connects again by itself, tells nobody, and what was on its way is lost. The router's
    commit is idempotent.

    With ``router_key``, the router's public key, and ``key``, our own pair (`signalyard.curve.read_key`), both sockets speak CURVE: what is
    said is encrypted, and whoever answers is that router. One that does not know our key does not answer.
    """

    def __init__(
        self, requests: str = "", signals: str = "", *, router_key: str = "", key: KeyPair | None = None
    ) -> None:
        if bool(router_key) != (key is not None):
            raise error(Problem.INVALID_SETTING, "the router's public key and our own pair go together", "/router_key")
        try:
            self._router_key = public_key(router_key) if router_key else None
        except ValueError as exc:
            raise error(Problem.INVALID_SETTING, str(exc), "/router_key") from exc
        self._key = key
        self._requests = requests
        self._signals = signals
        self._context = zmq.asyncio.Context()
        self._socket: zmq.asyncio.Socket | None = None
        self._pending: dict[bytes, _Pending] = {}
        self._ids = count(1)
        self._heard = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def predict(self, body: bytes, budget: int) -> bytes:
        return await self._ask(b"predict", b"%d" % budget, body)

    async def state(self, symbol: str | None = None, route: str | None = None) -> bytes:
        return await self._ask(b"state", b"", _encode({"symbol": symbol, "route": route}))

    async def _ask(self, kind: bytes, budget: bytes, body: bytes) -> bytes:
        socket = self._connected()
        id_ = b"%d" % next(self._ids)
        loop = asyncio.get_running_loop()
        pending = _Pending([VERSION, kind, id_, budget, body], loop.create_future(), loop.time())
        self._pending[id_] = pending
        try:
            await socket.send_multipart(pending.frames)
            what, answer = await pending.done
        finally:
            del self._pending[id_]
        if what == b"answer":
            return answer
        try:
            details = _problem.decode(answer)
        except (ValueError, RecursionError) as exc:
            raise error(Problem.INTERNAL, f"the router's answer cannot be read: {exc}") from exc
        raise error(details.code, details.detail, details.pointer)

    def _connected(self) -> zmq.asyncio.Socket:
        if not self._requests:
            raise error(Problem.INVALID_SETTING, "the address for requests was not given", "/requests")
        if self._socket is None:
            self._socket = self._open(self._requests, zmq.DEALER)
            loop = asyncio.get_running_loop()
            self._heard = loop.time()
            self._tasks = [loop.create_task(self._read(self._socket)), loop.create_task(self._beat(self._socket))]
        return self._socket

    async def _read(self, socket: zmq.asyncio.Socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            frames = await socket.recv_multipart()
            self._heard = loop.time()
            if len(frames) != 4 or frames[0] != VERSION:
                continue  # nobody asked for it
            _, what, id_, body = frames
            if what == b"bye":
                loop.call_soon(self._move_on, socket)
            elif what in (b"answer", b"problem"):
                pending = self._pending.get(id_)
                if pending is not None and not pending.done.done():
                    pending.done.set_result((what, body))

    async def _beat(self, socket: zmq.asyncio.Socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            if loop.time() - self._heard > SILENCE:
                loop.call_soon(self._move_on, socket)
            with suppress(zmq.Again):
                await socket.send_multipart([VERSION, b"beat", b"", b"", b""], zmq.NOBLOCK)
                if socket is self._socket:
                    await self._ask_again(socket, loop.time() - _BEAT_SECONDS)

    async def _ask_again(self, socket: zmq.asyncio.Socket, before: float) -> None:
        """Ask again what was asked before a time. Raises zmq.Again where nothing more can be queued."""
        for pending in list(self._pending.values()):
            if pending.sent <= before:
                pending.sent = asyncio.get_running_loop().time()
                await socket.send_multipart(pending.frames, zmq.NOBLOCK)

    def _move_on(self, socket: zmq.asyncio.Socket) -> None:
        """Open another connection, and ask what is still to be answered there; the old one may yet bring answers for a moment."""
        if socket is not self._socket:
            return
        left, self._socket, self._tasks = self._tasks, None, []
        loop = asyncio.get_running_loop()
        loop.call_later(SILENCE, self._give_up, socket, left)
        if self._pending:
            asked = loop.create_task(self._ask_all(self._connected()))
            self._tasks.append(asked)

    async def _ask_all(self, socket: zmq.asyncio.Socket) -> None:
        with suppress(zmq.Again):  # what cannot be queued is asked with the next beat, or has its deadline
            await self._ask_again(socket, asyncio.get_running_loop().time())

    @staticmethod
    def _give_up(socket: zmq.asyncio.Socket, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        socket.close(_LINGER)

    def _open(self, address: str, kind: int) -> zmq.asyncio.Socket:
        socket: zmq.asyncio.Socket = self._context.socket(kind)
        socket.setsockopt(zmq.SNDHWM, _HIGH_WATER)
        socket.setsockopt(zmq.RCVHWM, _HIGH_WATER)
        socket.setsockopt(zmq.LINGER, _LINGER)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        if self._router_key is not None and self._key is not None:
            socket.setsockopt(zmq.CURVE_SERVERKEY, self._router_key)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, self._key.public.encode())
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._key.secret.encode())
        try:
            socket.connect(address)
        except zmq.ZMQError as exc:
            socket.close(0)
            raise error(Problem.INVALID_SETTING, f"cannot connect {address}: {exc}") from exc
        return socket

    @asynccontextmanager
    async def signals(self, wanted: Wanted) -> AsyncIterator[AsyncIterator[Signal]]:
        if not self._signals:
            raise error(Problem.INVALID_SETTING, "the address for signals was not given", "/signals")
        socket = self._open(self._signals, zmq.SUB)
        try:
            socket.setsockopt(zmq.SUBSCRIBE, BEAT_TOPIC)
            prefixes = [f"{symbol}/{wanted.route or ''}".encode() for symbol in sorted(wanted.symbols)] or [b""]
            for prefix in prefixes:
                socket.setsockopt(zmq.SUBSCRIBE, prefix)
            first: list[Signal] = []
            waiting = {*prefixes}
            # The answer to each subscription; what leaves after it is not missed.
            while waiting:
                topic, kind, body = await self._next(socket)
                if kind == b"last":
                    waiting.discard(topic)
                    last: list[Signal] = _read(_signals, body)
                    first += last
                elif kind == b"signal":
                    first.append(_read(_signal, body))
            yield self._each(socket, first)
        finally:
            socket.close(_LINGER)

    async def _each(self, socket: zmq.asyncio.Socket, first: list[Signal]) -> AsyncIterator[Signal]:
        for signal in first:
            yield signal
        while True:
            _, kind, body = await self._next(socket)
            if kind == b"signal":
                yield _read(_signal, body)
            elif kind == b"last":
                # Somebody else has subscribed; or we have, because the connection was made again beneath us, and one of these shows a gap.
                last: list[Signal] = _read(_signals, body)
                for signal in last:
                    yield signal

    async def _next(self, socket: zmq.asyncio.Socket) -> tuple[bytes, bytes, bytes]:
        async with asyncio.timeout(SILENCE):
            frames = await socket.recv_multipart()
        if len(frames) != 4 or frames[1] != VERSION:
            raise error(Problem.INTERNAL, f"the router publishes another version than {VERSION.decode()}")
        return frames[0], frames[2], frames[3]

    async def close(self) -> None:
        if self._socket is not None:
            self._give_up(self._socket, self._tasks)
            await asyncio.wait(self._tasks)
            self._socket, self._tasks = None, []
        for pending in self._pending.values():
            if not pending.done.done():
                pending.done.set_exception(ConnectionAbortedError("the client was closed"))
        self._context.destroy(_LINGER)


def _read(decoder: "msgspec.json.Decoder[_T]", body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as exc:
        raise error(Problem.INTERNAL, f"a signal cannot be read: {exc}") from exc
