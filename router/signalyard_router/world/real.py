"""The real clocks, network and disk."""

import asyncio
import contextlib
import fcntl
import os
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from signalyard_router.ports import AppendFile, Clock, Disk, Listener, Network


class RealClock:
    """The machine's clocks."""

    # The functions themselves: a request asks a dozen times.
    wall = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic_ns)


class RealListener:
    """A listening TCP socket."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        self._server.close()


class RealNetwork:
    """TCP on the running event loop; what listens speaks TLS where there is a context for it."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        transport, protocol = await asyncio.get_running_loop().create_connection(factory, host, port, ssl=tls)
        return transport, protocol

    async def connect_path(
        self, factory: Callable[[], asyncio.Protocol], path: str
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        transport, protocol = await asyncio.get_running_loop().create_unix_connection(factory, path)
        return transport, protocol

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Listener:
        server = await asyncio.get_running_loop().create_server(factory, host, port, backlog=1024, ssl=self._tls)
        return RealListener(server)


class RealAppendFile:
    """A file opened with O_APPEND."""

    def __init__(self, path: str, pool: ThreadPoolExecutor) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._pool = pool

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    async def write_and_sync(self, data: bytes) -> None:
        await asyncio.get_running_loop().run_in_executor(self._pool, self._write_and_sync, data)

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def _write_and_sync(self, data: bytes) -> None:
        self.write(data)
        os.fdatasync(self._fd)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def close(self) -> None:
        os.close(self._fd)


_PIECE = 256 * 1024
"""Bytes that are read and compressed at once: some 5 ms of a thread that does not hold the interpreter meanwhile."""


class RealDisk:
    """The file system; syncs run on one thread of their own, in order, and what can wait on another."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="signalyard-disk")
        # apart, so that no commit waits behind a checkpoint or a segment that is being compressed
        self._upkeep = ThreadPoolExecutor(max_workers=1, thread_name_prefix="signalyard-upkeep")

    def make_folder(self, path: str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)

    def names(self, folder: str) -> list[str]:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_file())

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def size(self, path: str) -> int:
        return Path(path).stat().st_size

    def read_range(self, path: str, offset: int, count: int) -> bytes:
        with Path(path).open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(count)

    async def replace(self, path: str, pieces: AsyncIterator[bytes]) -> None:
        loop = asyncio.get_running_loop()
        successor = _Successor(Path(path))
        try:
            await loop.run_in_executor(self._upkeep, successor.begin)
            async for piece in pieces:
                await loop.run_in_executor(self._upkeep, successor.write, piece)
            await loop.run_in_executor(self._upkeep, successor.take_its_place)
        except BaseException:
            # Its thread has one job at a time: behind a write that is still running where this was cancelled.
            self._upkeep.submit(successor.discard)
            raise

    async def remove(self, path: str) -> None:
        await asyncio.get_running_loop().run_in_executor(self._upkeep, Path(path).unlink)

    async def packed(self, path: str) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        # gzip, with neither name nor time in its header; half the CPU of the usual level for a tenth more bytes
        packer = zlib.compressobj(level=1, wbits=31)
        offset = 0
        while data := await loop.run_in_executor(self._upkeep, self.read_range, path, offset, _PIECE):
            offset += len(data)
            if piece := await loop.run_in_executor(self._upkeep, packer.compress, data):
                yield piece
        yield await loop.run_in_executor(self._upkeep, packer.flush)

    def append(self, path: str) -> AppendFile:
        created = not Path(path).exists()
        file = RealAppendFile(path, self._pool)
        if created:
            _sync_folder(Path(path).parent)
        return file

    def lock(self, path: str) -> Callable[[], None] | None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return lambda: os.close(fd)


class _Successor:
    """What is to take a file's place, written beside it. Every method may raise OSError, and blocks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._file: BinaryIO | None = None

    def begin(self) -> None:
        self._file = self._part.open("wb")

    def write(self, piece: bytes) -> None:
        self._open.write(piece)

    def take_its_place(self) -> None:
        with self._open as file:
            file.flush()
            os.fsync(file.fileno())
        self._part.replace(self._path)
        _sync_folder(self._path.parent)

    def discard(self) -> None:
        """On a full disk it would take the room of records."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # what it could not write before it cannot write now
                self._file.close()
            self._part.unlink(missing_ok=True)

    @property
    def _open(self) -> BinaryIO:
        assert self._file is not None
        return self._file


def _sync_folder(path: Path) -> None:
    """A new file's name is on the medium only once its folder is."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class RealWorld:
    """The world outside, as it is."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.clock: Clock = RealClock()
        self.network: Network = RealNetwork(tls)
        self.disk: Disk = RealDisk()

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count)
