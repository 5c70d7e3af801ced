"""Signals out: to a bounded stream, and by Pub/Sub. Both are sinks of the outbox, which repeats what may not have arrived."""

from collections.abc import Sequence

from signalyard._redis.connection import Asking, Command
from signalyard._redis.errors import LostError, RedisWireError, RefusedError
from signalyard._redis.keys import Keys
from signalyard.wire import Signal
from signalyard_router.adapters.redis.encoding import Encoder
from signalyard_router.adapters.redis.metrics import RedisMetrics


class StreamSink:
    """Appends to the stream of signals, which keeps the newest ``most`` or so. Implements `ports.Sink`."""

    name = "redis-stream"

    def __init__(self, server: Asking, keys: Keys, encoder: Encoder, most: int, metrics: RedisMetrics) -> None:
        self._server = server
        self._key = keys.signals
        self._encoder = encoder
        self._most = most
        self._metrics = metrics

    async def send(self, signals: Sequence[Signal]) -> None:
        head = ("XADD", self._key, "MAXLEN", "~", self._most, "*")
        commands: list[Command] = [(*head, *self._encoder.fields(signal)) for signal in signals]
        await _send(self._server, commands, "sink-stream", self._metrics)


class ChannelSink:
    """Publishes on a channel for each instrument; who does not listen at the time has missed it. Implements `ports.Sink`."""

    name = "redis-pubsub"

    def __init__(self, server: Asking, keys: Keys, encoder: Encoder, metrics: RedisMetrics) -> None:
        self._server = server
        self._keys = keys
        self._encoder = encoder
        self._metrics = metrics

    async def send(self, signals: Sequence[Signal]) -> None:
        commands: list[Command] = [
            ("PUBLISH", self._keys.channel(signal.symbol), self._encoder.message(signal)) for signal in signals
        ]
        await _send(self._server, commands, "sink-pubsub", self._metrics)


async def _send(server: Asking, commands: Sequence[Command], wire: str, metrics: RedisMetrics) -> None:
    try:
        for answer in await server.ask_all(commands):
            if isinstance(answer, RefusedError):
                raise answer
    except RedisWireError as exc:
        metrics.failed(wire, lost=isinstance(exc, LostError))
        raise
    metrics.fine(wire)
