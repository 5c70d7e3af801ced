"""An archive in memory that fails when it is told to."""

import asyncio
from collections.abc import AsyncIterator


class MemoryArchive:
    """Implements `ports.Archive`.

    ``fail``: how many of the next calls raise. ``hang``: calls never return while it is set. ``garble``: what is put arrives damaged
    while it is set. ``calls`` has the name of every call and its object.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fail = 0
        self.hang: asyncio.Event | None = None
        self.garble = False
        self.calls: list[tuple[str, str]] = []

    async def names(self) -> list[str]:
        await self._called("names", "")
        return sorted(self.objects)

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> None:
        await self._called("put", name)
        content = b"".join([piece async for piece in pieces])
        self.objects[name] = content[:-1] if self.garble else content

    async def get(self, name: str) -> AsyncIterator[bytes]:
        await self._called("get", name)
        if name not in self.objects:
            raise FileNotFoundError(name)
        content = self.objects[name]
        half = len(content) // 2
        for piece in (content[:half], content[half:]):
            yield piece

    async def _called(self, verb: str, name: str) -> None:
        self.calls.append((verb, name))
        if self.hang is not None:
            await self.hang.wait()
        if self.fail:
            self.fail -= 1
            raise OSError(f"{verb} {name}: the store is away")
