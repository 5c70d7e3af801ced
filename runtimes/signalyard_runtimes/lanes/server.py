"""A listening REST server in front of one who answers."""

import asyncio
import socket
from time import perf_counter_ns

from signalyard._server.bounds import ConnectionSettings
from signalyard._server.connection import Answering, Connection, Connections
from signalyard._server.drain import drain


class _Clock:
    """The clock that budgets are measured by; on Linux it is the event loop's, too."""

    def monotonic(self) -> int:
        return perf_counter_ns()


class HttpServer:
    """Serves until it is drained. ``open`` are its connections."""

    def __init__(self, listener: asyncio.Server, connections: Connections) -> None:
        self._listener = listener
        self.open = connections

    @classmethod
    async def start(cls, listening: socket.socket, app: Answering, settings: ConnectionSettings) -> "HttpServer":
        """Accept on a socket that listens already."""
        shared = Connections(app, settings, _Clock())
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(shared), sock=listening, backlog=2048
        )
        return cls(server, shared)

    async def drain(self, grace_seconds: float) -> None:
        """No new connections; what is in hand is answered within the grace; then all is closed."""
        await drain(self.open, self._listener, grace_seconds)
