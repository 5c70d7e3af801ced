"""An archive in an object store."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from signalyard.problems import Problem, error
from signalyard_router.adapters.archive.settings import ArchiveSettings

_SCHEMES = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "file", "memory")
_ALLOW_HTTP = {"s3": "AWS_ALLOW_HTTP", "s3a": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}
"""The library's own variables for a store that is spoken to without TLS, such as one inside a cluster."""
_PART = 8 * 1024 * 1024
"""Bytes of a part of an upload: one is in memory at a time, and the least that S3 takes is 5 MiB."""


class ObstoreArchive:
    """Implements `ports.Archive`. Raises CallerError (invalid_setting) where the URL is none of a store."""

    def __init__(self, settings: ArchiveSettings, *, create: bool = False) -> None:
        parts = urlsplit(settings.url)
        if parts.username or parts.password:
            raise error(
                Problem.INVALID_SETTING,
                "credentials do not belong into a URL: give them by the store's own environment variables",
                "/archive",
            )
        if parts.scheme not in _SCHEMES:
            raise error(Problem.INVALID_SETTING, f"{settings.url!r} is not s3://, gs://, az:// or file:///", "/archive")
        try:
            if parts.scheme == "file":
                if create:
                    Path(parts.path).mkdir(parents=True, exist_ok=True)
                self._store = from_url(settings.url)
            elif parts.scheme == "memory":
                self._store = from_url(settings.url)
            else:
                # Options of ours take the place of all that the library would have read of this kind.
                allowed = os.environ.get(_ALLOW_HTTP.get(parts.scheme, ""), "").lower() in ("1", "true", "yes", "on")
                # Whoever calls has a pause and a patience of his own.
                self._store = from_url(
                    settings.url,
                    client_options={"timeout": f"{settings.request_seconds}s", "allow_http": allowed},
                    retry_config={"max_retries": 1},
                )
        except (BaseError, OSError) as exc:
            raise error(Problem.INVALID_SETTING, f"{settings.url}: {_text(exc)}", "/archive") from exc

    async def names(self) -> list[str]:
        try:
            return sorted([item["path"] async for page in obstore.list(self._store) for item in page])
        except BaseError as exc:
            raise _foreign(exc) from exc

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        try:
            await obstore.put_async(self._store, name, pieces, chunk_size=_PART, max_concurrency=1)
        except BaseError as exc:
            raise _foreign(exc) from exc

    async def get(self, name: str) -> AsyncIterator[bytes]:
        try:
            found = await obstore.get_async(self._store, name)
            async for piece in found.stream(min_chunk_size=64 * 1024):
                yield bytes(piece)
        except FileNotFoundError:
            raise
        except BaseError as exc:
            raise _foreign(exc) from exc


def _foreign(exc: BaseError) -> OSError:
    """A store's error as the port has it."""
    return OSError(_text(exc))


def _text(exc: Exception) -> str:
    """The first line: the rest is the library's own structure, with the request in it."""
    return str(exc).partition("\n")[0]
