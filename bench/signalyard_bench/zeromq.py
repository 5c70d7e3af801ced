"""The load client over ZeroMQ: as `load.Load` in its closed loop, over DEALERs."""

import asyncio
import time
from array import array
from collections import Counter

import zmq

from signalyard_bench.load import LoadError, Outcome, Requests
from signalyard_router.adapters.zeromq.sockets import LoopSocket

_VERSION = b"signalyard/1"
_SETTLE_SECONDS = 10.0


class ZeromqLoad:
    """``lanes`` requests under way at a time on one DEALER. ``requests`` makes HTTP requests, whose bodies are taken."""

    def __init__(self, address: str, lanes: int, requests: Requests) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        socket = self._context.socket(zmq.DEALER)
        socket.connect(address)
        self._requests = requests
        self._lanes = lanes
        self._socket = LoopSocket(socket, self._received)
        self._due: dict[bytes, int] = {}
        self._count = 0
        self._running = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._latencies: array[int] = array("q")
        self._kinds: Counter[bytes] = Counter()

    async def closed(self, seconds: float) -> Outcome:
        """As many requests as are answered in so many seconds. Raises LoadError."""
        self._running = True
        began = time.perf_counter_ns()
        for _ in range(self._lanes):
            self._send()
        asyncio.get_running_loop().call_later(seconds, self._stop)
        try:
            async with asyncio.timeout(seconds + _SETTLE_SECONDS):
                await self._done
        except TimeoutError as exc:
            raise LoadError(f"{len(self._due)} requests got no answer") from exc
        took = (time.perf_counter_ns() - began) / 1e9
        if set(self._kinds) != {b"answer"}:
            raise LoadError(f"not every message was an answer: {self._kinds}")
        return Outcome(array("q", sorted(self._latencies)), took, {200: len(self._latencies)}, {})

    def _send(self) -> None:
        self._count += 1
        id_ = b"%d" % self._count
        body = self._requests().partition(b"\r\n\r\n")[2]
        self._due[id_] = time.perf_counter_ns()
        self._socket.send([_VERSION, b"predict", id_, b"", body])

    def _received(self, frames: list[bytes]) -> None:
        now = time.perf_counter_ns()
        _, kind, id_, _ = frames
        self._latencies.append(now - self._due.pop(id_))
        self._kinds[kind] += 1
        if self._running:
            self._send()
        elif not self._due and not self._done.done():
            self._done.set_result(None)

    def _stop(self) -> None:
        self._running = False

    def close(self) -> None:
        """Close the socket."""
        self._socket.close(0)
        self._context.term()
