"""Where a pulled bundle is to stand, and how it comes there whole.

A folder that does not exist yet appears by one rename. One that exists and is empty may be a mount point, which nothing can be
renamed over: there the files are moved in one by one, and ``manifest.json``, without which a folder is no bundle, last.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from signalyard.problems import Problem, error
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.archive import sync_folder
from signalyard_runtimes.bundle.manifest import MANIFEST_FILE, Manifest
from signalyard_runtimes.remote.patience import Patience
from signalyard_runtimes.remote.shelf import Shelf, unwritable

_MOVING = "moving"
_NAME_DIGITS = 16


class Place:
    """The folder ``out`` for the bundle ``digest``. What is under way stands in ``work``, on the same file system."""

    def __init__(self, out: Path, digest: str) -> None:
        self.out = out
        self.digest = digest
        name = digest.removeprefix("sha256:")[:_NAME_DIGITS]
        # The leading dot keeps a server from taking it for a bundle.
        self._inside = out.is_dir()
        self.work = out / f".pull-{name}" if self._inside else out.parent / f".{out.name}-{name}.pull"
        self.shelf = Shelf(self.work, digest)

    def bundle(self) -> Manifest | None:
        """The bundle that stands there already, verified; None where there is nothing yet.

        Raises CallerError (invalid_setting) where something else is there, ModelError where the bundle is damaged.
        """
        if not self.out.exists():
            return None
        if not self.out.is_dir():
            raise error(Problem.INVALID_SETTING, f"{self.out} is no folder", "/out")
        if (self.out / MANIFEST_FILE).exists():
            if self._inside and self.work.exists():
                return None  # somebody is at it, or was killed; who holds it knows more
            with store.naming(self.out):
                found = store.read_manifest(self.out).digest
                if found != self.digest:
                    raise error(
                        Problem.INVALID_SETTING,
                        f"it holds {found}, asked for was {self.digest}; a bundle is never changed: pull into another folder",
                        "/out",
                    )
                return store.read(self.out, self.digest).manifest
        foreign = sorted(entry.name for entry in self.out.iterdir() if entry != self.work)
        if foreign and not (self._inside and (self.work / _MOVING).exists()):
            raise error(
                Problem.INVALID_SETTING,
                f"{self.out} must be a new folder or an empty one; it holds {foreign[0]!r}",
                "/out",
            )
        return None

    @contextmanager
    def held(self, patience: Patience) -> Iterator[None]:
        """Alone with it. At the end all that was under way is cleared away; after an error, what the next attempt can go on with stays."""
        with self.shelf.held(patience):
            if self._inside and (self.out / MANIFEST_FILE).exists():
                shutil.rmtree(self.work)  # the manifest came last: what is here is left over
            try:
                yield
            except BaseException:
                kept = (self.shelf.part, self.shelf.archive, self.work / _MOVING)
                if not any(file.exists() for file in kept):
                    shutil.rmtree(self.work, ignore_errors=True)
                raise
            shutil.rmtree(self.work, ignore_errors=True)

    def draft(self) -> Path:
        """An empty folder to unpack into."""
        folder = self.work / "draft"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        return folder

    def settle(self, draft: Path) -> None:
        """Bring the verified draft to its place. Raises CallerError (invalid_setting)."""
        try:
            if self._inside:
                self._move_in(draft)
            else:
                draft.rename(self.out)
                sync_folder(self.out.parent)
        except OSError as exc:
            raise unwritable(self.out, exc) from exc

    def _move_in(self, draft: Path) -> None:
        (self.work / _MOVING).touch()
        sync_folder(self.work)
        entries = sorted(draft.iterdir(), key=lambda entry: (entry.name == MANIFEST_FILE, entry.name))
        for entry in entries:
            target = self.out / entry.name
            if target.is_dir():
                shutil.rmtree(target)
            if entry.name == MANIFEST_FILE:
                sync_folder(self.out)
            entry.replace(target)
        sync_folder(self.out)
