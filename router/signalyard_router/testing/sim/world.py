"""The simulated world: one loop, one network, and a world of its own for each node."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from signalyard_router.ports import Clock, Disk, Network
from signalyard_router.testing.sim.archive import Keeper, SimArchive
from signalyard_router.testing.sim.disk import Needle, SimDisk
from signalyard_router.testing.sim.loop import OWNER, SimLoop
from signalyard_router.testing.sim.network import Node, SimNetwork

BEGINNING = 1_718_900_000_000_000_000
"""The wall clock's time, UTC nanoseconds, when a simulation begins."""

_T = TypeVar("_T")


class SimClock:
    """A node's clocks. Its wall clock may be set; the monotonic one is the loop's."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.offset = 0

    def wall(self) -> int:
        return BEGINNING + self._loop.now + self.offset

    def monotonic(self) -> int:
        return self._loop.now


class SimWorld:
    """Implements `ports.World` for one process."""

    def __init__(self, clock: Clock, network: Network, disk: Disk, rng: random.Random) -> None:
        self.clock = clock
        self.network = network
        self.disk = disk
        self._rng = rng

    def random_bytes(self, count: int) -> bytes:
        return self._rng.randbytes(count)


class Simulation:
    """A world from a seed. `run` plays a scenario in it to its end."""

    def __init__(self, seed: int | str) -> None:
        self.rng = random.Random(seed)
        self.loop = SimLoop()
        self.network = SimNetwork(self.loop, random.Random(self.rng.getrandbits(64)))
        self.clock = SimClock(self.loop)
        self.unhandled: list[str] = []
        self.loop.set_exception_handler(self._note)

    def world(self, node: Node, disk: SimDisk, clock: SimClock | None = None) -> SimWorld:
        """The world of a process that starts on ``node`` and takes ``disk`` over; ``clock`` where it has one of its own."""
        rng = random.Random(self.rng.getrandbits(64))
        return SimWorld(clock or self.clock, self.network.of(node), disk.mount(), rng)

    def disk(self, needle: Needle | None = None) -> SimDisk:
        """A new disk."""
        return SimDisk(random.Random(self.rng.getrandbits(64)), needle)

    def archive(self, keeper: Keeper | None = None) -> SimArchive:
        """A new archive."""
        return SimArchive(random.Random(self.rng.getrandbits(64)), keeper)

    def spawn(self, node: Node, coroutine: Coroutine[Any, Any, _T]) -> "asyncio.Task[_T]":
        """Start a task as a process."""
        return node.run(lambda: self.loop.create_task(coroutine))

    def _note(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what nobody handled, unless it is a dead process that it happened in."""
        source = context.get("task") or context.get("future") or context.get("handle")
        owner = getattr(source, "owner", None) or OWNER.get()
        if isinstance(source, asyncio.Handle):
            owner = source._context.get(OWNER)  # type: ignore[attr-defined]
        if isinstance(owner, Node) and not owner.alive:
            return
        self.unhandled.append(f"{context['message']}: {context.get('exception')!r}")

    def run(self, scenario: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Play a scenario; tasks that it leaves behind are cancelled.

        Raises what the scenario raises, and DeadlockError.
        """
        try:
            return self.loop.run_until_complete(scenario())
        finally:
            left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
            for task in sorted(left, key=hash):
                task.cancel()
            if left:
                self.loop.run_until_complete(asyncio.gather(*sorted(left, key=hash), return_exceptions=True))
            self.loop.close()
