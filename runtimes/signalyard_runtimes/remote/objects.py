"""Files, HTTP servers and object stores, by obstore. What proves who we are comes from the environment, as obstore reads it."""

import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import from_url

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.bundle import archive as archives
from signalyard_runtimes.bundle.manifest import Manifest
from signalyard_runtimes.remote.address import Address
from signalyard_runtimes.remote.foreign import words
from signalyard_runtimes.remote.patience import STALL_SECONDS
from signalyard_runtimes.remote.transport import CONNECT_SECONDS, Download

if TYPE_CHECKING:
    from obstore import GetResult  # there is no such name when it runs

_PIECE = 256 * 1024
_STATUS = re.compile(r"status code: (\d{3})")
_ALLOW_HTTP = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
_TRY_AGAIN = (408, 425, 429)
_UNSATISFIABLE = 416


class ObjectTransport:
    """Implements `transport.Transport` for one object. Raises CallerError (invalid_setting) where there can be no store for it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._path = address.path
        # The whole is timed by whoever waits; a connection that is left ends by the time between two reads.
        options: dict[str, Any] = {
            "connect_timeout": f"{CONNECT_SECONDS}s",
            "read_timeout": f"{STALL_SECONDS:g}s",
            "timeout": "24h",
        }
        # Options of ours take the place of all that the library would have read of this kind.
        variable = _ALLOW_HTTP.get(address.scheme, "")
        if address.scheme == "http" or os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            options["allow_http"] = True
        url = "file:///" if address.scheme == "file" else f"{address.scheme}://{address.place}"
        try:
            if address.scheme == "file":
                self._store = from_url(url)
            else:
                self._store = from_url(url, client_options=cast(Any, options), retry_config={"max_retries": 0})
        except (BaseError, ValueError) as exc:
            raise error(Problem.INVALID_SETTING, f"{address}: {words(exc)}", "/uri") from exc

    def fetch(self, digest: str, offset: int) -> Download:
        try:
            found = obstore.get(self._store, self._path, options={"range": {"offset": offset}} if offset else None)
        except (BaseError, OSError) as exc:
            if offset and (isinstance(exc, NotSupportedError) or _status(exc) == _UNSATISFIABLE):
                return self.fetch(digest, 0)
            raise self._ours(exc) from exc
        return Download(offset=found.range[0], size=found.meta["size"], pieces=self._pieces(found))

    def send(self, archive: Path, manifest: Manifest) -> None:
        try:
            if self._address.scheme in ("http", "https"):
                self._send_by_put(archive, manifest)
            else:
                obstore.put(self._store, self._path, archive, mode="create")
        except AlreadyExistsError:
            if not self._stands(archive, manifest):
                self._sign(archive)
        except (BaseError, NotImplementedError, OSError) as exc:
            raise self._ours(exc) from exc

    def _send_by_put(self, archive: Path, manifest: Manifest) -> None:
        """HTTP has no "only if it is not there" that servers agree on."""
        try:
            if self._stands(archive, manifest):
                return
        except SignalyardError as exc:
            if exc.problem is not Problem.BUNDLE_NOT_FOUND:
                raise
        obstore.put(self._store, self._path, archive, use_multipart=False)

    def _sign(self, archive: Path) -> None:
        """The same bundle in the place of itself, with another signature."""
        try:
            obstore.put(self._store, self._path, archive)
        except (BaseError, OSError) as exc:
            raise self._ours(exc) from exc

    def _stands(self, archive: Path, manifest: Manifest) -> bool:
        """Whether nothing need be sent: this bundle is there, and ours has no signature that it lacks.

        Raises ModelError (bundle_exists) where what is there is not this bundle.
        """
        download = self.fetch(manifest.digest, 0)
        try:
            found = archives.peek(io.BufferedReader(_Reader(download.pieces)))
        except SignalyardError as exc:
            if exc.problem is Problem.BUNDLE_STORE_UNREACHABLE:
                raise
            raise error(
                Problem.BUNDLE_EXISTS, f"{self._address} holds something else, that is no bundle", "/uri"
            ) from exc
        if found.digest != manifest.digest:
            raise error(
                Problem.BUNDLE_EXISTS,
                f"{self._address} holds {found.digest}, to be sent is {manifest.digest}: give the new one an address of its own",
                "/uri",
            )
        with archive.open("rb") as file:
            return archives.peek(file).signature in (None, found.signature)

    def _pieces(self, found: "GetResult") -> Iterator[bytes]:
        try:
            for piece in found.stream(min_chunk_size=_PIECE):
                yield bytes(piece)
        except BaseError as exc:
            raise self._ours(exc) from exc

    def _ours(self, exc: Exception) -> SignalyardError:
        detail = f"{self._address}: {words(exc)}"
        if isinstance(exc, FileNotFoundError):
            return error(Problem.BUNDLE_NOT_FOUND, detail, "/uri")
        if isinstance(exc, (PermissionDeniedError, UnauthenticatedError, NotSupportedError, NotImplementedError)):
            return error(Problem.BUNDLE_ACCESS_DENIED, detail, "/uri")
        if "builder error" in detail and self._address.scheme in _ALLOW_HTTP:
            variable = _ALLOW_HTTP[self._address.scheme]
            return error(
                Problem.INVALID_SETTING,
                f"{detail}; an endpoint without TLS is asked only where {variable}=true",
                "/uri",
            )
        status = _status(exc)
        if status is not None and 400 <= status < 500 and status not in _TRY_AGAIN:
            return error(Problem.BUNDLE_ACCESS_DENIED, detail, "/uri")
        return error(Problem.BUNDLE_STORE_UNREACHABLE, detail, "/uri")


class _Reader(io.RawIOBase):
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        view = memoryview(target)
        self._rest = self._rest or next(self._pieces, b"")
        size = min(len(view), len(self._rest))
        view[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _status(exc: Exception) -> int | None:
    """The HTTP status, which the library tells in words alone."""
    found = _STATUS.search(str(exc).partition("\n")[0])
    return int(found[1]) if found else None
