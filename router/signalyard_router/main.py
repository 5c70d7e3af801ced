"""Wiring: the only place that knows which implementation stands behind which port."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from signalyard.problems import Problem, error
from signalyard_router.adapters.files.store import FileRouteStore
from signalyard_router.adapters.http.server import HttpServer
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.adapters.oip.upstream import OipUpstream
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.ports import World
from signalyard_router.router import Router
from signalyard_router.settings import RouterSettings
from signalyard_router.world.real import RealWorld

_log = logging.getLogger("signalyard.router")


@dataclass(frozen=True)
class ProcessSettings:
    """Everything that a router's process is told."""

    routes: Path = Path("routes")
    """The folder of the route documents."""

    drain_seconds: float = 10.0
    """How long a shutdown waits for requests in flight."""

    router: RouterSettings = field(default_factory=RouterSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    oip: OipSettings = field(default_factory=OipSettings)


@asynccontextmanager
async def open_router(
    settings: ProcessSettings, *, world: World | None = None, registry: CollectorRegistry | None = None
) -> AsyncIterator[Router]:
    """A router in this process, ready for `Router.predict`, without a server.

    The model servers have been asked once when it is yielded. Raises SignalyardError where documents, folders or the journal
    are not fit to be used.
    """
    world = world or RealWorld()
    registry = registry or CollectorRegistry()
    store = FileRouteStore(settings.routes)
    if not Path(settings.journal.folder).exists():
        store.load()  # bad documents are told before a journal is begun
    journal = LocalJournal(world, settings.journal, registry, f"signalyard {version('signalyard')}")
    try:
        documents = Documents(store, journal, registry)
        routes = await documents.first()
        upstream = OipUpstream(world, settings.oip, registry)
        router = Router(world, settings.router, routes, journal, upstream, registry)
        watch = Watch(store, documents, router, upstream)
        await upstream.start(router.table.targets())
        try:
            await upstream.first_round.wait()
            router.asked()
            watch.start()
            yield Running(router, Control(router, journal, documents), documents)
        finally:
            await watch.close()
            await upstream.close()
    finally:
        await journal.close()


async def serve(settings: ProcessSettings) -> None:
    """Run the router until SIGTERM or SIGINT, then drain: unready at once, no new connections, what is in flight answered."""
    world = RealWorld()
    registry = CollectorRegistry()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, of which no rule makes use
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_router(settings, world=world, registry=registry) as router:
        server = HttpServer(world, router, settings.http, registry)
        try:
            await server.start()
        except OSError as exc:
            place = f"{settings.http.host} port {settings.http.port}"
            raise error(Problem.INVALID_SETTING, f"cannot listen on {place}: {exc}", "/port") from exc
        _log.info("event=ready host=%s port=%d routes=%d", settings.http.host, server.port, len(router.table.routes))
        await stop.wait()
        _log.info("event=draining seconds=%g", settings.drain_seconds)
        router.drain()
        await server.drain(settings.drain_seconds)
    _log.info("event=stopped")
