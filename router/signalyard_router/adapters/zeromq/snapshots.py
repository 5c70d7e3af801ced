"""Snapshots from publishers: a SUB socket. Nobody gets an answer; decisions are in the journal, and signals leave as they all do.

A publisher does not wait for us and keeps nothing: what comes while the router is down, or beyond both high-water marks, is lost.
"""

import asyncio
import logging

import zmq

from signalyard.problems import Problem, SignalyardError, error
from signalyard_router.adapters.zeromq.messages import Flaw, read_published
from signalyard_router.adapters.zeromq.metrics import ZeromqMetrics
from signalyard_router.adapters.zeromq.settings import ZeromqSettings
from signalyard_router.adapters.zeromq.sockets import LoopSocket
from signalyard_router.flow.correlation import REQUEST_ID
from signalyard_router.ports import Clock
from signalyard_router.wire.predicting import Decider, Predicting

_log = logging.getLogger("signalyard.zeromq")


class Snapshots:
    """Decides on what publishers send."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        router: Decider,
        clock: Clock,
        settings: ZeromqSettings,
        metrics: ZeromqMetrics,
        prefix: str,
    ) -> None:
        self._predicting = Predicting(router, settings.max_rows)
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._prefix = prefix
        self._count = 0
        self._tasks: dict[asyncio.Task[None], None] = {}
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, settings.snapshots_high_water)
        socket.setsockopt(zmq.MAXMSGSIZE, 2 * settings.max_body_bytes)
        socket.setsockopt(zmq.HEARTBEAT_IVL, int(settings.beat_seconds * 1000))
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(3 * settings.beat_seconds * 1000))
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        for address in settings.snapshots:
            try:
                socket.connect(address)
            except zmq.ZMQError as exc:
                socket.close(0)
                raise error(Problem.INVALID_SETTING, f"cannot connect {address}: {exc}", "/zeromq-snapshots") from exc
        self._socket = LoopSocket(socket, self._receive)

    def _receive(self, frames: list[bytes]) -> None:
        body = read_published(frames, self._settings.max_body_bytes)
        if isinstance(body, Flaw):
            self._metrics.flawed_snapshots[body].inc()
            return
        task = asyncio.get_running_loop().create_task(self._decide(body, self._clock.monotonic()))
        self._tasks[task] = None
        task.add_done_callback(self._done)
        self._socket.paused = len(self._tasks) >= self._settings.max_in_flight

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task)
        if self._socket.paused:
            self._socket.paused = False
            self._socket.look()

    async def _decide(self, body: bytes, received: int) -> None:
        self._count += 1
        REQUEST_ID.set(f"{self._prefix}-{self._count}")
        try:
            await self._predicting.decisions(body, received)
        except SignalyardError as exc:
            self._metrics.undecided.inc()
            _log.warning("event=snapshot_refused wire=zeromq problem=%s", exc.problem)
        except Exception:  # noqa: BLE001 -- the last line: logged and counted
            self._metrics.undecided.inc()
            _log.exception("event=internal_error wire=zeromq")
        else:
            self._metrics.decided.inc()

    async def drain(self, grace_seconds: float) -> None:
        """Read no more, and decide on what was read."""
        self._socket.close(0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
