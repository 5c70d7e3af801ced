"""The wires over Redis that a router was told to use, together."""

import asyncio

from prometheus_client import CollectorRegistry

from signalyard._redis.connection import RedisConnection
from signalyard._redis.keys import Keys
from signalyard.problems import Problem, error
from signalyard_router.adapters.redis.answering import Deciding
from signalyard_router.adapters.redis.encoding import encoder
from signalyard_router.adapters.redis.metrics import RedisMetrics
from signalyard_router.adapters.redis.pubsub import ChannelSource
from signalyard_router.adapters.redis.settings import Incoming, Outgoing, RedisSettings
from signalyard_router.adapters.redis.signals import ChannelSink, StreamSink
from signalyard_router.adapters.redis.source import StreamSource
from signalyard_router.ports import Sink, World


class RedisWires:
    """Sources that ask the router, and ``sinks`` for outboxes. ``streamed``: the journal writes the stream of signals itself.

    Raises CallerError (invalid_setting) where the URL is none of a Redis server. That the server is away is no error: it is waited for.
    """

    def __init__(
        self, world: World, settings: RedisSettings, registry: CollectorRegistry, *, streamed: bool = False
    ) -> None:
        if not settings.incoming and not settings.outgoing:
            raise error(
                Problem.INVALID_SETTING,
                "it says neither what comes over Redis (redis-in) nor what leaves (redis-out)",
                "/redis",
            )
        self._world = world
        self._settings = settings
        self._metrics = RedisMetrics(registry)
        self._sources: list[StreamSource | ChannelSource] = []
        self._sinking: list[RedisConnection] = []
        self.sinks: list[Sink] = []
        keys, writes = Keys(settings.prefix), encoder(settings.encoding)
        self._connect("check")  # a URL that is none is told at once
        if Outgoing.STREAM in settings.outgoing and not streamed:
            server = self._sink_connection()
            self.sinks.append(StreamSink(server, keys, writes, settings.signal_entries, self._metrics))
        if Outgoing.PUBSUB in settings.outgoing:
            self.sinks.append(ChannelSink(self._sink_connection(), keys, writes, self._metrics))

    def start(self, router: Deciding) -> None:
        """Let snapshots come."""
        world, settings = self._world, self._settings
        if Incoming.STREAM in settings.incoming:
            reading, writing = self._connect("reads"), self._connect("writes")
            self._sources.append(StreamSource(world, settings, router, self._metrics, reading, writing))
        if Incoming.PUBSUB in settings.incoming:
            self._sources.append(ChannelSource(world, settings, router, self._metrics, self._connect("hears")))
        for source in self._sources:
            source.start()

    async def drain(self, seconds: float) -> None:
        """Let no more come, and finish what is under way within ``seconds``."""
        await asyncio.gather(*(source.drain(seconds) for source in self._sources))
        self._sources.clear()

    async def close(self) -> None:
        """Give up the sinks' connections, and sources that were not drained."""
        await self.drain(0.0)
        for server in self._sinking:
            await server.close()

    def _sink_connection(self) -> RedisConnection:
        server = self._connect("sends")
        self._sinking.append(server)
        return server

    def _connect(self, role: str) -> RedisConnection:
        settings = self._settings
        name = f"signalyard-{role}"
        return RedisConnection(settings.url, seconds=settings.command_seconds, name=name)
