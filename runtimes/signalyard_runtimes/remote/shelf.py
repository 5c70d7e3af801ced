"""A folder of archives by their digest: whole ones, and what has arrived of others.

``HEX.tar`` is whole and was verified when it was put there; it is verified again whenever it is unpacked. ``HEX.part`` goes on growing
where the last attempt ended, also one that was killed. ``HEX.lock`` is held by whoever fetches; the others wait for it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.bundle.archive import sync_folder
from signalyard_runtimes.remote.patience import Patience

_LOOK_SECONDS = 0.1


class Shelf:
    """The place of one digest in ``folder``, which is made when it is held."""

    def __init__(self, folder: Path, digest: str) -> None:
        name = digest.removeprefix("sha256:")
        self.folder = folder
        self.archive = folder / f"{name}.tar"
        self.part = folder / f"{name}.part"
        self._lock = folder / f"{name}.lock"

    @contextmanager
    def held(self, patience: Patience) -> Iterator[None]:
        """Alone with it. Raises ModelError (bundle_transfer_timeout), CallerError (invalid_setting) where it cannot be written."""
        descriptor = self._acquire(patience)
        try:
            yield
        finally:
            os.close(descriptor)

    def keep(self) -> None:
        """What has arrived is whole."""
        self.part.rename(self.archive)
        sync_folder(self.folder)

    def drop(self) -> None:
        """Nothing of it is of use."""
        self.archive.unlink(missing_ok=True)
        self.part.unlink(missing_ok=True)

    def _acquire(self, patience: Patience) -> int:
        while True:
            descriptor = self._open()
            if descriptor is None:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                patience.wait(_LOOK_SECONDS)
                continue
            except OSError as exc:
                os.close(descriptor)
                raise unwritable(self.folder, exc) from exc
            if _same(descriptor, self._lock):
                return descriptor
            os.close(descriptor)

    def _open(self) -> int | None:
        """The lock's file; None where whoever was here before has just taken the folder away."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            if isinstance(exc, FileExistsError) and not self.folder.exists():
                return None
            raise unwritable(self.folder, exc) from exc
        try:
            return os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise unwritable(self.folder, exc) from exc


def unwritable(folder: Path, exc: OSError) -> SignalyardError:
    """The error for a folder that does not take what is to be written."""
    return error(Problem.INVALID_SETTING, f"{folder} cannot be written: {exc.strerror or exc}", "/out")


def _same(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
