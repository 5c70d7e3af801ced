"""What scenarios are made of: servers under load, rounds over all of them in turn, and the rows that come of it."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from signalyard_bench import peer
from signalyard_bench.bodies import columnar, inference, snapshots
from signalyard_bench.load import Load, LoadError, Outcome, Requests
from signalyard_bench.servers import Process, free_ports
from signalyard_bench.stats import Ratio

SERVER, CLIENT = 0, 1
"""The cores."""

SYMBOLS = [f"i{index:04d}.SHFE" for index in range(64)]
PEERS = {"stock": "peer", "stock with httptools": "peer-httptools"}
BATCHES = (1, 10, 100)
"""Rows a request, where batches are compared."""

_MANY_SYMBOLS = [f"i{index:04d}.SHFE" for index in range(400)]


class Row(msgspec.Struct, frozen=True):
    """One row of the table: what was measured, round by round, and how it compares. ``unit`` is of ``ours`` and ``theirs``."""

    scenario: str
    what: str
    unit: str
    ours: list[float]
    theirs: dict[str, list[float]] = {}
    ratios: dict[str, Ratio] = {}
    target: str = ""
    reached: bool | None = None
    note: str = ""


@dataclass(frozen=True)
class Setting:
    """How much is measured, and where things are."""

    root: Path
    work: Path
    rounds: int
    seconds: float
    soak_seconds: float

    def environment(self, name: str) -> Path:
        """An environment that the Makefile makes."""
        return self.root / ".venv" / name

    @property
    def cache(self) -> Path:
        """What is kept between runs."""
        return self.root / ".cache" / "bench"


class _RealNetwork:
    async def connect(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        return await asyncio.get_running_loop().create_connection(factory, host, port)


@dataclass(frozen=True)
class Subject:
    """A server under load, and what it is asked."""

    process: Process
    requests: Requests

    async def closed(self, lanes: int, seconds: float) -> Outcome:
        async with self.connected(lanes) as load:
            return good(await load.closed(seconds))

    async def open(self, rate: float, lanes: int, seconds: float) -> Outcome:
        async with self.connected(lanes) as load:
            return good(await load.open(rate, seconds))

    @asynccontextmanager
    async def connected(self, lanes: int) -> AsyncIterator[Load]:
        """Connections that are kept from run to run."""
        load = Load(_RealNetwork(), time.perf_counter_ns, self.requests)
        await load.connect("127.0.0.1", self.process.port, lanes)
        try:
            yield load
        finally:
            load.close()


def good(outcome: Outcome) -> Outcome:
    """Every answer was a good one. Raises LoadError."""
    if set(outcome.statuses) != {200}:
        raise LoadError(f"not every answer was 200: {outcome.statuses}")
    return outcome


def compared(
    scenario: str,
    what: str,
    unit: str,
    us: Sequence[float],
    them: dict[str, list[float]],
    target: str,
    met: Callable[[float], bool],
    note: str = "",
) -> Row:
    """A row whose target is a ratio to the first of the others."""
    ratios = {name: Ratio.of(us, figures) for name, figures in them.items()}
    first = next(iter(ratios.values()))
    return Row(scenario, what, unit, list(us), them, ratios, target, met(first.median), note)


@contextmanager
def folder(setting: Setting, name: str) -> Iterator[Path]:
    path = setting.work / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path, ignore_errors=True)  # journals grow by a gigabyte a minute; what failed is left for a look


def of_rows(rows: int) -> Requests:
    """Requests to the router of so many snapshots, in columns where they are several."""
    return snapshots(peer.FEATURES, _MANY_SYMBOLS) if rows == 1 else columnar(peer.FEATURES, _MANY_SYMBOLS, rows)


def named(rows: int) -> str:
    """A request of so many snapshots, in words."""
    return "a snapshot" if rows == 1 else f"a batch of {rows}"


def start_peers(setting: Setting, work: Path, stack: ExitStack, rows: int = 1) -> dict[str, Subject]:
    """Both of the peers, with requests of so many rows."""
    model = peer.trained(setting.cache)
    return {
        name: Subject(
            stack.enter_context(
                peer.start(setting.environment(environment), work / environment, model, free_ports(3), SERVER)
            ),
            inference(peer.MODEL, peer.FEATURES, rows),
        )
        for name, environment in PEERS.items()
    }


async def warm(subjects: Sequence[Subject], seconds: float) -> None:
    for subject in subjects:
        await subject.closed(8, seconds)


def tables(subjects: dict[str, Subject]) -> dict[str, list[float]]:
    return {name: [] for name in subjects}


def split(table: dict[str, list[float]], ours: str = "router") -> tuple[list[float], dict[str, list[float]]]:
    """Our figures, and everybody else's."""
    others = dict(table)
    return others.pop(ours), others
