"""A Redis server in memory, as far as a consumer group needs it, and a router that decides as it is told."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from signalyard._redis.errors import LostError, RefusedError
from signalyard.wire import Decision, StateAnswer
from signalyard.words import Outcome, Reason
from signalyard_router.adapters.redis.metrics import RedisMetrics
from signalyard_router.adapters.redis.settings import RedisSettings
from signalyard_router.adapters.redis.source import StreamSource
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.testing.sim.network import Node
from signalyard_router.testing.sim.world import Simulation

STREAM = "signalyard:snapshots"


class Server:
    """Streams and one group. ``lost``: so many answers to acknowledgements are lost after they were acted on or, ``before``,
    before it. Times are the loop's."""

    def __init__(self) -> None:
        self.streams: dict[str, list[tuple[bytes, dict[bytes, bytes]]]] = {}
        self.pending: dict[bytes, list[Any]] = {}  # id -> consumer, since, deliveries
        self.delivered = 0
        self.group = False
        self.lost = 0
        self.before = False
        self.acknowledged: list[bytes] = []
        self.refuse: dict[str, str] = {}
        self._number = 0

    def add(self, stream: str = STREAM, **fields: str | bytes) -> bytes:
        self._number += 1
        entry_id = b"%d-0" % self._number
        made = {k.encode(): v.encode() if isinstance(v, str) else v for k, v in fields.items()}
        self.streams.setdefault(stream, []).append((entry_id, made))
        return entry_id

    async def ask(self, *command: Any, wait: float = 0.0) -> Any:
        (answer,) = await self.ask_all([command], wait=wait)
        if isinstance(answer, RefusedError):
            raise answer
        return answer

    async def ask_all(self, commands: Sequence[Any], *, wait: float = 0.0) -> list[Any]:
        await asyncio.sleep(0.001)
        answers = []
        for words in commands:
            if words[0] in self.refuse:
                answers.append(RefusedError(self.refuse[words[0]]))
                continue
            handler = getattr(self, f"_{words[0].lower()}")
            answer = await handler(wait, *words[1:])
            answers.append(answer)
        return answers

    async def close(self) -> None:
        pass

    def _fields(self, entry_id: bytes) -> list[bytes] | None:
        for number, fields in self.streams.get(STREAM, []):
            if number == entry_id:
                return [part for pair in fields.items() for part in pair]
        return None

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _xgroup(self, wait: float, what: str, *rest: Any) -> Any:
        if what == "CREATE":
            if self.group:
                return RefusedError("BUSYGROUP it is there")
            self.group = True
            self.delivered = 0
            self.streams.setdefault(STREAM, [])
        return b"OK"

    async def _xreadgroup(self, wait: float, *words: Any) -> Any:
        consumer, count, after = words[2], words[4], words[-1]
        if not self.group:
            return RefusedError("NOGROUP there is none")
        if after != ">":
            first = int(bytes(after).split(b"-")[0])
            own = [i for i in self.pending if self.pending[i][0] == consumer and int(i.split(b"-")[0]) > first]
            for entry_id in own[:count]:
                self.pending[entry_id][1:] = [self._now(), self.pending[entry_id][2] + 1]
            return [[STREAM.encode(), [[i, self._fields(i)] for i in own[:count]]]] if own else None
        end = self._now() + wait
        while self.delivered >= len(self.streams[STREAM]) and self._now() < end:  # noqa: ASYNC110 -- time is virtual
            await asyncio.sleep(0.01)
        new = self.streams[STREAM][self.delivered : self.delivered + count]
        self.delivered += len(new)
        for entry_id, _ in new:
            self.pending[entry_id] = [consumer, self._now(), 1]
        return [[STREAM.encode(), [[i, self._fields(i)] for i, _ in new]]] if new else None

    async def _xautoclaim(self, wait: float, *words: Any) -> Any:
        consumer, idle, count = words[2], words[3] / 1000, words[6]
        old = [i for i, (_, since, _) in self.pending.items() if self._now() - since >= idle][:count]
        for entry_id in old:
            self.pending[entry_id] = [consumer, self._now(), self.pending[entry_id][2] + 1]
        gone = [i for i in old if self._fields(i) is None]
        for entry_id in gone:
            del self.pending[entry_id]
        return [b"0-0", [[i, self._fields(i)] for i in old if i not in gone], gone]

    async def _xclaim(self, wait: float, *words: Any) -> Any:
        for entry_id in words[4:-1]:
            if entry_id in self.pending:
                self.pending[entry_id][1] = self._now()
        return []

    async def _xpending(self, wait: float, *words: Any) -> Any:
        if len(words) == 2:
            ids = sorted(self.pending)
            return [len(ids), ids[0] if ids else None, ids[-1] if ids else None, []]
        consumer = words[-1]
        return [[i, who, 0, times] for i, (who, _, times) in self.pending.items() if who == consumer]

    async def _xack(self, wait: float, *words: Any) -> Any:
        if self.lost:
            self.lost -= 1
            if self.before:
                raise LostError("before")
        for entry_id in words[2:]:
            self.pending.pop(entry_id, None)
            self.acknowledged.append(entry_id)
        return len(words) - 2

    async def _xinfo(self, wait: float, *words: Any) -> Any:
        lag = len(self.streams[STREAM]) - self.delivered
        last = b"%d-0" % self.delivered
        flat = [b"name", b"signalyard", b"pending", len(self.pending), b"last-delivered-id", last, b"lag", lag]
        return [flat]

    async def _xtrim(self, wait: float, *words: Any) -> Any:
        return 0

    async def _xadd(self, wait: float, key: Any, *words: Any) -> Any:
        flat = words[words.index("*") + 1 :]
        named = {str(k, "ascii") if isinstance(k, bytes) else k: v for k, v in zip(flat[::2], flat[1::2], strict=True)}
        name = key.decode() if isinstance(key, bytes) else key
        return self.add(name, **{k: v if isinstance(v, bytes) else str(v) for k, v in named.items()})

    async def _expire(self, wait: float, *words: Any) -> Any:
        return 1


