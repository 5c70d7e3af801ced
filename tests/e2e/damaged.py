"""A bundle's archive that lacks a file, sent to a store as no push of ours would send it.

python damaged.py FOLDER FILE ADDRESS
"""

import io
import sys
import tarfile
import tempfile
from pathlib import Path

from signalyard_runtimes.bundle import archive, store
from signalyard_runtimes.remote.address import parse
from signalyard_runtimes.remote.opening import open_transport


def lacking(folder: Path, name: str) -> bytes:
    """The archive of the bundle in ``folder`` without the file ``name``. Raises KeyError where the bundle has none of that name."""
    whole, less = io.BytesIO(), io.BytesIO()
    archive.write(folder, whole)
    whole.seek(0)
    with (
        tarfile.open(fileobj=whole) as source,
        tarfile.open(fileobj=less, mode="w", format=tarfile.USTAR_FORMAT) as target,
    ):
        dropped = source.getmember(name)
        for member in source.getmembers():
            if member is not dropped:
                target.addfile(member, source.extractfile(member))
    return less.getvalue()


def main(folder: Path, name: str, address: str) -> None:
    """Send it, under the digest that the whole one has."""
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        file.write(lacking(folder, name))
        file.flush()
        open_transport(parse(address)[0]).send(Path(file.name), store.read_manifest(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
