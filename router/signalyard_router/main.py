"""Wiring: the only place that knows which implementation stands behind which port."""

import asyncio
import gc
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from signalyard._memory import memory_limit
from signalyard._release import release
from signalyard.problems import Problem, error
from signalyard_router.adapters.archive.opening import open_archive
from signalyard_router.adapters.files.store import FileRouteStore
from signalyard_router.adapters.grpc.settings import GrpcSettings
from signalyard_router.adapters.http.admin import AdminApp, Tokens, read_tokens
from signalyard_router.adapters.http.app import App
from signalyard_router.adapters.http.inference import InferencePaths
from signalyard_router.adapters.http.server import HttpServer
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.adapters.http.signals import SignalStreams
from signalyard_router.adapters.kube.settings import KubeSettings
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.adapters.oip.upstream import OipUpstream
from signalyard_router.adapters.otel.settings import OtelSettings
from signalyard_router.adapters.redis.log.settings import RedisLogSettings
from signalyard_router.adapters.redis.settings import RedisSettings
from signalyard_router.adapters.zeromq.settings import ZeromqSettings
from signalyard_router.busy_poll import BusyPoll
from signalyard_router.control.alerts import Alerts
from signalyard_router.control.board import Board
from signalyard_router.control.delivery import Delivery
from signalyard_router.control.documents import Documents
from signalyard_router.control.rounds import Rounds
from signalyard_router.control.standing import StandingCollector
from signalyard_router.flow.call_metrics import CallMetrics
from signalyard_router.flow.catalogue import Catalogue
from signalyard_router.flow.passthrough import Passthrough
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.membership import Membership
from signalyard_router.journal.metrics import OutboxMetrics
from signalyard_router.journal.outbox import Outbox
from signalyard_router.journal.query import follow, since
from signalyard_router.journal.replicated import ReplicatedJournal
from signalyard_router.journal.segments import segment_number
from signalyard_router.journal.settings import JournalSettings, SharingSettings, UpkeepSettings
from signalyard_router.journal.upkeep import Upkeep
from signalyard_router.loopback import is_loopback
from signalyard_router.ports import Archive, RouteStore, SharedLog, Sink, Tracer, Upstream, World
from signalyard_router.router import Router
from signalyard_router.rules.record import DecisionRecord
from signalyard_router.settings import RouterSettings
from signalyard_router.wire.predicting import Predicting
from signalyard_router.world.real import RealWorld

if TYPE_CHECKING:
    from signalyard_router.adapters.grpc.server import GrpcServer
    from signalyard_router.adapters.kube.cluster import Cluster
    from signalyard_router.adapters.otel.tracer import OtelTracer
    from signalyard_router.adapters.redis.wires import RedisWires
    from signalyard_router.adapters.zeromq.wire import ZeromqWire

_log = logging.getLogger("signalyard.router")

_YOUNG_OBJECTS = 20_000
"""How many objects more than before make the garbage collector look at the young ones; a look takes about a millisecond."""


@dataclass(frozen=True)
class AdminSettings:
    """Where levers are pulled."""

    host: str = "127.0.0.1"
    """The address to listen on. Any but loopback needs tokens and TLS."""

    port: int = 8091
    """The port to listen on; 0 takes a free one."""

    tokens: Path | None = None
    """A file with lines of ``name sha256:HEX``, one a person; with it every call needs a token."""

    certificate: Path | None = None
    """The certificate chain, PEM; with `key` the port speaks TLS."""

    key: Path | None = None
    """The certificate's key, PEM."""