class Deciding:
    """Journals by proposal: the same snapshot again gets the same decision. ``hold`` seconds pass before it; while ``down`` the
    journal takes nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.journal: dict[tuple[str, int], int] = {}
        self.hold: Callable[[Row], float] = lambda row: 0.0
        self.down = False
        self.fault: Exception | None = None

    def admit(self, received: int, remaining: int | None = None) -> None:
        pass

    async def decide(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> list[Decision]:
        if self.fault is not None:
            raise self.fault
        decisions = []
        for row in rows:
            assert isinstance(row, Row)
            await asyncio.sleep(self.hold(row))
            self.asked.append((row.symbol, row.ts_event))
            reason = Reason.JOURNAL_UNAVAILABLE if self.down else Reason.DUPLICATE
            if not self.down:
                self.journal.setdefault((row.symbol, row.ts_event), len(self.journal))
            decisions.append(
                Decision(outcome=Outcome.SUPPRESSED, reason=reason, symbol=row.symbol, ts_event=row.ts_event)
            )
        return decisions

    def state(self, symbol: str | None = None, route: str | None = None) -> StateAnswer:
        return StateAnswer(now=1, epoch=2, opinions=[])


class Stage:
    """Consumers on one server, in virtual time."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.server = Server()
        self.router = Deciding()
        self.registry = CollectorRegistry()

    def source(self, consumer: str = "one", **more: Any) -> StreamSource:
        world = self.simulation.world(Node(consumer), self.simulation.disk())
        settings = RedisSettings(url="redis://x", consumer=consumer, **more)
        self.registry = CollectorRegistry()
        return StreamSource(world, settings, self.router, RedisMetrics(self.registry), self.server, self.server)

    def value(self, name: str, **labels: str) -> float:
        found = self.registry.get_sample_value(name, labels)
        assert found is not None, name
        return found

    def snapshot(self, number: int, symbol: str = "rb1.SHFE", **more: str) -> bytes:
        body = f'{{"symbol": "{symbol}", "ts_event": {number}, "features": {{"p": 0.5}}}}'
        return self.server.add(**({"v": "1", "body": body} | more))

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(600):
            while not ready():  # noqa: ASYNC110 -- time is virtual
                await asyncio.sleep(0.05)


@pytest.fixture
def play() -> Callable[..., None]:
    """Run a scenario on a stage, in virtual time."""

    def run(scenario: Callable[[Stage], Any]) -> None:
        simulation = Simulation(1)
        simulation.run(lambda: scenario(Stage(simulation)))
        assert simulation.unhandled == []

    return run
