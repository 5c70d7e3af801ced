"""A ZeroMQ socket on an event loop.

Its file descriptor tells once that something has changed, and not again before everything was looked at; a send may swallow what it
told. So everything is read until nothing is left, and looked at again after every send.
"""

import asyncio
from collections.abc import Callable, Sequence

import zmq

from signalyard.problems import Problem, error

_AT_ONCE = 64
"""Messages that are read before others have their turn of the loop."""
_LAST = int(zmq.NOBLOCK)
_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
"""As numbers: pyzmq makes a flag of an enumeration anew for every frame."""


class LoopSocket:
    """Calls ``received`` with each message's frames; ``paused`` stops that, and what comes waits up to the high-water mark."""

    def __init__(self, socket: "zmq.Socket[bytes]", received: Callable[[list[bytes]], None]) -> None:
        self.socket = socket
        # from below the layer of pyzmq that knows routing ids and groups, which takes as long again for every frame
        self._send: Callable[[bytes, int], object] = super(zmq.Socket, socket).send
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._fd = int(socket.getsockopt(zmq.FD))
        self._scheduled = False
        self._closed = False
        self.paused = False
        self._loop.add_reader(self._fd, self._read)
        self.look()

    def look(self) -> None:
        """Read what there is in the loop's next turn."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._scheduled_read)

    def send(self, frames: Sequence[bytes]) -> None:
        """Send without waiting. Raises zmq.Again at the high-water mark, zmq.ZMQError where there is no way to the peer."""
        send = self._send
        # What may fail fails at the first frame: libzmq takes a message whole or not at all.
        for frame in frames[:-1]:
            send(frame, _MORE)
        send(frames[-1], _LAST)
        self.look()

    def close(self, linger: int) -> None:
        """Close it; what was sent may take ``linger`` milliseconds to leave."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            self.socket.close(linger)

    def _scheduled_read(self) -> None:
        self._scheduled = False
        self._read()

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            if self._closed or self.paused:
                return
            try:
                frames = self._message()
            except zmq.Again:
                return
            self._received(frames)
        self.look()

    def _message(self) -> list[bytes]:
        """The next message. Raises zmq.Again where there is none."""
        recv = self.socket.recv
        frames: list[bytes] = []
        more = True
        while more:
            # A frame knows whether it is the last one; to ask the socket for that takes longer than to make the frame.
            frame = recv(_LAST, copy=False)
            frames.append(frame.bytes)
            more = frame.more
        return frames


def bind(socket: "zmq.Socket[bytes]", address: str, beat_seconds: float, pointer: str) -> str:
    """Bind a socket whose peers are beaten to, and are gone after three beats. The address, its port where it was free to choose.

    Raises CallerError (invalid_setting), with ``pointer``; the socket is closed then.
    """
    socket.setsockopt(zmq.HEARTBEAT_IVL, int(beat_seconds * 1000))
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(3 * beat_seconds * 1000))
    try:
        socket.bind(address)
    except zmq.ZMQError as exc:
        socket.close(0)
        right = "" if "://" in address else ", an address is like tcp://127.0.0.1:8092"
        raise error(Problem.INVALID_SETTING, f"cannot bind {address}: {exc}{right}", pointer) from exc
    bound: str = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    return bound
