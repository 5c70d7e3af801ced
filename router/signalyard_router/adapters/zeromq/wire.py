"""The three sockets together, as main sees them."""

import asyncio
import logging

from prometheus_client import CollectorRegistry

from signalyard_router.adapters.zeromq.clients import Clients
from signalyard_router.adapters.zeromq.context import new_context
from signalyard_router.adapters.zeromq.doorkeeper import Doorkeeper
from signalyard_router.adapters.zeromq.metrics import ZeromqMetrics
from signalyard_router.adapters.zeromq.requests import Requests, Router
from signalyard_router.adapters.zeromq.security import read_security
from signalyard_router.adapters.zeromq.settings import ZeromqSettings
from signalyard_router.adapters.zeromq.signals import Publisher
from signalyard_router.adapters.zeromq.snapshots import Snapshots
from signalyard_router.ports import Journal, World

_log = logging.getLogger("signalyard.zeromq")


class ZeromqWire:
    """What of ZeroMQ the settings ask for. ``publisher`` is a sink for the outbox, None where no signals are published; ``sleeps`` says
    that the event loop does where there is nothing to do.

    Raises CallerError (invalid_setting) where an address, a key or the clients cannot be used.
    """

    def __init__(
        self,
        world: World,
        router: Router,
        journal: Journal,
        settings: ZeromqSettings,
        registry: CollectorRegistry,
        *,
        sleeps: bool = True,
    ) -> None:
        metrics = ZeromqMetrics(registry)
        security = read_security(settings)
        self._settings = settings
        self._context = new_context(sleeps=sleeps)
        self.requests: Requests | None = None
        self.publisher: Publisher | None = None
        self._snapshots: Snapshots | None = None
        self._clients: Clients | None = None
        self._doorkeeper: Doorkeeper | None = None
        name = f"z{world.random_bytes(4).hex()}"
        try:
            if security is not None:
                self._clients = Clients(settings, security.clients, metrics)
                self._doorkeeper = Doorkeeper(self._context, self._clients, metrics)
            if settings.signals:
                self.publisher = Publisher(self._context, journal, settings, metrics, security)
            if settings.requests:
                self.requests = Requests(self._context, router, world.clock, settings, metrics, name, security)
            if settings.snapshots:
                self._snapshots = Snapshots(self._context, router, world.clock, settings, metrics, f"{name}s", security)
        except BaseException:
            self._context.destroy(0)
            raise
        self._tending = asyncio.get_running_loop().create_task(self._tend())
        _log.info(
            "event=zeromq_ready requests=%s signals=%s snapshots=%s curve=%s",
            self.requests.address if self.requests else "-",
            self.publisher.address if self.publisher else "-",
            ",".join(settings.snapshots) or "-",
            "yes" if security is not None else "no",
        )

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(self._settings.beat_seconds)
            if self._clients is not None:
                self._clients.look()
            if self.requests is not None:
                self.requests.tend()
            if self.publisher is not None:
                self.publisher.beat()

    async def drain(self, grace_seconds: float) -> None:
        """Take no more, and answer what is there."""
        draining = [part.drain(grace_seconds) for part in (self._snapshots, self.requests) if part is not None]
        await asyncio.gather(*draining)

    async def close(self) -> None:
        """Close what is left; the outbox has handed over what it had."""
        self._tending.cancel()
        await asyncio.wait([self._tending])
        if self.publisher is not None:
            self.publisher.close()
        if self._doorkeeper is not None:
            self._doorkeeper.close()
        # It waits for what is still to leave, on libzmq's own thread and not longer than the sockets linger.
        self._context.term()
