"""Bundles on disk: finding them, and reading one so that every byte used is a byte that was checked."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from signalyard.problems import Problem, SignalyardError, error, escape_pointer
from signalyard_runtimes.bundle.digest import bundle_digest, file_entry
from signalyard_runtimes.bundle.manifest import (
    MANIFEST_FILE,
    SIGNATURE_FILE,
    GoldenRows,
    Manifest,
    convert,
    decode,
    invalid,
)

MANIFEST_LIMIT = 16 * 1024 * 1024
"""Bytes of the largest manifest that is read."""

SIGNATURE_LIMIT = 16 * 1024 * 1024
"""Bytes of the largest signature that is read; it names every file, as the manifest does."""


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle whose files are those that its manifest lists. ``artifact`` is the model's bytes, not yet loaded."""

    path: Path
    manifest: Manifest
    artifact: bytes
    golden: GoldenRows
    hashes: dict[str, str]
    """Path to SHA-256, in hexadecimal, of every file but the signature: of the bytes that were read."""
    signature: bytes | None
    """Read, and not checked."""


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say of an error raised inside which bundle it is about."""
    try:
        yield
    except SignalyardError as exc:
        raise error(exc.problem, f"bundle {path}: {exc.detail}", exc.pointer) from exc


def find(folder: Path) -> list[Path]:
    """The bundles at ``folder``, ``folder/*`` and ``folder/*/*``, sorted; names that start with a dot are left out.

    A bundle is not searched for further ones. Raises ModelError (bundle_file_missing) where there is no bundle, and
    (bundle_manifest_invalid) where two have the same name and version.
    """
    found = places(folder)
    if not found:
        raise error(
            Problem.BUNDLE_FILE_MISSING,
            f"{folder}: no bundle, that is no {MANIFEST_FILE} in it, in its folders or in theirs",
        )
    seen: dict[tuple[str, str], Path] = {}
    for path in found:
        with naming(path):
            manifest = read_manifest(path)
        other = seen.setdefault((manifest.name, manifest.version), path)
        if other != path:
            raise invalid(f"{path} and {other} are both version {manifest.version} of {manifest.name}", "/version")
    return found


def places(folder: Path) -> list[Path]:
    """Where the bundles at ``folder`` are, as `find` says, sorted. Nothing is read, so any of them may be a bad one."""
    real: dict[Path, Path] = {}
    for path in _search(folder, depth=2):
        # By its real place, so that a link "current" beside the bundle that it means does not make two of one.
        real.setdefault(path.resolve(), path)
    return list(real.values())


def check_required(path: Path, manifest: Manifest, require: frozenset[str]) -> None:
    """Raises ModelError (bundle_not_required) where there are required digests, and the bundle's is none of them."""
    if require and manifest.digest not in require:
        raise error(
            Problem.BUNDLE_NOT_REQUIRED,
            f"bundle {path}: it is {manifest.digest}, required is {' or '.join(sorted(require))}",
            "/digest",
        )


