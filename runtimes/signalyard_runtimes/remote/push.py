"""Pushing a bundle: verified, made an archive, sent."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from signalyard.problems import SignalyardError
from signalyard_runtimes.bundle import archive as archives
from signalyard_runtimes.bundle.manifest import Manifest
from signalyard_runtimes.remote.address import Address
from signalyard_runtimes.remote.arrival import answer
from signalyard_runtimes.remote.meter import Meter, megabytes
from signalyard_runtimes.remote.patience import Patience
from signalyard_runtimes.remote.transport import Transport


def push(
    opening: Callable[[Address], Transport], folder: Path, address: Address, *, patience: Patience, meter: Meter
) -> tuple[Address, Manifest]:
    """Send the bundle in ``folder``; gives the whole address, and what was sent. Where it is there already, nothing is sent.

    A path that is empty or ends with a slash gets ``NAME-VERSION.tar``; an ``oci`` address without a tag gets the version as its tag.

    Raises ModelError: those of :func:`signalyard_runtimes.bundle.archive.write` and of `transport.Transport`, bundle_transfer_timeout.
    """
    with tempfile.TemporaryDirectory(prefix="signalyard-push-") as scratch:
        archive = Path(scratch, "bundle.tar")
        with archive.open("wb") as file:
            manifest = archives.write(folder, file)
        address = _complete(address, manifest)
        transport = opening(address)
        meter.at(0, None)
        while True:
            try:
                answer(lambda: transport.send(archive, manifest), patience, meter.tick)
                return address, manifest
            except SignalyardError as exc:
                pause = patience.pause(exc, progress=False)
                size = megabytes(archive.stat().st_size)
                meter.say(f"{exc}; sending the {size} again after {pause:.1f} s")


def _complete(address: Address, manifest: Manifest) -> Address:
    if address.scheme == "oci":
        return msgspec.structs.replace(address, tag=address.tag or manifest.version)
    if not address.path or address.path.endswith("/"):
        return msgspec.structs.replace(address, path=f"{address.path}{manifest.name}-{manifest.version}.tar")
    return address
