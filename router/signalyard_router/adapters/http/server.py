"""The REST server: it listens, and it drains. Signals are not its business."""

import asyncio
import logging

from signalyard_router.adapters.http.pages import Pages
from signalyard_router.adapters.http.protocol import Connection, Connections
from signalyard_router.adapters.http.request_ids import RequestIds
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.ports import Listener, World

_log = logging.getLogger("signalyard.http")

_CANCEL_SECONDS = 1.0
"""How long a request that was cancelled at the end of the grace may take to say so to its client."""


class HttpServer:
    """Serves an app over HTTP/1.1."""

    def __init__(self, world: World, app: Pages, settings: HttpSettings) -> None:
        self._network = world.network
        self._settings = settings
        app.ids = RequestIds(world.random_bytes(4).hex())
        self._open = Connections(app, settings, world.clock)
        app.metrics.watch(lambda: len(self._open.tasks), lambda: len(self._open.connections))
        self._listener: Listener | None = None
        self._port: int | None = None

    async def start(self) -> None:
        """Listen. Raises OSError."""
        self._listener = await self._network.listen(
            lambda: Connection(self._open), self._settings.host, self._settings.port
        )
        self._port = self._listener.port

    @property
    def port(self) -> int:
        """The port it listens on, or listened on before it drained."""
        if self._port is None:
            raise RuntimeError("the server has not been started")
        return self._port

    async def drain(self, grace_seconds: float) -> None:
        """Stop: no new connections, idle ones closed after one more request or a moment without, what is in hand answered within
        the grace; then all is closed."""
        shared = self._open
        shared.draining = True
        if self._listener is not None:
            self._listener.close()
        # A connection that was accepted in this turn is made in the next, and has to be among those that are waited for: its
        # request would be read when the journal is closed already.
        for _ in range(2):
            await asyncio.sleep(0)
        for connection in list(shared.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(grace_seconds):
                await shared.empty.wait()
                while shared.tasks:
                    await asyncio.wait(shared.tasks)
        except TimeoutError:
            _log.warning(
                "event=drain_expired connections=%d requests=%d seconds=%g",
                len(shared.connections),
                len(shared.tasks),
                grace_seconds,
            )
            await self._cut()

    async def _cut(self) -> None:
        shared = self._open
        for task in shared.tasks:
            task.cancel()
        if shared.tasks:
            await asyncio.wait(shared.tasks, timeout=_CANCEL_SECONDS)
        for connection in list(shared.connections):
            connection.transport.abort()
        await shared.empty.wait()
