"""An answer without an end: the connection of a request, to be written to for as long as both sides want."""

from signalyard._server.connection import Connection, Connections
from signalyard._server.request import Request


class Stream:
    """Takes a request's connection over. The answer that its handler returns afterwards is not written, because there was one.

    Whoever writes waits for `writable` in between: what a client does not read is kept in memory here, and a connection is cut where the
    client reads nothing for as long as the server's settings allow.
    """

    def __init__(self, shared: Connections, request: Request) -> None:
        # Looked for among all, so that no other request has to know its connection.
        self._connection: Connection | None = next(
            (connection for connection in shared.connections if connection.answers(request)), None
        )

    @property
    def open(self) -> bool:
        """Whether anybody may still read."""
        return self._connection is not None and not self._connection.gone

    def begin(self, content_type: bytes) -> None:
        """Write the head of a 200 whose end is that of the connection."""
        self.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: "
            + content_type
            + b"\r\ncache-control: no-store\r\nconnection: close\r\n\r\n"
        )

    def write(self, data: bytes) -> None:
        """Write a part of the body."""
        if self._connection is not None and not self._connection.gone:
            self._connection.transport.write(data)

    async def writable(self) -> None:
        """Return once the client has read enough, or is gone."""
        if self._connection is not None:
            await self._connection.writable()

    def end(self) -> None:
        """Close the connection once everything is written."""
        if self._connection is not None and not self._connection.gone:
            self._connection.finish()
