"""Who is let in: ZeroMQ's authentication protocol (ZAP, https://rfc.zeromq.org/spec/27/), and what becomes of handshakes."""

import logging
import struct
from collections.abc import Sequence

import zmq
from zmq.utils import z85

from signalyard_router.adapters.zeromq.clients import Clients
from signalyard_router.adapters.zeromq.metrics import ZeromqMetrics
from signalyard_router.adapters.zeromq.sockets import LoopSocket

_ADDRESS = "inproc://zeromq.zap.01"
_VERSION = b"1.0"
_MOST_LOGGED = 1_000
"""Strangers that are remembered for having been logged; they make keys as they like."""
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL

_log = logging.getLogger("signalyard.zeromq")


class Doorkeeper:
    """Lets in whose public key is known, by CURVE; libzmq asks it for every connection of the context's sockets that have a domain.

    A stranger is counted each time and logged once. It is to be there before those sockets, and until they are closed.
    """

    def __init__(self, context: "zmq.Context[zmq.Socket[bytes]]", clients: Clients, metrics: ZeromqMetrics) -> None:
        self._clients = clients
        self._metrics = metrics
        self._logged: set[bytes] = set()
        socket = context.socket(zmq.REP)
        socket.bind(_ADDRESS)
        self._socket = LoopSocket(socket, self._asked)

    def _asked(self, frames: Sequence[bytes]) -> None:
        # libzmq asks, and nobody else can: the form is right
        _, request, domain, address, _, mechanism, *credentials = frames
        key = z85.encode(credentials[0]) if mechanism == b"CURVE" and credentials else b""
        name = self._clients.name(key)
        if name is None:
            self._metrics.strangers.inc()
            self._log_once(key, domain, address)
            told = [b"400", b"the key is not known", b""]
        else:
            told = [b"200", b"OK", name.encode()]
        self._socket.send([_VERSION, request, *told, b""])

    def _log_once(self, key: bytes, domain: bytes, address: bytes) -> None:
        if key in self._logged or len(self._logged) >= _MOST_LOGGED:
            return
        self._logged.add(key)
        _log.warning(
            "event=zeromq_stranger socket=%s address=%s key=%s", domain.decode(), address.decode(), key.decode()
        )

    def close(self) -> None:
        """Let nobody in any more."""
        self._socket.close(0)


class Handshakes:
    """Counts those who do not come as far as the doorkeeper: they speak no CURVE, or take us for another. The first is logged."""

    def __init__(self, socket: "zmq.Socket[bytes]", name: str, metrics: ZeromqMetrics) -> None:
        self._watched = socket
        self._name = name
        self._metrics = metrics
        self._logged = False
        address = f"inproc://handshakes-{name}"
        socket.monitor(address, int(_FAILED))
        heard = socket.context.socket(zmq.PAIR)
        heard.connect(address)
        self._socket = LoopSocket(heard, self._failed)

    def _failed(self, frames: Sequence[bytes]) -> None:
        self._metrics.failed_handshakes.inc()
        if not self._logged:
            self._logged = True
            event, value = struct.unpack("=HI", frames[0])
            _log.warning("event=zeromq_handshake_failed socket=%s kind=%d detail=%#x", self._name, event, value)

    def close(self) -> None:
        """Watch no more; to be called before the socket is closed."""
        self._watched.disable_monitor()
        self._socket.close(0)
