"""The commands ``bundle`` and ``serve``. What they need is imported when they run: the thread settings must come first."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from signalyard.problems import SignalyardError
from signalyard_runtimes import collector, transfer_cli
from signalyard_runtimes.termination import reporting

_SINGLE_THREADED = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)
_Command = TypeVar("_Command", bound=Callable[..., Any])

_FOLDER = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _single_thread() -> None:
    """One native thread: the libraries read these once, when they are imported."""
    os.environ.update(dict.fromkeys(_SINGLE_THREADED, "1"))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what gRPC's core has to say, we say in our own words


@click.group()
def bundle() -> None:
    """Pack, sign, verify, inspect, push and pull model bundles.

    A bundle is one folder that never changes: the model, its features, its calibration, the versions that it was made with, and
    golden rows with the scores they must give. docs/bundles.md describes it field by field.
    """


for _command in (transfer_cli.push, transfer_cli.pull, transfer_cli.fetch):
    bundle.add_command(_command)


@bundle.command()
@click.argument("spec", type=_FILE)
@click.argument("model", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--golden", required=True, type=_FILE, help='Rows to remember scores of: {"columns": [...], "rows": [[...]]}.'
)
@click.option(
    "--out", required=True, type=_FOLDER, help="The bundle's folder; it is made, or must hold this very bundle."
)
@click.option(
    "--training-rows",
    type=_FILE,
    help="What it was trained on, so that a server sees features drift: .csv with their names, or .npy in the schema's order.",
)
def pack(spec: Path, model: Path, golden: Path, out: Path, training_rows: Path | None) -> None:
    """Make a bundle of MODEL as SPEC describes it, and verify it.

    SPEC is JSON; MODEL is the file, for TensorFlow the folder, that the framework's own way of saving wrote: docs/frameworks.md has one
    example each. MODEL is loaded: pack only models that you trust.

    \b
    Example:
      signalyard bundle pack rb-trend.json model.txt --golden rows.json --out models/rb-trend-7
      signalyard bundle pack rb-trend.json model.txt --golden rows.json --training-rows train.csv --out models/rb-trend-7

    \b
    rb-trend.json:
      {"name": "rb-trend", "version": "7", "framework": "lightgbm",
       "schema": {"features": [{"name": "close", "minimum": 0}, {"name": "ret_5", "missing": "native"}]},
       "output": {"kind": "probability", "neutral": 0.5}}
    """
    _single_thread()
    from signalyard_runtimes.bundle.manifest import GoldenRows, convert
    from signalyard_runtimes.drift.training import read_training_rows
    from signalyard_runtimes.packing import PackSpec
    from signalyard_runtimes.packing import pack as pack_bundle

    described = convert(spec.read_bytes(), PackSpec, spec.name)
    manifest = pack_bundle(
        described,
        model,
        convert(golden.read_bytes(), GoldenRows, golden.name),
        out,
        None if training_rows is None else read_training_rows(training_rows, described.schema.names),
    )
    click.echo(f"{out}: {manifest.name} {manifest.version}, {manifest.digest}")


@bundle.command()
@click.argument("folder", type=_FOLDER)
@click.option("--digest", metavar="sha256:…", help="Refuse any other bundle than this one, before its model is loaded.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=_FILE,
    help="Refuse it unless this public key, or another one given, has signed it.",
)
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON; the exit status stays.")
def verify(folder: Path, digest: str | None, keys: tuple[Path, ...], as_json: bool) -> None:
    """Check everything that a server checks before it serves FOLDER; exit 0 if it would.

    In this order: the manifest, the paths, the files and their SHA-256, the bundle's digest, its signature where --key is given, the
    installed versions; only then the model is loaded, its features compared and the golden rows scored.

    The digest tells that a bundle is whole, not who made it. To load a pickled model is to run its code: give --digest, from a
    place that you trust, or --key, for a bundle from one that you do not.

    \b
    Examples:
      signalyard bundle verify models/rb-trend-7
      signalyard bundle verify models/rb-trend-7 --digest sha256:3835b9… --json
      signalyard bundle verify models/rb-trend-7 --key desk.pub
    """
    _single_thread()
    from signalyard_runtimes.bundle.store import naming
    from signalyard_runtimes.scorer import load

    try:
        with naming(folder):
            scorer = load(folder, digest, keys)
    except SignalyardError as exc:
        if not as_json:
            raise
        _print_json({"ok": False, "path": str(folder), "problem": exc.details})
        raise SystemExit(1) from exc
    card = scorer.card
    if as_json:
        _print_json(
            {"ok": True, "path": str(folder), "name": card.model, "version": card.version, "digest": card.digest}
        )
    else:
        rows = len(scorer.golden.rows) if scorer.golden else 0
        click.echo(f"{folder}: good, {card.model} {card.version}, {card.digest}, {rows} golden rows")


@bundle.command()
@click.argument("folder", type=_FOLDER)
@click.option(
    "--key", required=True, type=_FILE, help="PEM file of your private key, on an elliptic curve, without a password."
)
def sign(folder: Path, key: Path) -> None:
    """Sign the bundle in FOLDER with your key; its model is not loaded.

    The signature, signature.json, is over every file, and travels with the bundle. Neither the digest nor any other file changes; an older
    signature is replaced. Sign what you have verified, before you push it.

    
    Examples:
      openssl ecparam -name prime256v1 -genkey -noout -out desk.key
      openssl ec -in desk.key -pubout -out desk.pub
      signalyard bundle sign models/rb-trend-7 --key desk.key
    """
    from signalyard_runtimes.bundle.signature import attach
    from signalyard_runtimes.bundle.store import naming

    with naming(folder):
        manifest = attach(folder, key)
    click.echo(f"{folder}: signed, {manifest.name} {manifest.version}, {manifest.digest}")


@bundle.command()
@click.argument("folder", type=_FOLDER)
@click.option("--json", "as_json", is_flag=True, help="The manifest as JSON.")
def inspect(folder: Path, as_json: bool) -> None:
    """Show what the bundle in FOLDER says it is. Nothing is verified but the manifest's form, and nothing is loaded.

    \b
    Examples:
      signalyard bundle inspect models/rb-trend-7
      signalyard bundle inspect models/rb-trend-7 --json | jq .training
    """
    from signalyard_runtimes.bundle.store import read_manifest

    manifest = read_manifest(folder)
    if as_json:
        _print_json(manifest)
        return
    lines = {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "framework": f"{manifest.framework}, made with {', '.join(' '.join(item) for item in manifest.library.items())}",
        "output": ". ".join(
            filter(None, (f"{manifest.output.kind}, neutral at {manifest.output.neutral}", manifest.output.description))
        ),
        "calibration": manifest.calibration.__struct_config__.tag if manifest.calibration else "none",
        "files": ", ".join(f"{name} ({entry.size} bytes)" for name, entry in manifest.files.items()),
        **{f"training.{name}": value for name, value in manifest.training.items()},
    }
    for name, value in lines.items():
        click.echo(f"{name:<12} {value}")
    click.echo("features")
    histograms = () if manifest.histograms is msgspec.UNSET else manifest.histograms
    bins = {histogram.feature: f", {len(histogram.counts)} bins" for histogram in histograms}
    for feature in manifest.schema.features:
        low = "" if feature.minimum is None else f" from {feature.minimum}"
        high = "" if feature.maximum is None else f" to {feature.maximum}"
        missing = f"impute {feature.fill}" if feature.missing == "impute" else feature.missing
        click.echo(f"  {feature.name:<24} {feature.dtype}{low}{high}, missing: {missing}{bins.get(feature.name, '')}")


def _print_json(value: Any) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def _option(name: str, **more: Any) -> Callable[[_Command], _Command]:
    variable = "SIGNALYARD_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(name, envvar=variable, show_envvar=True, show_default=True, **more)


_PORT = click.IntRange(0, 65535)


@click.command()
@_option("--models", required=True, type=_FOLDER, help="Folder of bundles: DIR itself, DIR/* and DIR/*/* are searched.")
@_option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 in a container.")
@_option("--http-port", default=8080, type=_PORT, help="REST; 0 for any free port.")
@_option("--grpc-port", default=8081, type=_PORT, help="gRPC; 0 for any free port.")
@_option("--metrics-port", default=8082, type=_PORT, help="Prometheus metrics, /metrics; 0 for any free port.")
@_option("--warmup", default=200, type=click.IntRange(0), help="Requests to each model before it is ready.")
@_option(
    "--max-body-bytes",
    default=32 * 1024 * 1024,
    type=click.IntRange(1024),
    help="The largest body of a REST request; reading a large one keeps everybody else waiting.",
)
@_option(
    "--require",
    multiple=True,
    metavar="sha256:…",
    help="Serve only bundles of these digests, and all of them; give it once for each.",
)
@_option(
    "--trust",
    multiple=True,
    type=_FOLDER,
    metavar="KEY",
    help="Serve only what this public key, a PEM file, or another one given has signed; of a folder, every *.pub and *.pem.",
)
@_option(
    "--drift-window",
    default=3600,
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Compare the features of so many last seconds with the training rows, where a bundle has their histograms.",
)
@_option(
    "--live-changes",
    default="off",
    type=click.Choice(["off", "local", "all"]),
    help="Who may load and unload bundles of DIR while it serves: nobody, callers of this host, or whoever reaches the ports.",
)
def serve(
    models: Path,
    host: str,
    http_port: int,
    grpc_port: int,
    metrics_port: int,
    warmup: int,
    max_body_bytes: int,
    require: tuple[str, ...],
    trust: tuple[Path, ...],
    drift_window: int,
    live_changes: str,
) -> None:
    """Serve every bundle below DIR by the Open Inference Protocol, REST and gRPC.

    All bundles are verified and loaded first; with a bad one, or none, the command says why and exits 1. Several versions of a
    model are served side by side. It is ready, on /v2/health/ready and each model's /ready, once it is warm; then it prints one line
    with its ports. SIGTERM ends it in order.

    \b
    Examples:
      signalyard serve --models models
      signalyard serve --models models --host 0.0.0.0 --warmup 500
      signalyard serve --models /mnt/models --require sha256:3835b9…
      signalyard serve --models /mnt/models --trust desk.pub --trust desk-2027.pub
      signalyard serve --models models --live-changes local
      SIGNALYARD_MODELS=/mnt/models signalyard serve
    """
    _single_thread()
    collector.rest()
    with reporting():
        from signalyard_runtimes.listening import check_free

        check_free(host, {"HTTP": http_port, "gRPC": grpc_port, "metrics": metrics_port})
        from signalyard_runtimes.bundle.signature import public_keys
        from signalyard_runtimes.mlserver.changing import Changing
        from signalyard_runtimes.remote.address import check_digest
        from signalyard_runtimes.server import ServeSettings
        from signalyard_runtimes.server import serve as run

        run(
            ServeSettings(
                models=models,
                host=host,
                http_port=http_port,
                grpc_port=grpc_port,
                metrics_port=metrics_port,
                warmup=warmup,
                max_body_bytes=max_body_bytes,
                require=frozenset(map(check_digest, require)),
                trust=public_keys(trust),
                drift_window=float(drift_window),
                changing=Changing(live_changes),
            )
        )
