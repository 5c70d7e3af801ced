"""Snapshots from publishers: a SUB socket. Nobody gets an answer; decisions are in the journal, and signals leave as they all do.

A publisher does not wait for us and keeps nothing: what comes while the router is down, or beyond both high-water marks, is lost.
"""

import logging

import zmq

from signalyard.problems import Problem, SignalyardError, error
from signalyard.wire import Decision
from signalyard_router.adapters.zeromq.messages import Flaw, read_published
from signalyard_router.adapters.zeromq.metrics import ZeromqMetrics
from signalyard_router.adapters.zeromq.security import Security, publisher
from signalyard_router.adapters.zeromq.settings import ZeromqSettings
from signalyard_router.adapters.zeromq.sockets import LoopSocket
from signalyard_router.adapters.zeromq.turn import Turn
from signalyard_router.flow.correlation import REQUEST_ID
from signalyard_router.ports import Clock
from signalyard_router.promise import Promise, UnderWay
from signalyard_router.wire.predicting import Submitter, Submitting

_log = logging.getLogger("signalyard.zeromq")


class Snapshots:
    """Decides on what publishers send."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        router: Submitter,
        clock: Clock,
        settings: ZeromqSettings,
        metrics: ZeromqMetrics,
        prefix: str,
        security: Security | None = None,
    ) -> None:
        self._submitting = Submitting(router, settings.max_rows)
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._prefix = prefix
        self._count = 0
        self._turn = Turn(self._begin)
        self._under_way = UnderWay()
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, settings.snapshots_high_water)
        socket.setsockopt(zmq.MAXMSGSIZE, 2 * settings.max_body_bytes)
        socket.setsockopt(zmq.HEARTBEAT_IVL, int(settings.beat_seconds * 1000))
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(3 * settings.beat_seconds * 1000))
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        for address, key in [publisher(named, security) for named in settings.snapshots]:
            # libzmq looks at these when it connects, so each connection has its own
            if security is not None and key is not None:
                security.connect(socket, key)
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
        self._turn.add((body, self._clock.monotonic()))
        self._socket.paused = len(self._turn) + len(self._under_way) >= self._settings.max_in_flight

    def _begin(self, came: tuple[bytes, int]) -> None:
        body, received = came
        self._count += 1
        token = REQUEST_ID.set(f"{self._prefix}-{self._count}")
        try:
            done = self._submitting.begin(body, received).done
            self._under_way.add(done)
            done.add_done_callback(self._decided)
        except Exception as exc:  # noqa: BLE001 -- whatever it is, it is told
            self._refuse(exc)
            self._resume()
        finally:
            REQUEST_ID.reset(token)

    def _decided(self, done: Promise[list[Decision]]) -> None:
        self._under_way.remove(done)
        if not done.cancelled():  # by a shutdown whose grace is over
            exc = done.exception()
            if exc is None:
                self._metrics.decided.inc()
            else:
                self._refuse(exc)
        self._resume()

    def _refuse(self, exc: BaseException) -> None:
        self._metrics.undecided.inc()
        if isinstance(exc, SignalyardError):
            _log.warning("event=snapshot_refused wire=zeromq problem=%s", exc.problem)
        else:
            # the last line: logged and counted
            _log.error("event=internal_error wire=zeromq", exc_info=exc)

    def _resume(self) -> None:
        if self._socket.paused:
            self._socket.paused = False
            self._socket.look()

    async def drain(self, grace_seconds: float) -> None:
        """Read no more, and decide on what was read."""
        self._socket.close(0)
        self._turn.end()
        if not await self._under_way.ended(grace_seconds):
            self._under_way.cancel()
