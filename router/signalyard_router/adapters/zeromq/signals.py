"""Signals to subscribers: an XPUB socket that remembers the last of every instrument."""

from collections.abc import Sequence

import zmq

from signalyard.wire import Signal
from signalyard_router.adapters.zeromq.doorkeeper import Handshakes
from signalyard_router.adapters.zeromq.lastvalues import LastValues
from signalyard_router.adapters.zeromq.messages import last_values, published, published_beat
from signalyard_router.adapters.zeromq.metrics import ZeromqMetrics
from signalyard_router.adapters.zeromq.security import Security
from signalyard_router.adapters.zeromq.settings import ZeromqSettings
from signalyard_router.adapters.zeromq.sockets import LoopSocket, bind
from signalyard_router.ports import Journal

_SUBSCRIBE, _UNSUBSCRIBE = 1, 0


class Publisher:
    """Implements `ports.Sink`. Nobody waits for a subscriber: one that does not read loses signals, and the others do not."""

    name = "zeromq"

    def __init__(
        self,
        context: "zmq.Context[zmq.Socket[bytes]]",
        journal: Journal,
        settings: ZeromqSettings,
        metrics: ZeromqMetrics,
        security: Security | None = None,
    ) -> None:
        self._journal = journal
        self._settings = settings
        self._metrics = metrics
        self._last = LastValues()
        self._subscriptions = 0
        metrics.watch_subscriptions(lambda: self._subscriptions)
        socket = context.socket(zmq.XPUB)
        # Every subscription is told to us, also the second of a kind. libzmq could direct a message to the newest subscriber alone, but
        # then a peer that sends anything else makes it mistake one subscriber for another.
        socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        socket.setsockopt(zmq.XPUB_NODROP, 1)
        socket.setsockopt(zmq.SNDHWM, settings.signals_high_water)
        socket.setsockopt(zmq.MAXMSGSIZE, 1024)
        if security is not None:
            security.listen(socket, "signals")
        self.address = bind(socket, settings.signals, settings.beat_seconds, "/zeromq-signals")
        self._handshakes = Handshakes(socket, "signals", metrics) if security is not None else None
        self._socket = LoopSocket(socket, self._receive)

    async def send(self, signals: Sequence[Signal]) -> None:
        for signal in signals:
            self._last.keep(signal)
            self._publish(published(signal))

    def beat(self) -> None:
        """To be called now and then: a sign of life."""
        self._publish(published_beat())

    def _publish(self, frames: list[bytes]) -> None:
        try:
            self._socket.send(frames)
        except zmq.Again:
            # Somebody is at his high-water mark. Without this option he alone loses the message, and nobody tells.
            self._metrics.lost_signals.inc()
            socket = self._socket.socket
            socket.setsockopt(zmq.XPUB_NODROP, 0)
            self._socket.send(frames)
            socket.setsockopt(zmq.XPUB_NODROP, 1)

    def _receive(self, frames: list[bytes]) -> None:
        message = frames[0]
        if len(frames) != 1 or not message or message[0] not in (_SUBSCRIBE, _UNSUBSCRIBE):
            return  # what a subscriber says besides has no meaning
        if message[0] == _UNSUBSCRIBE:
            self._subscriptions -= 1
            return
        self._subscriptions += 1
        prefix = message[1:]
        self._publish(last_values(prefix, self._last.of(prefix, self._journal.now)))

    def close(self) -> None:
        """Stop publishing."""
        if self._handshakes is not None:
            self._handshakes.close()
        self._socket.close(int(self._settings.linger_seconds * 1000))
