"""An object store over the network, for simulated worlds. It outlives the processes that use it."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Protocol


class Keeper(Protocol):
    """Whoever watches what comes to lie in an archive."""

    def __call__(self, name: str, content: bytes) -> None:
        """An object is there from now on."""
        ...


class SimArchive:
    """``fail``, ``hang``: calls do; ``garble``: half of what is put arrives damaged. ``seconds``: what a call takes."""

    def __init__(self, rng: random.Random, keeper: Keeper | None = None) -> None:
        self._rng = rng
        self._keeper = keeper
        self.objects: dict[str, bytes] = {}
        self.fail = False
        self.hang = False
        self.garble = False
        self.seconds = 0.002

    def mount(self, alive: Callable[[], bool]) -> "MountedArchive":
        """The archive as one process sees it; ``alive`` says whether that still has any effect."""
        return MountedArchive(self, alive)

    def store(self, name: str, content: bytes) -> None:
        """Have an object, whole or, where the archive garbles, damaged."""
        self.objects[name] = content[:-1] if self.garble and self._rng.random() < 0.5 else content
        if self._keeper is not None:
            self._keeper(name, self.objects[name])

    def arrived(self) -> bool:
        """Whether a request whose sender went away had arrived before."""
        return self._rng.random() < 0.5


class MountedArchive:
    """Implements `ports.Archive` for one process."""

    def __init__(self, archive: SimArchive, alive: Callable[[], bool]) -> None:
        self._archive = archive
        self._alive = alive

    async def names(self) -> list[str]:
        await self._called("names")
        return sorted(self._archive.objects)

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        content = b"".join([piece async for piece in pieces])
        try:
            await self._called(name)
        except asyncio.CancelledError:
            # Given up, or dead: what was sent may have arrived all the same, whole or not at all.
            if self._archive.arrived():
                self._archive.store(name, content)
            raise
        self._archive.store(name, content)

    async def get(self, name: str) -> AsyncIterator[bytes]:
        await self._called(name)
        content = self._archive.objects.get(name)
        if content is None:
            raise FileNotFoundError(name)
        yield content

    async def _called(self, name: str) -> None:
        if not self._alive():
            raise OSError(f"{name}: this process is dead")
        if self._archive.hang:
            await asyncio.get_running_loop().create_future()
        await asyncio.sleep(self._archive.seconds)
        if self._archive.fail:
            raise OSError(f"{name}: the store is away")
