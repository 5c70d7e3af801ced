"""The commands ``bundle push``, ``pull`` and ``fetch``. What they need is imported when they run."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from signalyard.problems import Problem, SignalyardError
from signalyard_runtimes.termination import reporting

EXITS: dict[Problem, int] = {
    Problem.BUNDLE_NOT_FOUND: 3,
    Problem.BUNDLE_ACCESS_DENIED: 4,
    Problem.BUNDLE_STORE_UNREACHABLE: 5,
    Problem.BUNDLE_TRANSFER_TIMEOUT: 5,
    Problem.BUNDLE_TRUNCATED: 5,
    Problem.BUNDLE_FILE_CHANGED: 6,
    Problem.BUNDLE_FILE_MISSING: 6,
    Problem.BUNDLE_FILE_EXTRA: 6,
    Problem.BUNDLE_MANIFEST_INVALID: 6,
    Problem.BUNDLE_PATH_UNSAFE: 6,
    Problem.BUNDLE_ARCHIVE_INVALID: 6,
    Problem.BUNDLE_EXISTS: 7,
}
"""Problem to exit status; 1 for the rest."""

_FOLDER = click.Path(path_type=Path)
_TIMEOUT = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    envvar="SIGNALYARD_BUNDLE_TIMEOUT",
    show_envvar=True,
    metavar="SECONDS",
    help="How long all of it may take.",
)
_CACHE = click.option(
    "--cache",
    type=_FOLDER,
    envvar="SIGNALYARD_BUNDLE_CACHE",
    show_envvar=True,
    help="A folder of archives by digest: one that is there is not fetched again.",
)


@click.command()
@click.argument("folder", metavar="DIR", type=_FOLDER)
@click.argument("uri", metavar="URI")
@_TIMEOUT
def push(folder: Path, uri: str, timeout: float) -> None:
    """Verify the bundle in DIR, send it to URI, and print the address by which it is pulled: URI#sha256:….

    URI is file:///…, http://…, https://…, s3://…, gs://…, az://… or oci://HOST/REPOSITORY[:TAG]. After a slash at its end comes
    NAME-VERSION.tar; a tag that is left out is the version. Where another bundle is there, nothing is sent; a tag moves on, and the
    older bundle is still pulled by its digest.

    \b
    Examples:
      signalyard bundle push models/rb-trend-7 s3://models/
      signalyard bundle push models/rb-trend-7 oci://registry.example:5000/models/rb-trend:7
    """
    with _ending():
        from signalyard_runtimes.remote.address import parse
        from signalyard_runtimes.remote.meter import Meter
        from signalyard_runtimes.remote.opening import open_transport
        from signalyard_runtimes.remote.patience import Patience
        from signalyard_runtimes.remote.push import push as send

        address, _ = parse(uri)
        with Meter(f"pushing {folder}", sys.stderr) as meter:
            whole, manifest = send(open_transport, folder, address, patience=Patience(timeout), meter=meter)
    click.echo(f"{whole}#{manifest.digest}")


@click.command()
@click.argument("uri", metavar="URI[#sha256:…]")
@click.option("--digest", metavar="sha256:…", help="The bundle's digest, where it does not stand in URI.")
@click.option("--out", required=True, type=_FOLDER, help="The bundle's folder: a new one, or an empty one.")
@_CACHE
@_TIMEOUT
def pull(uri: str, digest: str | None, out: Path, cache: Path | None, timeout: float) -> None:
    """Bring the bundle of this digest from URI to the folder OUT. It is there whole and verified, or not at all; no model is loaded.

    Where OUT holds it already, or the cache has it, nothing is asked of anybody. A download that was cut off is gone on with. Exit
    status: 3 not found, 4 denied, 5 unreachable, cut off or not in time, 6 other bytes than asked for, 1 and 2 for the rest.

    \b
    Examples:
      signalyard bundle pull 's3://models/rb-trend-7.tar#sha256:3835b9…' --out /models/rb-trend-7
      signalyard bundle pull oci://registry.example:5000/models/rb-trend:7 --digest sha256:3835b9… --out /models/rb-trend-7
    """
    _bring(uri, digest, out, cache, timeout)


@click.command()
@click.argument("uri", metavar="URI#sha256:…")
@click.argument("out", metavar="DIR", type=_FOLDER)
@_CACHE
@_TIMEOUT
def fetch(uri: str, out: Path, cache: Path | None, timeout: float) -> None:
    """The same as pull, with the two arguments that KServe gives to a storage container; URI may begin with signalyard+.

    \b
    Example:
      signalyard bundle fetch 'signalyard+oci://registry.example:5000/models/rb-trend:7#sha256:3835b9…' /mnt/models
    """
    _bring(uri, None, out, cache, timeout)


def _bring(uri: str, digest: str | None, out: Path, cache: Path | None, timeout: float) -> None:
    with _ending():
        from signalyard_runtimes.remote.address import pinned
        from signalyard_runtimes.remote.meter import Meter
        from signalyard_runtimes.remote.opening import open_transport
        from signalyard_runtimes.remote.patience import Patience
        from signalyard_runtimes.remote.pull import pull as bring

        address, wanted = pinned(uri, digest)
        with Meter(f"pulling {address}", sys.stderr) as meter:
            manifest = bring(
                lambda: open_transport(address), wanted, out, cache=cache, patience=Patience(timeout), meter=meter
            )
    click.echo(f"{out}: {manifest.name} {manifest.version}, {wanted}")


@contextmanager
def _ending() -> Iterator[None]:
    """An error as one line, as the container's termination message, and as an exit status that says its kind."""
    try:
        with reporting():
            yield
    except SignalyardError as exc:
        click.echo(f"signalyard: {exc}", err=True)
        raise SystemExit(EXITS.get(exc.problem, 1)) from exc
