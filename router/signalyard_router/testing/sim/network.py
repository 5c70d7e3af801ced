"""Connections in memory. What is written arrives in order, later, and perhaps in pieces; unless something goes wrong."""

import asyncio
import random
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, TypeVar

from signalyard_router.ports import Listener
from signalyard_router.testing.sim.loop import OWNER

_T = TypeVar("_T")


class Node:
    """A process on the network. A dead one sends and receives nothing; a frozen one receives when it is thawed.

    Its tasks are those that were started in its context, and whatever these started.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.late: list[Callable[[], None]] = []
        self.transports: list[SimTransport] = []
        self.tasks: dict[int, asyncio.Task[Any]] = {}
        self._context = copy_context()
        self._context.run(OWNER.set, self)

    def run(self, what: Callable[[], _T]) -> _T:
        """Call something as this process."""
        return self._context.copy().run(what)

    def deliver(self, what: Callable[[], None]) -> None:
        """Let something arrive here."""
        if not self.alive:
            return
        if self.frozen:
            self.late.append(what)
        else:
            self.run(what)

    def thaw(self) -> None:
        """Go on where it stood."""
        self.frozen = False
        late, self.late = self.late, []
        for what in late:
            self.deliver(what)

    def adopt(self, number: int, task: asyncio.Task[Any]) -> None:
        """A task of this process began."""
        self.tasks[number] = task
        task.add_done_callback(lambda _: self.tasks.pop(number, None))

    def crash(self) -> None:
        """The process dies: its connections are reset, its tasks are dropped, and nothing that they still do has any effect."""
        for transport in self.transports[:]:
            transport.break_off()
        self.alive = False
        for task in list(self.tasks.values()):
            task.cancel()


class Weather:
    """What the network is like: times in seconds, chances between 0 and 1.

    ``reset`` and ``vanish`` are chances per write that the connection is reset, or that nothing gets through it any more in
    this direction, without anybody being told.
    """

    def __init__(self) -> None:
        self.latency = (0.00005, 0.0003)
        self.slow = 0.0
        self.slow_latency = (0.02, 0.2)
        self.split = 0.0
        self.reset = 0.0
        self.vanish = 0.0


class SimTransport(asyncio.Transport):
    """One end of a connection. It has no socket."""

    def __init__(self, network: "SimNetwork", node: Node) -> None:
        super().__init__()
        self._network = network
        self.node = node
        self.peer: SimTransport | None = None
        self.protocol: asyncio.Protocol | None = None
        self._closing = False
        self._lost = False
        self._vanished = False
        self._paused = False
        self._inbox: list[bytes] = []
        self._arrives = 0.0
        node.transports.append(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        if isinstance(protocol, asyncio.Protocol):
            self.protocol = protocol

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        inbox, self._inbox = self._inbox, []
        for data in inbox:
            self._receive(data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data or not self.node.alive:
            return
        for piece in self._network.pieces(bytes(data)):
            if self._network.strikes(self._network.weather.vanish):
                self._vanished = True
            if self._network.strikes(self._network.weather.reset):
                self.break_off()
                return
            self._send(partial(SimTransport._receive, data=piece))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._send(lambda peer: peer._end_of_file())

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever held back."""

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._send(lambda peer: peer._end_of_file())
            self._network.loop.call_soon(self._lose, None)

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self._send(lambda peer: peer._lose(ConnectionResetError(104, "reset by peer")))
            self._network.loop.call_soon(self._lose, None)

    def break_off(self) -> None:
        """Reset the connection, as a kernel does for a process that died."""
        self._send(lambda peer: peer._lose(ConnectionResetError(104, "reset by peer")))
        self._closing = True
        self._network.loop.call_soon(self._lose, ConnectionResetError(104, "reset by peer"))

    def _send(self, tell: "Callable[[SimTransport], None]") -> None:
        peer = self.peer
        if peer is None or self._vanished or not self.node.alive:
            return
        # In order: nothing overtakes what was sent before it.
        self._arrives = max(self._arrives, self._network.loop.time() + self._network.latency())
        self._network.loop.call_at(self._arrives, lambda: peer.node.deliver(lambda: None if peer._lost else tell(peer)))

    def _receive(self, data: bytes) -> None:
        if self._closing or self.protocol is None:
            return
        if self._paused:
            self._inbox.append(data)
        else:
            self.protocol.data_received(data)

    def _end_of_file(self) -> None:
        if self.protocol is not None and not self.protocol.eof_received():
            self.close()

    def _lose(self, exc: Exception | None) -> None:
        if self._lost:
            return
        self._closing = self._lost = True
        if self in self.node.transports:
            self.node.transports.remove(self)
        if self.protocol is not None and self.node.alive:
            self.protocol.connection_lost(exc)


class SimListener:
    """Implements `ports.Listener`."""

    def __init__(self, network: "SimNetwork", address: tuple[str, int]) -> None:
        self._network = network
        self._address = address

    @property
    def port(self) -> int:
        return self._address[1]

    def close(self) -> None:
        self._network.listening.pop(self._address, None)


class SimNetwork:
    """All nodes and what is between them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random) -> None:
        self.loop = loop
        self.weather = Weather()
        self.listening: dict[tuple[str, int], tuple[Node, Callable[[], asyncio.Protocol]]] = {}
        self._rng = rng
        self._next_port = 40_000

    def latency(self) -> float:
        """How long the next thing takes, seconds."""
        low, high = self.weather.slow_latency if self.strikes(self.weather.slow) else self.weather.latency
        return self._rng.uniform(low, high)

    def strikes(self, chance: float) -> bool:
        """Whether something of this chance happens now."""
        return chance > 0 and self._rng.random() < chance

    def pieces(self, data: bytes) -> list[bytes]:
        """The pieces in which data arrives."""
        if len(data) < 2 or not self.strikes(self.weather.split):
            return [data]
        cut = self._rng.randint(1, len(data) - 1)
        return [data[:cut], data[cut:]]

    def port(self) -> int:
        """A port that nobody has."""
        self._next_port += 1
        return self._next_port

    def of(self, node: Node) -> "NodeNetwork":
        """The network as a node sees it."""
        return NodeNetwork(self, node)

    def connect(
        self, factory: Callable[[], asyncio.Protocol], node: Node, other: Node, accept: Callable[[], asyncio.Protocol]
    ) -> tuple[SimTransport, asyncio.Protocol]:
        """Join two nodes at once; the calling side is told first."""
        here, there = SimTransport(self, node), SimTransport(self, other)
        here.peer, there.peer = there, here
        here.protocol = factory()
        there.protocol = accepted = other.run(accept)
        other.run(partial(accepted.connection_made, there))
        here.protocol.connection_made(here)
        return here, here.protocol


class NodeNetwork:
    """Implements `ports.Network` for a node; names are those of the nodes."""

    def __init__(self, network: SimNetwork, node: Node) -> None:
        self._network = network
        self._node = node

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        network = self._network
        await asyncio.sleep(network.latency())
        found = network.listening.get((host, port))
        await asyncio.sleep(network.latency())
        if found is None or not found[0].alive:
            raise ConnectionRefusedError(111, "connection refused")
        other, accept = found
        return network.connect(factory, self._node, other, accept)

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Listener:
        address = (self._node.name, port or self._network.port())
        self._network.listening[address] = (self._node, factory)
        return SimListener(self._network, address)
