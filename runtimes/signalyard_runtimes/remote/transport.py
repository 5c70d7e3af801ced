"""What a wire must be able to do with an archive."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from signalyard_runtimes.bundle.manifest import Manifest

CONNECT_SECONDS = 10
"""How long a connection may take to come about."""


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """An archive on its way. ``offset`` is where in it ``pieces`` begin, ``size`` its whole length, both in bytes.

    The offset is 0 where the server gives the whole or nothing.
    """

    offset: int
    size: int | None
    pieces: Iterator[bytes]


class Transport(Protocol):
    """One address. Calls may block, and are made from any thread; every foreign error comes out as a SignalyardError.

    ``pieces`` raise them too: bundle_not_found, bundle_access_denied, bundle_store_unreachable and so on.
    """

    def fetch(self, digest: str, offset: int) -> Download:
        """The archive of the bundle ``digest``, from ``offset`` on."""
        ...

    def send(self, archive: Path, manifest: Manifest) -> None:
        """Put an archive there, once and for all.

        Raises ModelError (bundle_exists) where another bundle is there; the same one is not sent again.
        """
        ...
