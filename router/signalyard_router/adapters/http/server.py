"""The REST server: it listens, and it drains. Signals are not its business."""

from signalyard._server.connection import Connection, Connections
from signalyard._server.drain import drain
from signalyard_router.adapters.http.pages import Pages
from signalyard_router.adapters.http.request_ids import RequestIds
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.ports import Listener, World


class HttpServer:
    """Serves an app over HTTP/1.1."""

    def __init__(self, world: World, app: Pages, settings: HttpSettings) -> None:
        self._network = world.network
        self._settings = settings
        app.ids = RequestIds(world.random_bytes(4).hex())
        self._open = Connections(app, settings, world.clock)
        app.connections = self._open
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
        await drain(self._open, self._listener, grace_seconds)
