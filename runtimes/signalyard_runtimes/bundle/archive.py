"""A bundle as one file, to be sent: a tar in which the manifest stands first.

Plain tar, in its ustar form, and no compression: the same bundle is the same bytes wherever it is packed, and nothing can unfold
to more than was received. Order, owner, mode and time of the files are always the same ones.

What is read is not trusted. The manifest comes first and is held against the digest that was asked for; from then on it says
what may follow: plain files alone, each once, each of the size that it gives. What else there is (links, devices, folders,
absolute paths, ``..``, extended headers) has no name in it. Only the signature, where there is one, follows the manifest unlisted; who trusts
keys looks at it when the bundle is loaded.
"""

import hashlib
import io
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.digest import bundle_digest
from signalyard_runtimes.bundle.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest, decode

LARGEST = 4 * 1024**3
"""Bytes of the largest archive that is made, received or unpacked."""

_MOST_FILES = 10_000
_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1024 * 1024
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.DIRTYPE: "a folder",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def write(folder: Path, archive: BinaryIO) -> Manifest:
    """Verify the bundle at ``folder`` and write it to ``archive``; no model is loaded.

    Raises ModelError: those of :func:`signalyard_runtimes.bundle.store.read`; bundle_archive_invalid where it is too large, or a
    path too long, for an archive.
    """
    bundle = store.read(folder)
    manifest = bundle.manifest
    _check(manifest)
    signature = () if bundle.signature is None else (SIGNATURE_FILE,)
    for name in (MANIFEST_FILE, *signature, *sorted(manifest.files)):
        with (folder / name).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            archive.write(_header(name, size))
            _copy(file, archive, size)
        archive.write(bytes(-size % _BLOCK))
    archive.write(bytes(2 * _BLOCK))
    return manifest


def unpack(archive: BinaryIO, folder: Path, digest: str) -> Manifest:
    """Write the files of the bundle ``digest`` into the empty ``folder``, and see them onto the medium.

    The files' own digests are not compared here: :func:`signalyard_runtimes.bundle.store.read` does that, of what is on disk.

    Raises ModelError: bundle_file_changed where it is another bundle, bundle_truncated, and bundle_archive_invalid,
    bundle_manifest_invalid, bundle_path_unsafe or bundle_file_missing for what is no bundle. OSError where it cannot be written.
    """
    body = _manifest(archive)
    found = bundle_digest(body)
    if found != digest:
        raise error(Problem.BUNDLE_FILE_CHANGED, f"this bundle is {found}, asked for was {digest}", "/digest")
    manifest = decode(body)
    _check(manifest)
    _place(folder / MANIFEST_FILE, io.BytesIO(body), len(body))
    pending = dict(manifest.files)
    signed = False
    while (header := _next(archive)) is not None:
        if header.name == SIGNATURE_FILE and not signed and len(pending) == len(manifest.files):
            signed = True
            body = _signature(archive, header)
            _place(folder / SIGNATURE_FILE, io.BytesIO(body), len(body))
            continue
        listed = pending.pop(header.name, None)
        if listed is None:
            twice = header.name in (MANIFEST_FILE, SIGNATURE_FILE) or header.name in manifest.files
            raise _invalid(f"{header.name!r} is in it {'twice' if twice else 'and not in the manifest'}")
        if header.size != listed.size:
            raise _invalid(f"{header.name!r} has {header.size} bytes in it, and {listed.size} in the manifest")
        _place(folder / header.name, archive, header.size)
        _read(archive, -header.size % _BLOCK)
    if pending:
        raise error(Problem.BUNDLE_FILE_MISSING, f"{min(pending)!r} is listed and is not in the archive")
    while rest := archive.read(_PIECE):
        if rest.strip(b"\0"):
            raise _invalid("something follows behind its end")
    for inner in {folder / parent for name in manifest.files for parent in PurePosixPath(name).parents}:
        sync_folder(inner)
    return manifest


