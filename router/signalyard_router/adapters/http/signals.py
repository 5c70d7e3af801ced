"""``GET /v1/signals``: signals as they leave, as server-sent events (HTML, 9.2).

Signals that have been confirmed go into a ring, and each client reads from the ring where it stands, at its own pace. So a client that
does not read costs its own buffer and no more, and one that the ring has left behind is sent away: it connects again, and
reconciles. With ``last-event-id`` a client goes on behind the signal of that id, as far as the ring goes back. There is a ring only while
somebody reads, and for a minute after: nobody else should pay for it.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from prometheus_client import CollectorRegistry, Gauge

from signalyard._counting import Counter
from signalyard._server.connection import Connections
from signalyard._server.request import Request
from signalyard._server.stream import Stream
from signalyard.problems import Problem, error
from signalyard.wire import Signal
from signalyard.words import Outcome
from signalyard_router.ports import Clock
from signalyard_router.rules.record import DecisionRecord, signal_of
from signalyard_router.rules.units import SECOND

EVENT_STREAM = b"text/event-stream"
LAST_ID = b"last-event-id"
LAST_ID_SCHEMA = {"type": "string", "description": "The id of the last event that was received: go on behind it."}

_KEPT = 4_096
"""Signals in the ring: some two megabytes, and more than a second of what a router can emit."""
_BEAT_SECONDS = 5.0
"""How long a stream is silent at most; a client may take three times as long for the end of the connection."""
_KEPT_FOR = 60 * SECOND
_AT_ONCE = 256

_encode = msgspec.json.Encoder().encode


class _Event(msgspec.Struct, frozen=True, gc=False):
    """A signal as it is written."""

    id: str
    symbol: str
    route: str
    text: bytes


class SignalStreams:
    """Hears of confirmed decisions, and serves their signals to any number of clients."""

    def __init__(
        self, clock: Clock, registry: CollectorRegistry, kept: int = _KEPT, beat_seconds: float = _BEAT_SECONDS
    ) -> None:
        self._clock = clock
        self._kept = kept
        self._beat_seconds = beat_seconds
        self._ring: deque[_Event] = deque()
        self._first = 0  # the number of the ring's first event
        self._places: dict[str, int] = {}
        self._news = asyncio.Event()
        self._closed = False
        self._open = 0
        self._keep_until = 0
        Gauge("signalyard_streams", "Open streams of signals", registry=registry).set_function(lambda: self._open)
        self._behind = Counter(
            "signalyard_streams_left_behind_total",
            "Streams ended because their client read too slowly",
            registry=registry,
        )

    def observe(self, records: Sequence[DecisionRecord]) -> None:
        """Decisions have been confirmed."""
        if not self._open:
            if not self._ring:
                return
            if self._clock.monotonic() > self._keep_until:
                self._first += len(self._ring)
                self._ring.clear()
                self._places.clear()
                return
        for record in records:
            if record.outcome is Outcome.EMITTED:
                self._add(signal_of(record))

    def _add(self, signal: Signal) -> None:
        text = b"id: %b\nevent: signal\ndata: %b\n\n" % (signal.signal_id.encode(), _encode(signal))
        self._places[signal.signal_id] = self._first + len(self._ring)
        self._ring.append(_Event(signal.signal_id, signal.symbol, signal.route, text))
        if len(self._ring) > self._kept:
            self._places.pop(self._ring.popleft().id, None)
            self._first += 1
        self._wake()

    def close(self) -> None:
        """End all streams, and take no more: their clients connect to another router, or to this one's successor."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        # Another event each time, so that nobody has to clear one that others still wait for.
        self._news.set()
        self._news = asyncio.Event()

    async def serve(self, shared: Connections, request: Request, symbol: str | None, route: str | None) -> None:
        """Write signals on the request's connection until either side has enough. Raises RouterError (draining)."""
        if self._closed:
            raise error(Problem.DRAINING, "no more streams are begun")
        stream = Stream(shared, request)
        place = self._place(dict(request.headers).get(LAST_ID, b"").decode("latin-1"))
        stream.begin(EVENT_STREAM)
        stream.write(b"retry: 100\n\n")
        self._open += 1
        loop = asyncio.get_running_loop()
        beat_at = loop.time() + self._beat_seconds
        try:
            while stream.open and not self._closed:
                if place < self._first:
                    self._behind.inc()
                    break
                news = self._news
                events = self._after(place)
                place += len(events)
                text = b"".join(
                    [event.text for event in events if symbol in (None, event.symbol) and route in (None, event.route)]
                )
                if not events:
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(beat_at):
                            await news.wait()
                if not text and loop.time() >= beat_at:
                    # also where all that comes is for others
                    text = b":\n\n"
                if text:
                    stream.write(text)
                    beat_at = loop.time() + self._beat_seconds
                await stream.writable()
        finally:
            self._open -= 1
            self._keep_until = self._clock.monotonic() + _KEPT_FOR
            stream.end()

    def _place(self, last_id: str) -> int:
        end = self._first + len(self._ring)
        return self._places.get(last_id, end - 1) + 1

    def _after(self, place: int) -> list[_Event]:
        """The events from a place on; the newest are near, so the ring is walked from its end."""
        count = self._first + len(self._ring) - place
        if count <= 0:
            return []
        return [self._ring[-index] for index in range(count, max(0, count - _AT_ONCE), -1)]
