"""Raw bytes to who answers and back, over a transport in memory: for tests."""

import asyncio
from time import perf_counter_ns
from typing import Any

from signalyard._server.bounds import ConnectionSettings
from signalyard._server.connection import Answering, Connection, Connections


class _Clock:
    def monotonic(self) -> int:
        return perf_counter_ns()


class _Transport(asyncio.Transport):
    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._protocol = protocol
        self.written = b""
        self.closed = asyncio.Event()

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)


def exchange(app: Answering, *parts: bytes, max_body_bytes: int = 65_536) -> bytes:
    """What is written back for ``parts``, each of which comes by itself; then the client sends no more."""

    async def talk() -> bytes:
        shared = Connections(app, ConnectionSettings(max_body_bytes=max_body_bytes), _Clock())
        connection = Connection(shared)
        transport = _Transport(connection)
        connection.connection_made(transport)
        for part in parts:
            connection.data_received(part)
            await asyncio.sleep(0)
        if not connection.eof_received():
            transport.close()
        await asyncio.wait_for(transport.closed.wait(), 60)
        return transport.written

    return asyncio.run(talk())
