"""Connections in memory. What is written arrives in order, later, and perhaps in pieces; unless something goes wrong."""

import asyncio
import random
import ssl
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Literal, Protocol, TypeVar

from signalyard_router.ports import Listener
from signalyard_router.testing.sim.loop import OWNER, SimLoop, SimTask

_T = TypeVar("_T")

_RESET = 104
_REFUSED = 111

Happening = Literal["opened", "in", "out", "eof", "reset", "lost"]
"""What an ear hears of a connection's end: it opened; bytes came in or went out; the peer ended or reset it; it is gone."""


class Ear(Protocol):
    """Whoever listens at the socket's edge of a node."""

    def __call__(self, what: Happening, transport: "SimTransport", data: bytes) -> None:
        """Something happened at one end of a connection."""
        ...


class Node:
    """A process on the network. A frozen one does nothing, and goes on where it stood when it is thawed; a dead one is gone.

    Its tasks, callbacks and timers are those that were started in its context, and whatever these started.
    """

    def __init__(self, name: str, ear: Ear | None = None) -> None:
        self.name = name
        self.ear = ear
        self.alive = True
        self.frozen = False
        self.silent = False
        self.halted = False
        self.transports: dict[SimTransport, None] = {}
        self.tasks: dict[int, SimTask[Any]] = {}
        self.context = copy_context()
        self.context.run(OWNER.set, self)
        self._held: list[asyncio.Handle] = []

    def run(self, what: Callable[[], _T]) -> _T:
        """Call something as this process."""
        return self.context.copy().run(what)

    def hold(self, handle: asyncio.Handle) -> bool:
        if self.frozen:
            self._held.append(handle)
            return True
        # What a dead process still unwinds has no effect; it sets no alarm clock.
        return not self.alive and isinstance(handle, asyncio.TimerHandle)

    def adopt(self, task: SimTask[Any]) -> None:
        self.tasks[task.number] = task
        task.add_done_callback(self._release)

    def _release(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(hash(task), None)

    def freeze(self) -> None:
        """Stop doing anything, as by SIGSTOP: the kernel goes on accepting connections and keeping what arrives."""
        self.frozen = self.halted = True

    def thaw(self, loop: SimLoop) -> None:
        """Go on where it stood."""
        self.frozen = False
        self.halted = not self.alive
        held, self._held = self._held, []
        loop.again(held)

    def crash(self, loop: SimLoop, *, silent: bool = False) -> None:
        """The process dies. Its connections are reset by the kernel, or ``silent``, where the machine has lost power.

        Its tasks are cancelled only after nothing that they still do has any effect; fence the disk off before.
        """
        for transport in list(self.transports):
            transport.break_off(silent=silent)
        self.alive, self.silent, self.halted = False, silent, True
        for task in list(self.tasks.values()):
            task.cancel()
        if self.frozen:
            self.thaw(loop)


class Weather:
    """What the network is like: times in seconds, chances between 0 and 1.

    ``reset`` and ``vanish`` are chances per write that the connection is reset, or that nothing gets through it any more in
    this direction, without anybody being told; ``vanish`` is also the chance that nobody answers an attempt to connect.
    """

    def __init__(self) -> None:
        self.latency = (0.00005, 0.0003)
        self.slow = 0.0
        self.slow_latency = (0.02, 0.2)
        self.split = 0.0
        self.reset = 0.0
        self.vanish = 0.0


class SimTransport(asyncio.Transport):
    """One end of a connection. It has no socket. ``number`` is its connection's, ``accepted`` whether it is the server's end."""

    def __init__(self, network: "SimNetwork", node: Node, number: int, weather: Weather, *, accepted: bool) -> None:
        super().__init__()
        self._network = network
        self._loop = network.loop
        self._weather = weather
        self.node = node
        self.number = number
        self.accepted = accepted
        self.peer: SimTransport | None = None
        self.protocol: asyncio.Protocol | None = None
        self._closing = False
        self._lost = False
        self._vanished = False
        self._paused = False
        self._inbox: list[bytes | None] = []
        self._arrives = 0
        node.transports[self] = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self._closing

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        if isinstance(protocol, asyncio.Protocol):
            self.protocol = protocol

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        # Not from within: a protocol does not expect data before its call has returned.
        if self._paused:
            self._paused = False
            self._loop.call_soon(self._read_on, context=self.node.context)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or not data or not self.node.alive:
            return
        self._hear("out", bytes(data))
        weather, network = self._weather, self._network
        for piece in network.pieces(weather, bytes(data)):
            if network.strikes(weather.vanish):
                self._vanished = True
            if network.strikes(weather.reset):
                self.break_off()
                return
            self._send(SimTransport._arrive, piece)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self._send(SimTransport._arrive, None)

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever held back."""

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._send(SimTransport._arrive, None)
            self._loop.call_soon(self._lose, None, context=self.node.context)

    def abort(self) -> None:
        if not self._closing:
            self._closing = True
            self._send(SimTransport._reset)
            self._loop.call_soon(self._lose, None, context=self.node.context)

    def vanish(self) -> None:
        """Let nothing get through from here on, in this direction."""
        self._vanished = True

    def break_off(self, *, silent: bool = False) -> None:
        """Reset the connection from without, as a middlebox does, or the kernel for a process that died."""
        if not silent:
            self._send(SimTransport._reset)
            self._hear("reset")
        self._closing = True
        self._loop.call_soon(self._lose, ConnectionResetError(_RESET, "reset by peer"), context=self.node.context)

    def open(self, protocol: asyncio.Protocol) -> None:
        """Give the end its protocol."""
        self.protocol = protocol
        self._hear("opened")
        protocol.connection_made(self)

    def accept(self, factory: Callable[[], asyncio.Protocol]) -> None:
        """Give the server's end its protocol."""
        if not self._lost:
            self.open(factory())

    def _send(self, tell: Callable[..., None], *args: Any) -> None:
        peer = self.peer
        if peer is None or self._vanished or not self.node.alive:
            return
        # In order: nothing overtakes what was sent before it.
        self._arrives = max(self._arrives, self._loop.now + round(1e9 * self._network.latency(self._weather)))
        if peer.node.silent:
            # The machine that lost power is up again, and its kernel knows nothing of this connection.
            if self._network.up(peer.node.name):
                self._loop.call_at(self._arrives / 1e9, self._reset, context=self.node.context)
            return
        self._loop.call_at(self._arrives / 1e9, tell, peer, *args, context=peer.node.context)

    def _arrive(self, data: bytes | None) -> None:
        if self._closing or self.protocol is None:
            return
        if self._paused or self._inbox:
            self._inbox.append(data)
        else:
            self._read(data)

    def _read_on(self) -> None:
        while self._inbox and not self._paused and not self._closing:
            self._read(self._inbox.pop(0))

    def _read(self, data: bytes | None) -> None:
        assert self.protocol is not None, "the end was not opened"
        if data is not None:
            self._hear("in", data)
            self.protocol.data_received(data)
            return
        self._hear("eof")
        if not self.protocol.eof_received():
            self.close()

    def _reset(self) -> None:
        self._hear("reset")
        self._lose(ConnectionResetError(_RESET, "reset by peer"))

    def _lose(self, exc: Exception | None) -> None:
        if self._lost:
            return
        self._closing = self._lost = True
        self.node.transports.pop(self, None)
        if self.protocol is not None and self.node.alive:
            self._hear("lost")
            self.protocol.connection_lost(exc)

    def _hear(self, what: Happening, data: bytes = b"") -> None:
        ear = self.node.ear
        if ear is not None:
            ear(what, self, data)


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
    """All nodes and what is between them. ``weathers`` has the weather of the way to a node, where it is not that of all."""

    def __init__(self, loop: SimLoop, rng: random.Random) -> None:
        self.loop = loop
        self.weather = Weather()
        self.weathers: dict[str, Weather] = {}
        self.listening: dict[tuple[str, int], tuple[Node, Callable[[], asyncio.Protocol]]] = {}
        self.connections = 0
        self._rng = rng
        self._next_port = 40_000

    def latency(self, weather: Weather) -> float:
        """How long the next thing takes, seconds."""
        low, high = weather.slow_latency if self.strikes(weather.slow) else weather.latency
        return low + (high - low) * self._rng.random()

    def strikes(self, chance: float) -> bool:
        """Whether something of this chance happens now."""
        return chance > 0 and self._rng.random() < chance

    def pieces(self, weather: Weather, data: bytes) -> list[bytes]:
        """The pieces in which data arrives."""
        if len(data) < 2 or not self.strikes(weather.split):
            return [data]
        cut = self._rng.randint(1, len(data) - 1)
        return [data[:cut], data[cut:]]

    def up(self, name: str) -> bool:
        """Whether a process listens on the node of this name."""
        return any(node.alive for (host, _), (node, _) in self.listening.items() if host == name)

    def port(self) -> int:
        """A port that nobody has."""
        self._next_port += 1
        return self._next_port

    def of(self, node: Node) -> "NodeNetwork":
        """The network as a node sees it."""
        return NodeNetwork(self, node)

    def join(self, node: Node, other: Node, weather: Weather) -> tuple[SimTransport, SimTransport]:
        """The two ends of a new connection."""
        self.connections += 1
        here = SimTransport(self, node, self.connections, weather, accepted=False)
        there = SimTransport(self, other, self.connections, weather, accepted=True)
        here.peer, there.peer = there, here
        return here, there


class NodeNetwork:
    """Implements `ports.Network` for a node; names are those of the nodes."""

    def __init__(self, network: SimNetwork, node: Node) -> None:
        self._network = network
        self._node = node

    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        assert tls is None, "the simulated network does not encrypt"
        network = self._network
        weather = network.weathers.get(host, network.weather)
        await asyncio.sleep(network.latency(weather))
        found = network.listening.get((host, port))
        if network.strikes(weather.vanish) or (found is not None and found[0].silent):
            await network.loop.create_future()
        await asyncio.sleep(network.latency(weather))
        if found is None or not found[0].alive or network.listening.get((host, port)) is not found:
            raise ConnectionRefusedError(_REFUSED, "connection refused")
        other, accept = found
        here, there = network.join(self._node, other, weather)
        # The kernel accepts for a process that is frozen; the process sees it later.
        network.loop.call_soon(there.accept, accept, context=other.context)
        protocol = factory()
        here.open(protocol)
        return here, protocol

    async def connect_path(
        self, factory: Callable[[], asyncio.Protocol], path: str
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        raise ConnectionRefusedError(_REFUSED, f"connection refused: a simulated machine has no socket {path}")

    async def listen(self, factory: Callable[[], asyncio.Protocol], host: str, port: int) -> Listener:
        address = (self._node.name, port or self._network.port())
        self._network.listening[address] = (self._node, factory)
        return SimListener(self._network, address)