@dataclass(frozen=True)
class ProcessSettings:
    """Everything that a router's process is told."""

    routes: Path = Path("routes")
    """The folder of the route documents."""

    routes_from: Literal["folder", "kubernetes"] = "folder"
    """Whether documents are files of that folder or SignalRoutes of a cluster."""

    drain_seconds: float = 10.0
    """How long a shutdown waits for requests in flight."""

    busy_poll: int = 0
    """For how many nanoseconds after each request the event loop does not sleep; 0 for never, see `BusyPoll`."""

    archive: str | None = None
    """The URL of the store where complete segments of the journal are kept."""

    keep_inputs: bool = False
    """Whether the journal keeps the inputs of calls that are passed through, whole; their sha256 it keeps in any case."""

    upkeep: UpkeepSettings = field(default_factory=UpkeepSettings)
    sharing: SharingSettings = field(default_factory=SharingSettings)
    log: RedisLogSettings = field(default_factory=RedisLogSettings)
    router: RouterSettings = field(default_factory=RouterSettings)
    journal: JournalSettings = field(default_factory=JournalSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    oip: OipSettings = field(default_factory=OipSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    grpc: GrpcSettings = field(default_factory=GrpcSettings)
    otel: OtelSettings = field(default_factory=OtelSettings)
    kube: KubeSettings = field(default_factory=KubeSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    zeromq: ZeromqSettings = field(default_factory=ZeromqSettings)


class Running(NamedTuple):
    """A router that is up, the board of its levers, the journal that its signals are taken from, and what passes inference
    calls on."""

    router: Router
    board: Board
    journal: LocalJournal
    passthrough: Passthrough
    catalogue: Catalogue


@asynccontextmanager
async def open_router(
    settings: ProcessSettings, *, world: World | None = None, registry: CollectorRegistry | None = None
) -> AsyncIterator[Router]:
    """A router in this process, ready for `Router.predict`, without a server; see `running`."""
    async with running(settings, world=world, registry=registry) as up:
        yield up.router


@asynccontextmanager
async def running(
    settings: ProcessSettings,
    *,
    world: World | None = None,
    registry: CollectorRegistry | None = None,
    store: RouteStore | None = None,
    tracer: Tracer | None = None,
    archive: Archive | None = None,
    upstream: Upstream | None = None,
    log: SharedLog | None = None,
) -> AsyncIterator[Running]:
    """A router in this process, and its board. ``store`` has the documents where they do not lie in a folder, ``archive`` keeps
    segments where no URL names one, ``upstream`` answers where no model servers are to be asked; it is closed by whoever gives it.
    ``log`` is what it shares with other replicas where no URL names one.

    The model servers have been asked once when it is yielded, and documents are watched from then on. Raises SignalyardError
    where documents, folders or the journal are not fit to be used.
    """
    world = world or RealWorld()
    registry = registry or CollectorRegistry()
    cluster = _cluster(settings, world, registry) if store is None else None
    store = store or (cluster.store if cluster is not None else FileRouteStore(settings.routes))
    if cluster is None and not _begun(world, settings.journal.folder):
        await store.load()  # bad documents are told before a journal is begun
    archive = archive or open_archive(_archive_of(settings), create=True)
    alerts = Alerts(registry)
    software = f"signalyard {release()}"
    log = log or _shared_log(settings, world)
    journal: LocalJournal
    membership: Membership | None = None
    if log is None:
        journal = LocalJournal(world, settings.journal, registry, software, memory=alerts)
    else:
        journal = ReplicatedJournal(world, settings.journal, settings.sharing, log, registry, software, memory=alerts)
        membership = Membership(world, settings.journal, settings.sharing, journal, log)
    journal.subscribe(alerts.observe)
    watching = asyncio.create_task(alerts.run())
    try:
        if membership is not None:
            await membership.start()
        if cluster is not None:
            await cluster.start()
        upkeep = Upkeep(world, settings.journal, settings.upkeep, journal, registry, archive)
        documents = Documents(store, journal, registry)
        routes = await documents.first()
        discovery = cluster.discovery if cluster is not None else None
        servers = OipUpstream(world, settings.oip, registry, tracer, discovery) if upstream is None else None
        upstream = servers or upstream
        assert upstream is not None
        alerts.attach(journal, upstream)
        # In a cluster, routes may come later than the router.
        decides = replace(settings.router, needs_routes=False) if cluster is not None else settings.router
        router = Router(world, decides, routes, journal, upstream, registry, alerts, tracer)
        delivery = Delivery(router, journal, registry, router.disagreement)
        journal.subscribe(delivery.observe)
        registry.register(StandingCollector(router, journal))
        running_since = [progress.at for progress in journal.plans.values() if progress.state == "running"]
        if running_since:
            # What a plan's step is judged by is counted again from its decisions.
            begin = since(world.disk, settings.journal.folder, min(running_since))
            for record in follow(world.disk, settings.journal.folder, begin):
                if isinstance(record, DecisionRecord):
                    delivery.observe((record,))
        passthrough = Passthrough(
            world, lambda: router.table, journal, upstream, CallMetrics(registry), keep_inputs=settings.keep_inputs
        )
        catalogue = Catalogue(lambda: router.table, upstream)
        rounds = Rounds(store, documents, router, upstream, delivery)
        if isinstance(journal, ReplicatedJournal):
            _hear(journal, rounds)
        # Readiness waits for a first look at the live tracks alone; the shadows' are looked at at the same time.
        if servers is not None:
            await servers.start(router.table.live_targets())
        upstream.retarget(router.table.targets())
        try:
            upkeep.start()
            await upstream.asked(router.table.live_targets())
            if documents.known:
                router.asked()
            rounds.start()
            if cluster is not None:
                cluster.tell(router, journal, documents)
            yield Running(router, Board(router, journal, upstream, documents), journal, passthrough, catalogue)
        finally:
            await rounds.close()
            await passthrough.close()
            await router.close()
            await upkeep.close()
            if servers is not None:
                await servers.close()
    finally:
        if cluster is not None:
            await cluster.close()
        watching.cancel()
        await asyncio.wait([watching])
        await journal.close()
        if membership is not None:
            await membership.close()


def _archive_of(settings: ProcessSettings) -> str | None:
    """The URL of the archive; replicas have a folder each, for their segments have the same names."""
    if settings.archive is None or not settings.log.url:
        return settings.archive
    return f"{settings.archive.rstrip('/')}/{settings.sharing.replica}"


def _hear(journal: ReplicatedJournal, rounds: Rounds) -> None:
    """What other replicas record is in force here as well, also what they did since the documents were read."""

    def heard(documents: bool) -> None:
        rounds.heard(journal.in_force() if documents else None)

    journal.on_change = heard
    heard(True)


def _shared_log(settings: ProcessSettings, world: World) -> SharedLog | None:
    if not settings.log.url:
        return None
    try:
        from signalyard_router.adapters.redis.log.shared import RedisLog
    except ImportError as exc:
        text = (
            f"a journal on Redis needs the extra redis: pip install 'signalyard[redis]' ({exc.name} is not installed)"
        )
        raise error(Problem.INVALID_SETTING, text, "/journal-redis") from exc
    return RedisLog(world, settings.log)


def _cluster(settings: ProcessSettings, world: World, registry: CollectorRegistry) -> "Cluster | None":
    if settings.routes_from == "folder":
        return None
    from signalyard_router.adapters.kube.cluster import Cluster

    return Cluster(world, settings.kube, registry)


def _begun(world: World, folder: str) -> bool:
    try:
        return any(map(segment_number, world.disk.names(folder)))
    except OSError:
        return False  # the journal itself will say what is wrong


async def serve(settings: ProcessSettings) -> None:
    """Run the router until SIGTERM or SIGINT, then drain: unready at once, no new connections, what is in flight answered."""
    world = RealWorld()
    registry = CollectorRegistry()
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, of which no rule makes use
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    limit = Gauge(
        "signalyard_memory_limit_bytes", "What the process may use of memory, 0 without a limit", registry=registry
    )
    limit.set(memory_limit())
    admin_world, tokens = _admin_world(settings.admin), _tokens(settings.admin)
    # grpcio would say of a certificate that it cannot use nothing but that it does not listen.
    _certified(settings.grpc, "/grpc-certificate")
    tracer = _tracer(settings.otel)
    redis = _redis(settings, world, registry)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with (
        running(settings, world=world, registry=registry, tracer=tracer) as up,
        _zeromq(settings, world, up, registry) as zeromq,
        _outboxes(world, settings, up.journal, registry, _sinks(redis, zeromq)),
    ):
        router, board = up.router, up.board
        streams = SignalStreams(world.clock, registry)
        up.journal.subscribe(streams.observe)
        inference = InferencePaths(up.passthrough, up.catalogue, router)
        app = App(router, world.clock, settings.http, registry, tracer, streams, inference)
        server = HttpServer(world, app, settings.http)
        admin_http = HttpSettings(host=settings.admin.host, port=settings.admin.port, max_connections=64)
        admin = HttpServer(admin_world, AdminApp(board, tokens, registry), admin_http)
        await _listen(admin, admin_http, "/admin-port")
        await _listen(server, settings.http, "/port")
        if redis is not None:
            redis.start(router)
        calls = _grpc(settings.grpc, world, registry, up)
        if calls is not None:
            await _listen(calls, settings.grpc, "/grpc-port")
        # What is alive now stays alive: no collection need look at it again, and the first full one would stall a request.
        # The rest is freed by its last reference, but for what an exception's traceback holds: look for that less often than
        # every 700 objects, which a hundred requests in flight reach with nothing to free.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_YOUNG_OBJECTS)
        _log.info(
            "event=ready host=%s port=%d admin_port=%d routes=%d",
            settings.http.host,
            server.port,
            admin.port,
            len(router.table.routes),
        )
        awake = BusyPoll(world.clock, lambda: router.requests, settings.busy_poll) if settings.busy_poll else None
        await stop.wait()
        _log.info("event=draining seconds=%g", settings.drain_seconds)
        router.drain()
        streams.close()
        wires = [wire for wire in (server, redis, calls, zeromq) if wire is not None]
        await asyncio.gather(*(wire.drain(settings.drain_seconds) for wire in wires))
        await admin.drain(1.0)
        if awake is not None:
            awake.close()
    if redis is not None:
        await redis.close()
    if tracer is not None:
        tracer.close()
    _log.info("event=stopped")


@asynccontextmanager
async def _zeromq(
    process: ProcessSettings, world: World, up: Running, registry: CollectorRegistry
) -> "AsyncIterator[ZeromqWire | None]":
    """The ZeroMQ sockets, closed when the outboxes have handed on what they had."""
    settings = process.zeromq
    if not (settings.requests or settings.signals or settings.snapshots):
        yield None
        return
    try:
        from signalyard_router.adapters.zeromq.wire import ZeromqWire
    except ImportError as exc:
        text = f"ZeroMQ needs the extra zeromq: pip install 'signalyard[zeromq]' ({exc.name} is not installed)"
        raise error(Problem.INVALID_SETTING, text, "/zeromq-requests") from exc
    wire = ZeromqWire(world, up.router, up.journal, settings, registry, sleeps=not process.busy_poll)
    try:
        yield wire
    finally:
        await wire.close()


def _sinks(redis: "RedisWires | None", zeromq: "ZeromqWire | None") -> list[Sink]:
    """Where signals go."""
    sinks: list[Sink] = list(redis.sinks) if redis is not None else []
    if zeromq is not None and zeromq.publisher is not None:
        sinks.append(zeromq.publisher)
    return sinks


@asynccontextmanager
async def _outboxes(
    world: World, settings: ProcessSettings, journal: LocalJournal, registry: CollectorRegistry, sinks: Sequence[Sink]
) -> AsyncIterator[None]:
    """An outbox for each sink; at the end what is recorded is handed on first. Of several replicas each hands on its own signals."""
    metrics = OutboxMetrics(registry)
    folder, replica = settings.journal.folder, settings.sharing.replica if settings.log.url else ""
    outboxes = [Outbox(world, folder, journal, sink, metrics, replica=replica) for sink in sinks]
    try:
        for outbox in outboxes:
            await outbox.start()
        yield
    finally:
        await asyncio.gather(*(outbox.close() for outbox in outboxes))


def _grpc(settings: GrpcSettings, world: World, registry: CollectorRegistry, up: Running) -> "GrpcServer | None":
    if settings.port is None:
        return None
    try:
        from signalyard_router.adapters.grpc.health import HealthService
        from signalyard_router.adapters.grpc.inference import InferenceService
        from signalyard_router.adapters.grpc.predict import PredictService
        from signalyard_router.adapters.grpc.server import GrpcServer
    except ImportError as exc:
        text = f"gRPC needs the extra grpc: pip install 'signalyard[grpc]' ({exc.name} is not installed)"
        raise error(Problem.INVALID_SETTING, text, "/grpc-port") from exc
    inference = InferenceService(up.passthrough, up.catalogue, up.router)
    predict = PredictService(Predicting(up.router, settings.max_rows), up.router.state)
    health = HealthService(up.router.unready)
    return GrpcServer(world, settings, registry, inference, predict, health)


async def _listen(server: "HttpServer | GrpcServer", settings: HttpSettings | GrpcSettings, pointer: str) -> None:
    try:
        await server.start()
    except OSError as exc:
        text = f"cannot listen on {settings.host} port {settings.port}: {exc}"
        raise error(Problem.INVALID_SETTING, text, pointer) from exc


def _admin_world(settings: AdminSettings) -> World:
    """The world that the admin port listens in. Raises CallerError (invalid_setting) where it would be open to others."""
    context = _certified(settings, "/admin-certificate")
    if not is_loopback(settings.host) and (context is None or settings.tokens is None):
        text = f"on {settings.host} anybody could pull levers: give tokens and a certificate, or listen on 127.0.0.1"
        raise error(Problem.INVALID_SETTING, text, "/admin-host")
    return RealWorld(context)


def _certified(settings: AdminSettings | GrpcSettings, pointer: str) -> ssl.SSLContext | None:
    """TLS by the certificate of a port, if it has one. Raises CallerError (invalid_setting) where it cannot be used."""
    if (settings.certificate is None) != (settings.key is None):
        raise error(Problem.INVALID_SETTING, "a certificate and its key go together", pointer)
    if settings.certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as exc:
        raise error(Problem.INVALID_SETTING, f"the certificate cannot be used: {exc}", pointer) from exc
    return context


def _tracer(settings: OtelSettings) -> "OtelTracer | None":
    if not settings.endpoint:
        return None
    try:
        from signalyard_router.adapters.otel.tracer import open_tracer
    except ImportError as exc:
        text = f"traces need the extra otel: pip install 'signalyard[otel]' ({exc.name} is not installed)"
        raise error(Problem.INVALID_SETTING, text, "/trace-endpoint") from exc
    return open_tracer(settings)


def _redis(settings: ProcessSettings, world: World, registry: CollectorRegistry) -> "RedisWires | None":
    if not settings.redis.url:
        if settings.redis.incoming or settings.redis.outgoing:
            raise error(Problem.INVALID_SETTING, "nothing goes over Redis without the server's URL", "/redis")
        return None
    try:
        from signalyard_router.adapters.redis.wires import RedisWires
    except ModuleNotFoundError as exc:
        text = f"wires over Redis need the extra redis: pip install 'signalyard[redis]' ({exc.name} is not installed)"
        raise error(Problem.INVALID_SETTING, text, "/redis") from exc
    # The replicas' shared log writes a stream of signals of its own, whose key has a hash tag: where it is this very one, once is enough.
    same = bool(settings.log.url) and settings.redis.prefix == f"{{{settings.log.prefix}}}"
    return RedisWires(world, settings.redis, registry, streamed=same)


def _tokens(settings: AdminSettings) -> Tokens:
    if settings.tokens is None:
        return Tokens({})
    try:
        tokens = read_tokens(settings.tokens.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise error(Problem.INVALID_SETTING, f"the tokens cannot be read: {exc}", "/admin-tokens") from exc
    if not tokens:
        raise error(Problem.INVALID_SETTING, f"{settings.tokens} holds no token", "/admin-tokens")
    return tokens
