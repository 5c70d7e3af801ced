"""A disk that fails when it is told to."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable

from signalyard_router.ports import AppendFile, Disk
from signalyard_router.world.real import RealDisk


class FaultyDisk:
    """A real disk until one of the switches is set.

    ``room``: bytes that still fit before writes fail with ENOSPC, a part of the last write having been made. ``fail_sync``,
    ``fail_truncate``, ``fail_open``: these calls fail with EIO. ``hang``: syncs never return while it is set.
    ``fail_upkeep``: writing whole files and removing fail; ``hang_upkeep``: they never return while it is set.
    """

    def __init__(self, disk: Disk | None = None) -> None:
        self._disk: Disk = disk or RealDisk()
        self.room: int | None = None
        self.fail_sync = False
        self.fail_truncate = False
        self.fail_open = False
        self.hang: asyncio.Event | None = None
        self.fail_upkeep = False
        self.hang_upkeep: asyncio.Event | None = None

    def make_folder(self, path: str) -> None:
        self._disk.make_folder(path)

    def names(self, folder: str) -> list[str]:
        return self._disk.names(folder)

    def read(self, path: str) -> bytes:
        return self._disk.read(path)

    def size(self, path: str) -> int:
        return self._disk.size(path)

    def read_range(self, path: str, offset: int, count: int) -> bytes:
        return self._disk.read_range(path, offset, count)

    async def replace(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        await self._upkeep(path)
        await self._disk.replace(path, pieces)

    async def remove(self, path: str) -> None:
        await self._upkeep(path)
        await self._disk.remove(path)

    def packed(self, path: str) -> AsyncIterator[bytes]:
        return self._disk.packed(path)

    async def _upkeep(self, path: str) -> None:
        if self.hang_upkeep is not None:
            await self.hang_upkeep.wait()
        if self.fail_upkeep:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def append(self, path: str) -> AppendFile:
        if self.fail_open:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return _FaultyFile(self, self._disk.append(path))

    def lock(self, path: str) -> Callable[[], None] | None:
        return self._disk.lock(path)


class _FaultyFile:
    def __init__(self, disk: FaultyDisk, file: AppendFile) -> None:
        self._disk = disk
        self._file = file

    def write(self, data: bytes) -> None:
        room = self._disk.room
        if room is None:
            self._file.write(data)
            return
        self._disk.room = max(0, room - len(data))
        self._file.write(data[:room])
        if len(data) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def write_and_sync(self, data: bytes) -> None:
        if self._disk.hang is not None:
            await self._disk.hang.wait()
        self.write(data)
        if self._disk.fail_sync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def sync(self) -> None:
        if self._disk.fail_sync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def truncate(self, size: int) -> None:
        if self._disk.fail_truncate:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._file.truncate(size)

    def close(self) -> None:
        self._file.close()
