"""The consumer group, in commands. What the answers look like stands here and nowhere else."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from signalyard._redis.connection import Asking
from signalyard._redis.errors import RefusedError
from signalyard._redis.keys import Keys
from signalyard_router.adapters.redis.entries import Entry, entries, made
from signalyard_router.adapters.redis.settings import RedisSettings


class Standing(NamedTuple):
    """``lag``: entries that the group was not given yet, where the server knows; ``pending``: those that are unfinished. Before ``done``
    every group on the stream has done with all, None where that is not so of any."""

    lag: int
    pending: int
    done: bytes | None


class Claimed(NamedTuple):
    """Entries that were taken over. ``gone``: of so many the stream had no more than the id."""

    entries: list[Entry]
    gone: int


class Group:
    """One consumer of the group, over one connection. Every call raises RedisWireError."""

    def __init__(self, settings: RedisSettings, keys: Keys, server: Asking) -> None:
        self._stream = keys.snapshots
        self._name = settings.group
        self._consumer = settings.consumer
        self._settings = settings
        self._server = server
        self._cursor: bytes | str = "0-0"

    async def join(self) -> None:
        """Make stream and group where they are missing. A new group begins with all that the stream has: a server that lost the group
        may have been given entries since."""
        try:
            await self._server.ask("XGROUP", "CREATE", self._stream, self._name, "0", "MKSTREAM")
        except RefusedError as exc:
            if exc.code != "BUSYGROUP":
                raise

    async def read(self, count: int) -> list[Entry]:
        """The next entries; none where none came for a while."""
        block = self._settings.block_seconds
        words = ("XREADGROUP", "GROUP", self._name, self._consumer, "COUNT", count, "BLOCK", int(block * 1000))
        return entries(await self._server.ask(*words, "STREAMS", self._stream, ">", wait=block))

    async def unfinished(self, after: bytes, count: int) -> list[Entry]:
        """This consumer's own unfinished entries behind ``after``, given to it once more."""
        words = ("XREADGROUP", "GROUP", self._name, self._consumer, "COUNT", count, "STREAMS", self._stream, after)
        found = entries(await self._server.ask(*words))
        return await self._counted(found)

    async def claim(self, count: int) -> Claimed:
        """Take over what others have not finished for a long time, in rounds over all of it."""
        idle = int(self._settings.claim_seconds * 1000)
        words = ("XAUTOCLAIM", self._stream, self._name, self._consumer, idle, self._cursor, "COUNT", count)
        answer = await self._server.ask(*words)
        self._cursor = answer[0]
        found = await self._counted([made(item) for item in answer[1] if item is not None])
        return Claimed(found, len(answer[2]) if len(answer) > 2 else 0)

    async def hold(self, ids: Sequence[bytes]) -> None:
        """These are still under way here, so that nobody takes them over; no delivery is counted."""
        await self._server.ask("XCLAIM", self._stream, self._name, self._consumer, 0, *ids, "JUSTID")

    async def acknowledge(self, ids: Sequence[bytes]) -> None:
        """These are finished."""
        await self._server.ask("XACK", self._stream, self._name, *ids)

    async def look(self) -> Standing:
        """How the group stands."""
        lag = pending = 0
        done: list[bytes] = []
        for said in await self._server.ask("XINFO", "GROUPS", self._stream):
            group = _pairs(said)
            oldest = group[b"last-delivered-id"]
            if group[b"pending"]:
                oldest = (await self._server.ask("XPENDING", self._stream, group[b"name"]))[1] or oldest
            done.append(oldest)
            if group[b"name"] == self._name.encode():
                lag, pending = group.get(b"lag") or 0, group[b"pending"]
        return Standing(lag, pending, min(done, key=_order, default=None))

    async def trim(self, done: bytes) -> None:
        """Remove what lies before ``done``, as far as that is cheap."""
        await self._server.ask("XTRIM", self._stream, "MINID", "~", done)

    async def leave(self) -> None:
        """Forget this consumer, where it has nothing unfinished: that would be forgotten with it."""
        words = ("XPENDING", self._stream, self._name, "-", "+", 1, self._consumer)
        if not await self._server.ask(*words):
            await self._server.ask("XGROUP", "DELCONSUMER", self._stream, self._name, self._consumer)

    async def _counted(self, found: list[Entry]) -> list[Entry]:
        """The entries with how often they were delivered, which the server tells apart from them."""
        if not found:
            return found
        span = (found[0].id, found[-1].id, len(found) + self._settings.most_in_flight)
        told = await self._server.ask("XPENDING", self._stream, self._name, *span, self._consumer)
        deliveries = {item[0]: item[3] for item in told}
        return [entry._replace(deliveries=deliveries.get(entry.id, 1)) for entry in found]


def _pairs(flat: Sequence[Any]) -> dict[bytes, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _order(entry_id: bytes) -> tuple[int, int]:
    first, _, second = entry_id.partition(b"-")
    return int(first), int(second)
