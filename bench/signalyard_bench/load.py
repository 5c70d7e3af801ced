"""The load client. Every request's time is kept, and percentiles are ranks among them: nothing is binned or left out.

Closed loop: each connection sends its next request when it has the answer to the last. Open loop: requests are due at a steady
rate whatever the server does, and a request's time runs from when it was due, not from when it could be sent: a server that
stalls makes all of them late that were due meanwhile, and they show.
"""

import asyncio
import re
from array import array
from collections import Counter, deque
from collections.abc import Callable
from typing import Protocol, cast

import msgspec

from signalyard_bench.stats import percentile

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_OUTCOME = re.compile(rb'"outcome":"([a-z]+)"')
_SETTLE_SECONDS = 10.0

Requests = Callable[[], bytes]
"""Makes the next request, whole, as bytes."""


class Network(Protocol):
    """What connects."""

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Open a stream. Raises OSError."""
        ...


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to. Times are nanoseconds; ``latencies`` ascend; ``kinds`` counts the answers' outcomes."""

    latencies: "array[int]"
    seconds: float
    statuses: dict[int, int]
    kinds: dict[str, int]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def at(self, percent: float) -> float:
        """A percentile in milliseconds."""
        return percentile(self.latencies, percent) / 1e6

    def within(self, milliseconds: float) -> float:
        """The share of the requests that were answered within so many milliseconds."""
        return sum(1 for latency in self.latencies if latency <= milliseconds * 1e6) / len(self.latencies)


class LoadError(Exception):
    """The server closed a connection, sent what is no answer, or left a request unanswered."""


class Load:
    """Connections to one server, over which runs are made. ``now`` is monotonic nanoseconds."""

    def __init__(self, network: Network, now: Callable[[], int], requests: Requests) -> None:
        self._network = network
        self._now = now
        self._requests = requests
        self._lanes: list[_Lane] = []
        self._idle: deque[_Lane] = deque()
        self._due: deque[int] = deque()
        self._closed_loop = False
        self._running = False
        self._done: asyncio.Future[None] | None = None
        self._latencies: array[int] = array("q")
        self._statuses: Counter[int] = Counter()
        self._kinds: Counter[str] = Counter()

    async def connect(self, host: str, port: int, lanes: int) -> None:
        """Open the connections. Raises OSError."""
        for _ in range(lanes):
            lane = _Lane(self)
            await self._network.connect(lambda lane=lane: lane, host, port)  # type: ignore[misc]
            self._lanes.append(lane)
        self._idle = deque(self._lanes)

    def close(self) -> None:
        """Close the connections."""
        for lane in self._lanes:
            lane.close()

    async def closed(self, seconds: float) -> Outcome:
        """As many requests as the server answers in so many seconds. Raises LoadError."""
        started = self._begin(closed_loop=True)
        for _ in self._lanes:
            self._idle.pop().send(self._now())
        asyncio.get_running_loop().call_later(seconds, self._stop)
        return await self._end(started, seconds)

    async def open(self, rate: float, seconds: float) -> Outcome:
        """``rate`` requests a second for so many seconds, over the connections as they are free. Raises LoadError."""
        loop = asyncio.get_running_loop()
        started = self._begin(closed_loop=False)
        total = round(rate * seconds)
        made = 0

        def tick() -> None:
            nonlocal made
            now = self._now()
            while made < total and (due := started + int(made * 1e9 / rate)) <= now:
                made += 1
                self._due.append(due)
            while self._due and self._idle:
                self._idle.popleft().send(self._due.popleft())
            if made < total:
                loop.call_later(max(0.0, (started + int(made * 1e9 / rate) - self._now()) / 1e9), tick)
            else:
                self._stop()

        tick()
        return await self._end(started, seconds)

    # The lanes' side

    def make(self) -> bytes:
        """The next request."""
        return self._requests()

    def answered(self, lane: "_Lane", due: int, status: int, body: bytes) -> None:
        """A lane has a whole answer."""
        now = self._now()
        self._latencies.append(now - due)
        self._statuses[status] += 1
        kind = _OUTCOME.search(body)
        if kind is not None:
            self._kinds[kind[1].decode()] += 1
        if self._closed_loop and self._running:
            lane.send(self._now())
        elif self._due:
            lane.send(self._due.popleft())
        else:
            self._idle.append(lane)
            self._settle()

    def failed(self, text: str) -> None:
        """A lane cannot go on."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(LoadError(text))

    # Own

    def _begin(self, *, closed_loop: bool) -> int:
        self._latencies, self._statuses, self._kinds = array("q"), Counter(), Counter()
        self._closed_loop = closed_loop
        self._running = True
        self._done = asyncio.get_running_loop().create_future()
        return self._now()

    def _stop(self) -> None:
        self._running = False
        self._settle()

    def _settle(self) -> None:
        quiet = not self._running and not self._due and len(self._idle) == len(self._lanes)
        if quiet and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def _end(self, started: int, seconds: float) -> Outcome:
        assert self._done is not None
        try:
            async with asyncio.timeout(seconds + _SETTLE_SECONDS):
                await self._done
        except TimeoutError as exc:
            raise LoadError(f"{len(self._lanes) - len(self._idle)} requests got no answer") from exc
        return Outcome(
            array("q", sorted(self._latencies)),
            (self._now() - started) / 1e9,
            dict(self._statuses),
            dict(self._kinds),
        )


class _Lane(asyncio.Protocol):
    """One connection. It reads answers with a length, and takes one at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._due: int | None = None
        self._held = b""
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, due: int) -> None:
        """Send the next request; its time runs from ``due``."""
        assert self._transport is not None
        self._due = due
        self._transport.write(self._load.make())

    def data_received(self, data: bytes) -> None:
        if self._held:
            data = self._held + data
        head = data.find(b"\r\n\r\n") + 4
        if head < 4:
            self._held = data
            return
        length = _LENGTH.search(data, 0, head)
        if length is None or self._due is None:
            self._load.failed(f"not an answer: {data[:200]!r}")
            return
        end = head + int(length[1])
        if len(data) < end:
            self._held = data
            return
        self._held = b""
        if len(data) > end:
            self._load.failed("more than an answer came")
            return
        due, self._due = self._due, None
        self._load.answered(self, due, int(data[9:12]), data[head:end])

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self._load.failed(f"the server closed a connection: {exc}")

    def close(self) -> None:
        """Close the connection."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()