def _search(folder: Path, depth: int) -> list[Path]:
    if (folder / MANIFEST_FILE).is_file():
        return [folder]
    if depth == 0 or not folder.is_dir():
        return []
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [bundle for path in inner for bundle in _search(path, depth - 1)]


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle at ``path``; of its files nothing is read.

    Raises ModelError: bundle_file_missing, bundle_path_unsafe, bundle_manifest_invalid.
    """
    return decode(_read_manifest(path))


def read(path: Path, digest: str | None = None) -> Bundle:
    """Read the bundle at ``path`` and check, in this order: manifest, paths, the set of files, each file's size and SHA-256,
    the bundle's digest, and that it is ``digest`` where one is given. Every file is opened once.

    Raises ModelError: bundle_manifest_invalid, _path_unsafe, _file_missing, _file_extra, _file_changed.
    """
    body = _read_manifest(path)
    manifest = decode(body)
    present = _files(path)
    for name in manifest.files:
        if name not in present:
            raise error(
                Problem.BUNDLE_FILE_MISSING, f"{name!r} is listed and is not there", f"/files/{escape_pointer(name)}"
            )
    for name in sorted(present):
        if name not in manifest.files and name not in (MANIFEST_FILE, SIGNATURE_FILE):
            raise error(
                Problem.BUNDLE_FILE_EXTRA, f"{name!r} is there and is not listed: remove it, or pack again", "/files"
            )
    kept: dict[str, bytes] = {}
    for name, listed in manifest.files.items():
        content = _read_file(path / name, name, listed.size)
        found = file_entry(content)
        pointer = f"/files/{escape_pointer(name)}"
        if found.size != listed.size:
            raise error(
                Problem.BUNDLE_FILE_CHANGED,
                f"{name!r} must have {listed.size} bytes, it has another size",
                f"{pointer}/size",
            )
        if found.sha256 != listed.sha256:
            raise error(
                Problem.BUNDLE_FILE_CHANGED,
                f"{name!r} must have the SHA-256 {listed.sha256}, it has {found.sha256}",
                f"{pointer}/sha256",
            )
        if name in (manifest.artifact, manifest.golden.file):
            kept[name] = content
    computed = bundle_digest(body)
    if computed != manifest.digest:
        raise error(
            Problem.BUNDLE_FILE_CHANGED,
            f"{MANIFEST_FILE} was edited: it says {manifest.digest}, its content has {computed}",
            "/digest",
        )
    if digest is not None and computed != digest:
        raise error(Problem.BUNDLE_FILE_CHANGED, f"this bundle is {computed}, asked for was {digest}", "/digest")
    golden = convert(kept[manifest.golden.file], GoldenRows, manifest.golden.file)
    return Bundle(
        path=path,
        manifest=manifest,
        artifact=kept[manifest.artifact],
        golden=golden,
        hashes={MANIFEST_FILE: file_entry(body).sha256}
        | {name: listed.sha256 for name, listed in manifest.files.items()},
        signature=_read_signature(path) if SIGNATURE_FILE in present else None,
    )


def _read_manifest(path: Path) -> bytes:
    file = path / MANIFEST_FILE
    if not os.path.lexists(file):
        raise error(Problem.BUNDLE_FILE_MISSING, f"{path} is no bundle: it has no {MANIFEST_FILE}")
    body = _read_file(file, MANIFEST_FILE, MANIFEST_LIMIT)
    if len(body) > MANIFEST_LIMIT:
        raise invalid(f"{MANIFEST_FILE} is larger than {MANIFEST_LIMIT} bytes")
    return body


def _read_signature(path: Path) -> bytes:
    body = _read_file(path / SIGNATURE_FILE, SIGNATURE_FILE, SIGNATURE_LIMIT)
    if len(body) > SIGNATURE_LIMIT:
        raise error(
            Problem.BUNDLE_SIGNATURE_UNTRUSTED, f"{SIGNATURE_FILE} is larger than {SIGNATURE_LIMIT} bytes, and is none"
        )
    return body


def _files(root: Path) -> set[str]:
    """The relative paths of all files below ``root``. Raises ModelError (bundle_path_unsafe) for links and special files."""
    found: set[str] = set()
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    raise error(
                        Problem.BUNDLE_PATH_UNSAFE, f"{name!r} is a symbolic link; a bundle holds plain files alone"
                    )
                if entry.is_dir():
                    pending.append(name)
                elif entry.is_file():
                    found.add(name)
                else:
                    raise error(
                        Problem.BUNDLE_PATH_UNSAFE, f"{name!r} is a special file; a bundle holds plain files alone"
                    )
    return found


def _read_file(file: Path, name: str, limit: int) -> bytes:
    """The file's bytes, at most ``limit`` + 1 of them, so that a longer file shows without being read whole."""
    try:
        # No link is followed and no pipe waited on, even if one was put there after the folder was listed.
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as opened:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise error(Problem.BUNDLE_PATH_UNSAFE, f"{name!r} is not a plain file")
            return opened.read(limit + 1)
    except OSError as exc:
        if file.is_symlink():
            raise error(
                Problem.BUNDLE_PATH_UNSAFE, f"{name!r} is a symbolic link; a bundle holds plain files alone"
            ) from exc
        raise error(Problem.BUNDLE_FILE_MISSING, f"{name!r} cannot be read: {exc.strerror}") from exc
