"""Pulling a bundle: fetched or found, unpacked aside, verified, and only then in its place."""

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.bundle import archive as archives
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.manifest import Manifest
from signalyard_runtimes.remote.arrival import answer, arriving
from signalyard_runtimes.remote.meter import Meter
from signalyard_runtimes.remote.patience import Patience
from signalyard_runtimes.remote.place import Place
from signalyard_runtimes.remote.shelf import Shelf, unwritable
from signalyard_runtimes.remote.transport import Download, Transport


def pull(
    transport: Callable[[], Transport],
    digest: str,
    out: Path,
    *,
    cache: Path | None,
    patience: Patience,
    meter: Meter,
) -> Manifest:
    """Bring the bundle ``digest`` to the folder ``out``; where it is there already, or in ``cache``, nothing is asked of anybody.

    ``out`` is made, or must be empty. It holds the verified bundle when this returns, and no part of it before. No model is loaded.

    Raises CallerError (invalid_setting) for a folder that does not do; ModelError: those of `transport.Transport` and
    :func:`signalyard_runtimes.bundle.archive.unpack`, bundle_transfer_timeout, bundle_file_changed where the bytes are others.
    """
    place = Place(out, digest)
    there = place.bundle()
    if there is not None:
        return there
    with place.held(patience):
        there = place.bundle()  # somebody else may have been at it
        if there is not None:
            return there
        shelf = place.shelf if cache is None else Shelf(cache, digest)
        with nullcontext() if cache is None else shelf.held(patience):
            try:
                manifest = _obtain(transport, shelf, place, patience, meter)
            except OSError as exc:
                raise unwritable(out, exc) from exc
        return manifest


def _obtain(
    transport: Callable[[], Transport], shelf: Shelf, place: Place, patience: Patience, meter: Meter
) -> Manifest:
    old = shelf.archive.exists() or shelf.part.exists()
    while True:
        if not shelf.archive.exists():
            _download(transport(), shelf.part, place.digest, patience, meter)
        draft = place.draft()
        try:
            manifest = _unpack(shelf, draft, place.digest)
        except SignalyardError as exc:
            shelf.drop()
            if not old:
                raise
            # What was kept may have been damaged, or the beginning of something else: once more, from nothing.
            meter.say(f"what was kept of {place.digest} is of no use ({exc.problem}): fetching it anew")
            old = False
            continue
        place.settle(draft)
        return manifest


def _unpack(shelf: Shelf, draft: Path, digest: str) -> Manifest:
    """Unpack and verify what is on the shelf, and keep it there as whole. Raises ModelError where it is not the bundle."""
    whole = shelf.archive.exists()
    with (shelf.archive if whole else shelf.part).open("rb") as file:
        archives.unpack(file, draft, digest)
    manifest = store.read(draft, digest).manifest
    if not whole:
        shelf.keep()
    return manifest


def _download(transport: Transport, part: Path, digest: str, patience: Patience, meter: Meter) -> None:
    """All of the archive, to ``part``, from where that ends."""
    while True:
        before = _size(part)
        try:
            _attempt(transport, part, digest, patience, meter)
            return
        except SignalyardError as exc:
            pause = patience.pause(exc, progress=_size(part) > before)
            meter.say(f"{exc}; trying again after {pause:.1f} s")


def _attempt(transport: Transport, part: Path, digest: str, patience: Patience, meter: Meter) -> None:
    # The last byte is asked for once more: so there is always one to ask for, also where all are there.
    offset = max(_size(part) - 1, 0)
    download: Download = answer(lambda: transport.fetch(digest, offset), patience, meter.tick)
    if download.size is not None and download.size > archives.LARGEST:
        raise error(
            Problem.BUNDLE_ARCHIVE_INVALID, f"it has {download.size} bytes; {archives.LARGEST} are the most", "/uri"
        )
    done = download.offset
    with part.open("r+b" if part.exists() else "xb") as file:
        file.truncate(done)
        file.seek(done)
        for piece in arriving(lambda: download.pieces, patience, meter.tick):
            done += len(piece)
            most = archives.LARGEST if download.size is None else download.size
            if done > most:
                raise error(Problem.BUNDLE_ARCHIVE_INVALID, f"more than {most} bytes arrive", "/uri")
            file.write(piece)
            meter.at(done, download.size)
        file.flush()
        os.fsync(file.fileno())
    if download.size is not None and done < download.size:
        raise error(Problem.BUNDLE_TRUNCATED, f"{done} of {download.size} bytes arrived", "/uri")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
