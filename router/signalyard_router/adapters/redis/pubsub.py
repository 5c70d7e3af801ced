"""Snapshots by Pub/Sub, whose promise is weaker: nobody keeps a message.

What comes while the router is away, or its connection is, is lost; what comes while too many are under way is dropped and counted; nobody
is answered, and a decision that the journal did not take is not made again. A strategy on this wire reads its signals elsewhere.
"""

import asyncio
import logging

from signalyard._redis.connection import RedisConnection
from signalyard._redis.errors import LostError, RedisWireError
from signalyard._redis.keys import Keys
from signalyard.problems import CallerError, Problem, SignalyardError, error
from signalyard_router.adapters.redis.answering import Answering, Deciding, Work
from signalyard_router.adapters.redis.entries import Kind, Request
from signalyard_router.adapters.redis.metrics import RedisMetrics
from signalyard_router.adapters.redis.pause import Pause
from signalyard_router.adapters.redis.settings import RedisSettings
from signalyard_router.adapters.redis.turns import Turn, Turns
from signalyard_router.ports import World

_QUIET = 5.0
"""Seconds without a message after which the server is asked whether it is there; after as many more it is lost."""

_log = logging.getLogger("signalyard.router.redis")


class ChannelSource:
    """Decides on what is published on the channel of snapshots."""

    def __init__(
        self, world: World, settings: RedisSettings, router: Deciding, metrics: RedisMetrics, server: RedisConnection
    ) -> None:
        self._settings = settings
        self._channel = Keys(settings.prefix).snapshots
        self._metrics = metrics
        self._server = server
        self._answering = Answering(router, world.clock, settings.max_rows)
        self._pause = Pause(world.random_bytes, settings.first_pause_seconds, settings.longest_pause_seconds)
        self._turns = Turns()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None
        metrics.watch(lambda: len(self._in_flight))

    def start(self) -> None:
        """Begin. A server that is away is waited for."""
        self._listening = asyncio.create_task(self._listen())

    async def drain(self, seconds: float) -> None:
        """Listen no more, and finish what is under way within ``seconds``."""
        if self._listening is None:
            return
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        self._listening = None
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=seconds)
        for task in self._in_flight:
            task.cancel()
        await self._server.close()

    async def _listen(self) -> None:
        while True:
            try:
                await self._server.ask("SUBSCRIBE", self._channel)
                self._metrics.fine("channel")
                self._pause.over()
                await self._hear()
            except RedisWireError as exc:
                seconds = self._pause.next()
                self._metrics.failed("channel", lost=isinstance(exc, LostError))
                _log.warning("event=redis_failed wire=channel retry_seconds=%.2f error=%s", seconds, exc)
                await asyncio.sleep(seconds)

    async def _hear(self) -> None:
        """Take messages until the connection is lost. Raises LostError."""
        asked = False
        while True:
            said = await self._server.next(_QUIET)
            if said is None:
                if asked:
                    await self._server.close()
                    raise LostError(f"nothing came for {2 * _QUIET:g} s")
                await self._server.tell("PING")
            elif said[0] == b"message":
                self._take(said[2])
            asked = said is None

    def _take(self, body: bytes) -> None:
        if len(self._in_flight) >= self._settings.most_in_flight:
            self._metrics.dropped.inc()
            return
        try:
            if len(body) > self._settings.max_body_bytes:
                text = f"the message has {len(body)} bytes, at most {self._settings.max_body_bytes} are taken"
                raise error(Problem.BODY_TOO_LARGE, text)
            work = self._answering.read(Request(Kind.PREDICT, body, "", None, None))
        except CallerError as exc:
            self._metrics.bad.inc()
            _log.warning("event=redis_message_refused problem=%s", exc.problem)
            return
        task = asyncio.create_task(self._decide(work, self._turns.take(work.symbols)))
        self._in_flight.add(task)
        task.add_done_callback(self._in_flight.discard)

    async def _decide(self, work: Work, turn: Turn) -> None:
        try:
            await turn.come()
            if await self._answering.answer(work) is None:
                self._metrics.unrecorded.inc()
            else:
                self._metrics.decided.inc()
        except SignalyardError as exc:
            self._metrics.unrecorded.inc()
            _log.warning("event=redis_message_failed problem=%s", exc.problem)
        except Exception:  # noqa: BLE001 -- one message that breaks something must not end the others
            self._metrics.unrecorded.inc()
            _log.exception("event=redis_message_failed")
        finally:
            turn.end()
