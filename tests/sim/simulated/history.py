"""What was seen from outside, in order. The place of an event in the list is its order; several may share one time."""

import hashlib
from typing import Any

from signalyard_router.testing.sim.disk import Deed
from signalyard_router.testing.sim.loop import SimLoop
from signalyard_router.testing.sim.network import SimTransport


class Event:
    """``kind`` says what; ``number`` is a connection's or a question's; ``who`` the other side or a path."""

    __slots__ = ("at", "data", "kind", "number", "order", "size", "who")

    def __init__(self, order: int, at: int, kind: str, number: int, who: str, data: bytes, size: int) -> None:
        self.order = order
        self.at = at
        self.kind = kind
        self.number = number
        self.who = who
        self.data = data
        self.size = size

    def __repr__(self) -> str:
        return f"{self.at} {self.kind} {self.number} {self.who} {self.size} {self.data!r}"


class History:
    """The events of a world, the journal's files at its end, and what went wrong inside that nothing outside showed."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.events: list[Event] = []
        self.files: dict[str, bytes] = {}
        self.inside: list[str] = []

    def add(self, kind: str, number: int = 0, who: str = "", data: bytes = b"", size: int = 0) -> None:
        self.events.append(Event(len(self.events), self._loop.now, kind, number, who, data, size))

    def ear(self, what: str, transport: SimTransport, data: bytes) -> None:
        """Listens at the router's sockets."""
        peer = transport.peer
        self.add(
            what, transport.number if transport.accepted else -transport.number, peer.node.name if peer else "", data
        )

    def needle(self, what: Deed, path: str, data: bytes, size: int) -> None:
        """Watches the disk."""
        self.add(what, 0, path, data, size)

    def keeper(self, name: str, content: bytes) -> None:
        """Watches the archive."""
        self.add("archived", 0, name, content)

    def hash(self) -> str:
        """The same for the same history, to the byte."""
        pieces: list[bytes] = []
        for event in self.events:
            pieces.append(f"{event.at} {event.kind} {event.number} {event.who} {event.size} ".encode())
            pieces.append(event.data)
        for path, content in self.files.items():
            pieces.append(path.encode())
            pieces.append(content)
        pieces.append("\n".join(self.inside).encode())
        return hashlib.sha256(b"".join(pieces)).hexdigest()


Json = dict[str, Any]
