"""A disk in memory, for one node. Its owner may crash; the machine under it may lose power."""

import asyncio
import errno
import os
import random
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

from signalyard_router.ports import AppendFile

Deed = Literal["write", "sync", "cut", "replace", "remove"]


class Needle(Protocol):
    """Whoever watches what happens to the bytes of a disk."""

    def __call__(self, what: Deed, path: str, data: bytes, size: int) -> None:
        """``data`` was written, ``size`` bytes are now on the medium, the file was cut to ``size`` bytes; a whole file of ``size`` bytes
        took its place, or it is gone."""
        ...


class _File:
    """``data`` is what the operating system has, ``synced`` how much of it is on the medium.

    ``doubtful`` is where bytes begin whose sync failed: a later sync that succeeds says nothing of them, because the operating
    system has marked them clean.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.data = bytearray()
        self.synced = 0
        self.doubtful: int | None = None


class SimDisk:
    """Implements `ports.Disk`.

    ``room``: bytes until it is full. ``fail_sync``, ``fail_truncate``, ``read_only``: these calls fail. ``sync_seconds``: what a
    sync takes; None for one that does not return. A mounted disk belongs to one process: mounting it fences the old one off.
    """

    def __init__(self, rng: random.Random, needle: Needle | None = None) -> None:
        self._rng = rng
        self._needle = needle
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
        self.fence()
        return MountedDisk(self, self._mount)

    def fence(self) -> None:
        """Whoever has the disk can write no more, and holds no lock."""
        self._mount += 1
        self._locked.clear()

    def lose_power(self) -> None:
        """Cut every file back to somewhere between what was synced and what was written."""
        for _, file in sorted(self._files.items()):
            kept = self._rng.randint(file.synced, len(file.data))
            del file.data[kept:]
            file.synced, file.doubtful = kept, None
            self.tell("cut", file, b"", kept)

    def content(self, folder: str) -> dict[str, bytes]:
        """The files of a folder by path, in order; for those who judge from outside."""
        return {path: bytes(file.data) for path, file in sorted(self._files.items()) if path.startswith(f"{folder}/")}

    def fail(self, code: int, path: str = "") -> OSError:
        """The error of the operating system."""
        return OSError(code, os.strerror(code), path)

    def tell(self, what: Deed, file: _File, data: bytes, size: int) -> None:
        """Something happened to a file."""
        if self._needle is not None:
            self._needle(what, file.path, data, size)


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

    async def replace(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        file = _File(f"{path}.new")
        content = b"".join([piece async for piece in pieces])
        await _SimAppendFile(self, self._disk, file).write_and_sync(content)
        self.check(path)
        file.path = path
        self._disk._files[path] = file
        self._disk.tell("replace", file, b"", len(file.data))

    async def remove(self, path: str) -> None:
        await asyncio.sleep(self._disk.sync_seconds or 0.0)
        self.read(path)
        self.check(path)
        self._disk.tell("remove", self._disk._files.pop(path), b"", 0)

    async def packed(self, path: str) -> AsyncIterator[bytes]:
        packer = zlib.compressobj(wbits=31)
        yield packer.compress(self.read(path)) + packer.flush()

    def append(self, path: str) -> AppendFile:
        self.check(path)
        return _SimAppendFile(self, self._disk, self._disk._files.setdefault(path, _File(path)))

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
        disk, file = self._disk, self._file
        room = disk.room
        if room is not None:
            disk.room = max(0, room - len(data))
            if len(data) > room:
                file.data += data[:room]
                disk.tell("write", file, data[:room], len(file.data))
                raise disk.fail(errno.ENOSPC)
        file.data += data
        disk.tell("write", file, data, len(file.data))

    async def write_and_sync(self, data: bytes) -> None:
        self.write(data)
        size = len(self._file.data)
        if self._disk.sync_seconds is None:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self._disk.sync_seconds or 0.0)
        self._sync(size)

    def sync(self) -> None:
        self._sync(len(self._file.data))

    def _sync(self, size: int) -> None:
        self._view.check("file")
        disk, file = self._disk, self._file
        size = min(size, len(file.data))
        if disk.fail_sync:
            file.doubtful = file.synced if file.doubtful is None else file.doubtful
            raise disk.fail(errno.EIO)
        if file.doubtful is None:
            file.synced = max(file.synced, size)
            disk.tell("sync", file, b"", file.synced)

    def truncate(self, size: int) -> None:
        self._view.check("file")
        disk, file = self._disk, self._file
        if disk.fail_truncate:
            raise disk.fail(errno.EIO)
        del file.data[size:]
        file.synced = min(file.synced, size)
        if file.doubtful is not None and file.doubtful >= size:
            file.doubtful = None
        disk.tell("cut", file, b"", size)

    def close(self) -> None:
        """A file in memory needs no closing."""
