"""A disk in memory, for one node. Its owner may crash; the machine under it may lose power."""

import asyncio
import errno
import os
import random
import zlib
from collections.abc import AsyncIterator, Callable, Sequence

from signalyard_router.ports import AppendFile


class _File:
    """``data`` is what the operating system has, ``synced`` how much of it is on the medium."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0


class SimDisk:
    """Implements `ports.Disk`.

    ``room``: bytes until it is full. ``fail_sync``, ``fail_truncate``, ``read_only``: these calls fail. ``sync_seconds``: what a
    sync takes; None for one that does not return. A mounted disk belongs to one process: `remount` fences the old one off.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._files: dict[str, _File] = {}
        self._locked: set[str] = set()
        self._mount = 0
        self.room: int | None = None
        self.fail_sync = False
        self.fail_truncate = False
        self.read_only = False
        self.sync_seconds: float | None = 0.0002

    def mount(self) -> "MountedDisk":
        """The disk as a new process sees it; whoever had it before can write no more, and holds no lock."""
        self._mount += 1
        self._locked.clear()
        return MountedDisk(self, self._mount)

    def lose_power(self) -> None:
        """Cut every file back to somewhere between what was synced and what was written."""
        for file in self._files.values():
            kept = self._rng.randint(file.synced, len(file.data))
            del file.data[kept:]
            file.synced = kept

    def content(self, folder: str) -> list[bytes]:
        """The files of a folder, by name; for those who judge from outside."""
        return [bytes(self._files[name].data) for name in sorted(self._files) if name.startswith(f"{folder}/")]

    def fail(self, code: int, path: str = "") -> OSError:
        """The error of the operating system."""
        return OSError(code, os.strerror(code), path)


class MountedDisk:
    """One process's view."""

    def __init__(self, disk: SimDisk, mount: int) -> None:
        self._disk = disk
        self._mount = mount

    def make_folder(self, path: str) -> None:
        self.check(path)

    def names(self, folder: str) -> list[str]:
        self.check()
        start = f"{folder}/"
        return sorted(path.removeprefix(start) for path in self._disk._files if path.startswith(start))

    def read(self, path: str) -> bytes:
        self.check()
        file = self._disk._files.get(path)
        if file is None:
            raise self._disk.fail(errno.ENOENT, path)
        return bytes(file.data)

    def size(self, path: str) -> int:
        return len(self.read(path))

    def read_range(self, path: str, offset: int, count: int) -> bytes:
        return self.read(path)[offset : offset + count]

    async def replace(self, path: str, pieces: Sequence[bytes]) -> None:
        file = _File()
        await _SimAppendFile(self, self._disk, file).write_and_sync(b"".join(pieces))
        self.check(path)
        self._disk._files[path] = file

    async def remove(self, path: str) -> None:
        await asyncio.sleep(self._disk.sync_seconds or 0.0)
        self.read(path)
        self.check(path)
        del self._disk._files[path]

    async def packed(self, path: str) -> AsyncIterator[bytes]:
        packer = zlib.compressobj(wbits=31)
        yield packer.compress(self.read(path)) + packer.flush()

    def append(self, path: str) -> AppendFile:
        self.check(path)
        return _SimAppendFile(self, self._disk, self._disk._files.setdefault(path, _File()))

    def lock(self, path: str) -> Callable[[], None] | None:
        self.check(path)
        if path in self._disk._locked:
            return None
        self._disk._locked.add(path)

        def release() -> None:
            if self._mount == self._disk._mount:
                self._disk._locked.discard(path)

        return release

    def check(self, writes: str = "") -> None:
        """Raise for a process that is dead, and for writes to a read-only disk."""
        if self._mount != self._disk._mount:
            raise self._disk.fail(errno.EIO, "fenced off")
        if writes and self._disk.read_only:
            raise self._disk.fail(errno.EROFS, writes)


class _SimAppendFile:
    def __init__(self, view: MountedDisk, disk: SimDisk, file: _File) -> None:
        self._view = view
        self._disk = disk
        self._file = file

    def write(self, data: bytes) -> None:
        self._view.check("file")
        room = self._disk.room
        if room is not None:
            self._disk.room = max(0, room - len(data))
            if len(data) > room:
                self._file.data += data[:room]
                raise self._disk.fail(errno.ENOSPC)
        self._file.data += data

    async def write_and_sync(self, data: bytes) -> None:
        self.write(data)
        if self._disk.sync_seconds is None:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self._disk.sync_seconds or 0.0)
        self._view.check("file")
        if self._disk.fail_sync:
            raise self._disk.fail(errno.EIO)
        self._file.synced = len(self._file.data)

    def truncate(self, size: int) -> None:
        self._view.check("file")
        if self._disk.fail_truncate:
            raise self._disk.fail(errno.EIO)
        del self._file.data[size:]
        self._file.synced = min(self._file.synced, size)

    def close(self) -> None:
        """A file in memory needs no closing."""
