"""Requests and replies: a ROUTER socket, to which DEALERs talk."""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Protocol

import msgspec
import zmq

from signalyard.problems import Problem, SignalyardError, error
from signalyard.wire import Decision, StateAnswer
from signalyard_router.adapters.zeromq.doorkeeper import Handshakes
from signalyard_router.adapters.zeromq.messages import (
    BEAT,
    STATE,
    Refused,
    Request,
    answer,
    beat,
    bye,
    problem,
    read_request,
)
from signalyard_router.adapters.zeromq.metrics import ZeromqMetrics
from signalyard_router.adapters.zeromq.peers import Peers
from signalyard_router.adapters.zeromq.security import Security
from signalyard_router.adapters.zeromq.settings import ZeromqSettings
from signalyard_router.adapters.zeromq.sockets import LoopSocket, bind
from signalyard_router.adapters.zeromq.turn import Turn
from signalyard_router.flow.correlation import REQUEST_ID
from signalyard_router.ports import Clock
from signalyard_router.promise import Promise, UnderWay
from signalyard_router.rules.units import SECOND
from signalyard_router.wire.predicting import Begun, Submitter, Submitting

_FORGET_BEATS = 10
_log = logging.getLogger("signalyard.zeromq")


class Router(Submitter, Protocol):
    """The router, as this wire sees it."""

    def state(self, symbol: str | None = None, route: str | None = None) -> StateAnswer:
        """What each route last said of each instrument."""
        ...


class StateQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for the state; empty, it asks for all of it."""

    symbol: str | None = None
    route: str | None = None


_question = msgspec.json.Decoder(StateQuestion)
_encode = msgspec.json.Encoder().encode


class Requests:
    """Answers requests, in the order in which the answers are ready."""

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        router: Router,
        clock: Clock,
        settings: ZeromqSettings,
        metrics: ZeromqMetrics,
        prefix: str,
        security: Security | None = None,
    ) -> None:
        self._router = router
        self._submitting = Submitting(router, settings.max_rows)
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._prefix = prefix
        self._count = 0
        self._peers = Peers(
            settings.max_peers, settings.max_in_flight, int(_FORGET_BEATS * settings.beat_seconds * SECOND)
        )
        self._turn = Turn(self._begin)
        self._under_way = UnderWay()
        metrics.watch(lambda: len(self._peers))
        socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.SNDHWM, settings.requests_high_water)
        socket.setsockopt(zmq.RCVHWM, settings.requests_high_water)
        socket.setsockopt(zmq.MAXMSGSIZE, 2 * settings.max_body_bytes)
        # A peer that is gone, or reads nothing, is to be told from one that gets its answer.
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if security is not None:
            security.listen(socket, "requests")
        self.address = bind(socket, settings.requests, settings.beat_seconds, "/zeromq-requests")
        self._handshakes = Handshakes(socket, "requests", metrics) if security is not None else None
        self._socket = LoopSocket(socket, self._receive)

    def tend(self) -> None:
        """To be called now and then: forget who is gone."""
        self._peers.forget(self._clock.monotonic())

    def _receive(self, frames: list[bytes]) -> None:
        now = self._clock.monotonic()
        peer, *rest = frames
        self._peers.heard(peer, now)
        request = read_request(rest, self._settings.max_body_bytes)
        if isinstance(request, Refused):
            self._metrics.flawed[request.flaw].inc()
            self._send(peer, problem(request.id, request.problem))
        elif request.kind == BEAT:
            self._metrics.beats.inc()
            self._send(peer, beat(request.id))
        elif not self._peers.begin(peer):
            self._metrics.refused.inc()
            text = f"{self._settings.max_in_flight} requests of this peer are under way, the most there may be"
            self._send(peer, problem(request.id, error(Problem.OVERLOADED, text)))
        else:
            self._turn.add((peer, request, now))

    def _begin(self, asked: tuple[bytes, Request, int]) -> None:
        peer, request, received = asked
        self._count += 1
        token = REQUEST_ID.set(f"{self._prefix}-{self._count}")
        try:
            if request.kind == STATE:
                self._answer(peer, request.id, _encode(self._state(request.body)))
                return
            begun = self._submitting.begin(request.body, received, request.budget)
            self._under_way.add(begun.done)
            begun.done.add_done_callback(partial(self._decided, peer, request.id, begun))
        except Exception as exc:  # noqa: BLE001 -- whatever it is, it is answered
            self._refuse(peer, request.id, exc)
        finally:
            REQUEST_ID.reset(token)

    def _decided(self, peer: bytes, id_: bytes, begun: Begun, done: Promise[list[Decision]]) -> None:
        self._under_way.remove(done)
        try:
            body = begun.answer()
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 -- as in `_begin`
            self._refuse(peer, id_, exc)
        else:
            self._answer(peer, id_, body)

    def _answer(self, peer: bytes, id_: bytes, body: bytes) -> None:
        self._metrics.answered.inc()
        self._peers.end(peer)
        self._send(peer, answer(id_, body))

    def _refuse(self, peer: bytes, id_: bytes, exc: BaseException) -> None:
        if isinstance(exc, asyncio.CancelledError):
            # only a shutdown whose grace is over cancels a request
            exc = error(Problem.DRAINING, "the router stopped before there was a decision")
        else:
            self._metrics.refused.inc()
        if not isinstance(exc, SignalyardError):
            # the last line: logged, counted, and answered without its text
            _log.error("event=internal_error wire=zeromq", exc_info=exc)
            exc = error(Problem.INTERNAL)
        self._peers.end(peer)
        self._send(peer, problem(id_, exc))

    def _state(self, body: bytes) -> StateAnswer:
        if not body:
            return self._router.state()
        try:
            asked = _question.decode(body)
        except (ValueError, RecursionError) as exc:
            raise error(Problem.INVALID_REQUEST, f"a question for the state has symbol and route: {exc}", "/4") from exc
        return self._router.state(asked.symbol, asked.route)

    def _send(self, peer: bytes, frames: list[bytes]) -> None:
        try:
            self._socket.send([peer, *frames])
        except zmq.ZMQError as exc:
            self._metrics.lost_answers.inc()
            if exc.errno != zmq.EAGAIN:
                self._peers.gone(peer)

    async def drain(self, grace_seconds: float) -> None:
        """Stop: read no more, answer what was read, then say so to all peers.

        It listens until then: to unbind would end every connection at once, with the answers that are still to come.
        """
        self._socket.paused = True
        self._turn.end()
        if not await self._under_way.ended(grace_seconds):
            count = len(self._under_way)
            _log.warning("event=drain_expired wire=zeromq requests=%d seconds=%g", count, grace_seconds)
            self._under_way.cancel()
        for peer in self._peers.known:
            with suppress(zmq.ZMQError):  # it is gone, or does not read
                self._socket.send([peer, *bye()])
        if self._handshakes is not None:
            self._handshakes.close()
        self._socket.close(int(self._settings.linger_seconds * 1000))
