"""A router's ZeroMQ sockets on loopback, on both event loops, and peers that behave and do not."""

import asyncio
import socket

import pytest
import uvloop
import zmq
import zmq.asyncio
from prometheus_client import CollectorRegistry
from tests.parts.http.conftest import FakeRouter
from tests.unit.clients.conftest import NOW

from signalyard_router.adapters.zeromq.settings import ZeromqSettings
from signalyard_router.adapters.zeromq.wire import ZeromqWire
from signalyard_router.world.real import RealWorld


class Journal:
    """As much of a journal as the publisher asks."""

    now = NOW


class Stage:
    """The sockets, and their counters."""

    def __init__(self, **settings):
        chosen = {"requests": "tcp://127.0.0.1:*", "signals": "tcp://127.0.0.1:*", "beat_seconds": 0.1} | settings
        self.router = FakeRouter()
        self.registry = CollectorRegistry()
        self.wire = ZeromqWire(RealWorld(), self.router, Journal(), ZeromqSettings(**chosen), self.registry)
        self.context = zmq.asyncio.Context()
        self.peers = []
        self.drained = False

    def peer(self, kind=zmq.DEALER, address=None, **options):
        """A peer of our own, connected."""
        peer = self.context.socket(kind)
        peer.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            peer.setsockopt(getattr(zmq, name), value)
        peer.connect(address or self.wire.requests.address)
        self.peers.append(peer)  # pyzmq wants every socket closed before it is forgotten
        return peer

    def raw(self):
        """A TCP connection to the requests' socket that has said who it is, and may now send any bytes."""
        raw = socket.create_connection(("127.0.0.1", int(self.wire.requests.address.rpartition(":")[2])), timeout=20)
        raw.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(16) + b"\x00" + bytes(31))
        ready = b"\x05READY\x0bSocket-Type" + (6).to_bytes(4, "big") + b"DEALER"
        raw.sendall(bytes([4, len(ready)]) + ready)
        self.peers.append(raw)
        return raw

    def messages(self, result, which="requests"):
        return self.registry.get_sample_value("signalyard_zeromq_messages_total", {"socket": which, "result": result})

    def dropped(self, which):
        return self.registry.get_sample_value("signalyard_zeromq_dropped_total", {"socket": which})

    async def until(self, condition):
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 -- it is the kernel that is waited for
                await asyncio.sleep(0.001)

    async def drain(self, grace=5):
        self.drained = True
        await self.wire.drain(grace)

    async def close(self):
        if not self.drained:
            await self.drain()
        await self.wire.close()
        for peer in self.peers:
            peer.close()
        self.context.destroy(0)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request):
    """Run a scenario on a stage of its own."""

    def run(scenario, **settings):
        async def performance():
            stage = Stage(**settings)
            try:
                await asyncio.wait_for(scenario(stage), 60)
            finally:
                await stage.close()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(performance())

    return run
