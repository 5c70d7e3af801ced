"""Serving bundles: MLServer's parts, started our way.

MLServer's own start answers a failed load with exit status 0, is ready with no models, takes the process's signals three times
over and does not say which port it got. So its registry, data plane, REST app and gRPC service are put together here:

1. every bundle is verified and loaded; a bad one ends the process before a port is open;
2. REST, gRPC and metrics listen; whoever asks is told "not ready";
3. each model is warmed up through the REST socket, then all that is alive is taken out of the garbage collector's sight;
4. ready, until SIGTERM or SIGINT: not ready, in-flight requests end, exit status 0.
"""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from mlserver.handlers import ModelRepositoryHandlers
from mlserver.registry import MultiModelRegistry
from mlserver.settings import ModelSettings, Settings
from prometheus_client import disable_created_metrics, make_asgi_app

from signalyard._release import release
from signalyard._server.bounds import ConnectionSettings
from signalyard.problems import Problem, error
from signalyard_runtimes import collector
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.manifest import Manifest
from signalyard_runtimes.drift.watch import WINDOW_SECONDS
from signalyard_runtimes.lanes.binary import BinaryLane
from signalyard_runtimes.lanes.fast import FastLane
from signalyard_runtimes.lanes.front import Front
from signalyard_runtimes.lanes.server import HttpServer
from signalyard_runtimes.lanes.target import Targets
from signalyard_runtimes.listening import address, listen
from signalyard_runtimes.live.models import LiveModels, LiveSettings, Prepared
from signalyard_runtimes.mlserver import drift, grpc
from signalyard_runtimes.mlserver.changing import Changing
from signalyard_runtimes.mlserver.metrics import HttpMetrics, watch_calls, watch_readiness
from signalyard_runtimes.mlserver.planes import BundlePlane, BundleRepository, FixedModels, model_settings
from signalyard_runtimes.mlserver.readiness import Readiness
from signalyard_runtimes.mlserver.rest import rest_app
from signalyard_runtimes.scorer import Scorer
from signalyard_runtimes.warmup import warm_up

_GRACE_SECONDS = 5
_SCRAPE_BYTES = 65_536


class ServeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How to serve. A port of 0 means any free one. ``warmup`` is in requests a model, ``max_body_bytes`` bounds a REST request.

    ``require`` are the digests of the bundles that must be served, and no others; empty where any may be. ``trust`` are PEM files of
    public keys, one of which must have signed each bundle; empty where none need be signed. ``drift_window`` is in seconds.
    ``changing`` says who may load and unload while it serves; all of these hold for what is loaded then, too.
    """

    models: Path
    host: str
    http_port: int
    grpc_port: int
    metrics_port: int
    warmup: int
    max_body_bytes: int = 32 * 1024 * 1024
    require: frozenset[str] = frozenset()
    trust: tuple[Path, ...] = ()
    drift_window: float = WINDOW_SECONDS
    changing: Changing = Changing.OFF


def serve(settings: ServeSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ModelError where there is no bundle or a bad one, CallerError (invalid_setting) where a port cannot be had.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    collector.rest()  # what was imported stays
    for name in ("mlserver", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, of which no rule makes use
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ModuleNotFoundError:  # it does not exist for Windows
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def _serve(settings: ServeSettings) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    stop = asyncio.create_task(stopped.wait())

    prepared = Prepared()
    registry = MultiModelRegistry(model_initialiser=prepared)
    served, scorers = await _load(registry, settings)
    readiness = Readiness()
    watch_readiness((scorer.card for scorer in scorers), lambda: readiness.open)
    mlserver = mlserver_settings(settings.host)
    data_plane = BundlePlane(mlserver, registry)
    handlers = _handlers(settings, registry, prepared, data_plane, readiness, served)
    http_socket = listen(settings.host, settings.http_port, "HTTP")
    metrics_socket = listen(settings.host, settings.metrics_port, "metrics")
    calls = await grpc.start(
        address(settings.host, settings.grpc_port), data_plane, handlers, readiness, settings.changing
    )
    watch_calls(lambda: calls.in_flight)
    targets = Targets(registry, data_plane)
    front = Front(
        rest_app(mlserver, data_plane, handlers, readiness, settings.changing),
        [FastLane(targets), BinaryLane(targets)],
        HttpMetrics(),
        settings.max_body_bytes,
    )
    rest = await HttpServer.start(http_socket, front, ConnectionSettings(max_body_bytes=settings.max_body_bytes))
    front.metrics.watch(lambda: len(rest.open.tasks), lambda: len(rest.open.connections))
    scrapes = await HttpServer.start(
        metrics_socket, Front(make_asgi_app(), (), HttpMetrics(), _SCRAPE_BYTES), ConnectionSettings()
    )
    try:
        warm = asyncio.create_task(warm_up(http_socket.getsockname(), scorers, settings.warmup))
        await asyncio.wait({warm, stop}, return_when=asyncio.FIRST_COMPLETED)
        if warm.done():
            warm.result()
            drift.begin(scorer.card for scorer in scorers)
            count = len(scorers)
            scorers.clear()  # from here on the registry decides what is kept
            collector.settle()
            readiness.admit()
            ports = [listening.getsockname()[1] for listening in (http_socket, metrics_socket)]
            print(
                f"signalyard serve: ready, {count} models, http {ports[0]}, grpc {calls.port}, metrics {ports[1]}",
                flush=True,
            )
            await stop
        warm.cancel()
    finally:
        readiness.close()
        await asyncio.gather(calls.drain(_GRACE_SECONDS), rest.drain(_GRACE_SECONDS))
        await scrapes.drain(_GRACE_SECONDS)


def _handlers(
    settings: ServeSettings,
    registry: MultiModelRegistry,
    prepared: Prepared,
    plane: BundlePlane,
    readiness: Readiness,
    served: list[ModelSettings],
) -> ModelRepositoryHandlers:
    if settings.changing is Changing.OFF:
        return FixedModels(BundleRepository(served), registry)
    live = LiveSettings(
        models=settings.models,
        warmup=settings.warmup,
        require=settings.require,
        trust=settings.trust,
        drift_window=settings.drift_window,
    )
    return LiveModels(registry, prepared, plane, readiness, live)


async def _load(registry: MultiModelRegistry, settings: ServeSettings) -> tuple[list[ModelSettings], list[Scorer]]:
    manifests = _find(settings.models, settings.require)
    served, scorers = [], []
    for path, manifest in manifests.items():
        with store.naming(path):
            of_model = model_settings(path, manifest, settings.trust, settings.drift_window)
            model = await registry.load(of_model)
        served.append(of_model)
        scorers.append(model.scorer)
    return served, scorers


def _find(folder: Path, require: frozenset[str]) -> dict[Path, Manifest]:
    """The manifests to load. That a bundle is what its manifest says is seen when it is loaded.

    Raises ModelError (bundle_not_required) where they are not the required ones, before anything is loaded.
    """
    manifests = {}
    for path in store.find(folder):
        with store.naming(path):
            manifests[path] = store.read_manifest(path)
        store.check_required(path, manifests[path], require)
    missing = require - {manifest.digest for manifest in manifests.values()}
    if missing:
        raise error(Problem.BUNDLE_NOT_REQUIRED, f"{folder}: required is {min(missing)}, and it is not there")
    return manifests


def mlserver_settings(host: str) -> Settings:
    """MLServer's settings. Every one that would change an answer is given here, so that no MLSERVER_ variable and no .env file decides it."""
    return Settings(
        server_name="signalyard",
        server_version=release(),
        host=host,
        debug=False,  # it sends tracebacks to clients
        parallel_workers=0,
        load_models_at_startup=False,
        cache_enabled=False,  # it takes no account of model and version
        gzip_enabled=False,
        metrics_endpoint=None,  # our metrics have the loaded version as their label; REGISTRY is served on its own port
        cors_settings=None,
        tracing_server=None,
        kafka_enabled=False,
        root_path="",
    )