class Beginning(NamedTuple):
    """What the beginning of an archive says: the bundle's ``digest``, and the SHA-256 of its signature, None for an unsigned one."""

    digest: str
    signature: str | None


def peek(archive: BinaryIO) -> Beginning:
    """Read the beginning of an archive. Raises ModelError as :func:`unpack` does."""
    digest = bundle_digest(_manifest(archive))
    header = _next(archive)
    if header is None or header.name != SIGNATURE_FILE:
        return Beginning(digest, None)
    return Beginning(digest, hashlib.sha256(_signature(archive, header)).hexdigest())


def sync_folder(folder: Path) -> None:
    """See the names in a folder onto the medium."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _manifest(archive: BinaryIO) -> bytes:
    header = _next(archive)
    if header is None or header.name != MANIFEST_FILE:
        raise _invalid(f"its first file is {header.name if header else None!r}, not {MANIFEST_FILE!r}")
    if header.size > store.MANIFEST_LIMIT:
        raise _invalid(f"{MANIFEST_FILE} is larger than {store.MANIFEST_LIMIT} bytes")
    body = _read(archive, header.size)
    _read(archive, -header.size % _BLOCK)
    return body


def _signature(archive: BinaryIO, header: tarfile.TarInfo) -> bytes:
    if header.size > store.SIGNATURE_LIMIT:
        raise _invalid(f"{SIGNATURE_FILE} is larger than {store.SIGNATURE_LIMIT} bytes")
    body = _read(archive, header.size)
    _read(archive, -header.size % _BLOCK)
    return body


def _next(archive: BinaryIO) -> tarfile.TarInfo | None:
    """The next header, None at the end. Whatever is no plain file is refused here, before its name or size mean anything."""
    block = _read(archive, _BLOCK)
    if not block.strip(b"\0"):
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.TarError, ValueError) as exc:
        raise _invalid("it is no tar, or a damaged one") from exc
    if header.type != tarfile.REGTYPE:
        kind = _KINDS.get(header.type, f"an entry of the kind {header.type!r}")
        raise _invalid(f"{header.name!r} is {kind}; a bundle holds plain files alone")
    if header.size < 0:
        raise _invalid(f"{header.name!r} has a size below 0")
    return header


def _place(target: Path, source: BinaryIO, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        _copy(source, file, size)
        file.flush()
        os.fsync(file.fileno())


def _copy(source: BinaryIO, target: BinaryIO, size: int) -> None:
    while size:
        piece = source.read(min(size, _PIECE))
        if not piece:
            raise _truncated()
        target.write(piece)
        size -= len(piece)


def _read(archive: BinaryIO, size: int) -> bytes:
    body = archive.read(size)
    if len(body) < size:
        raise _truncated()
    return body


def _header(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = 0o644
    try:
        return header.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError as exc:
        raise _invalid(f"{name!r} cannot be in one: {exc}") from exc


def _check(manifest: Manifest) -> None:
    """Refuse what would fill a disk, or be a file and a folder at once."""
    if len(manifest.files) > _MOST_FILES:
        raise _invalid(f"it would hold {len(manifest.files)} files; {_MOST_FILES} are the most")
    size = sum(entry.size for entry in manifest.files.values())
    if size > LARGEST:
        raise _invalid(f"it would unfold to {size} bytes; {LARGEST} are the most")
    for name in manifest.files:
        for parent in PurePosixPath(name).parents:
            if str(parent) in manifest.files or str(parent) == MANIFEST_FILE:
                raise _invalid(f"{str(parent)!r} would be a file, and a folder for {name!r}")


def _invalid(detail: str) -> SignalyardError:
    return error(Problem.BUNDLE_ARCHIVE_INVALID, f"the archive: {detail}")


def _truncated() -> SignalyardError:
    return error(Problem.BUNDLE_TRUNCATED, "the archive ends before the last of its files")
