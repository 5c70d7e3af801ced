"""One write for one answer."""

import asyncio


class Outbox:
    """What a request's answer is written to: it joins head and body, which uvicorn writes apart, into one.

    A write is a system call and a packet, and the client is woken by each of them.
    """

    __slots__ = ("_parts", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Keep a part of the answer."""
        self._parts.append(data)

    def flush(self) -> None:
        """Send what was kept."""
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def is_closing(self) -> bool:
        """Whether the connection is closing."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Send what was kept, then close."""
        self.flush()
        self._transport.close()
