"""What the journal's tests share."""

import asyncio
import hashlib
import json

import pytest
from prometheus_client import CollectorRegistry

from signalyard import Direction
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings, UpkeepSettings
from signalyard_router.journal.upkeep import Upkeep
from signalyard_router.rules.proposal import Answer, Input, Proposal, columns_json
from signalyard_router.rules.route import GateRules
from signalyard_router.rules.units import SECOND
from signalyard_router.testing.disk import FaultyDisk
from signalyard_router.testing.world import ManualWorld

RULES = GateRules(window=5 * SECOND, valid_for=SECOND)
DIRECTIONS = ("long", "short", "flat", "long", None)


def scored(number: int, *, symbol="", version="7", score=None, **more) -> Proposal:
    """A proposal with an answer, every fifth one an abstention."""
    direction = DIRECTIONS[number % 5]
    value = (number % 97) / 97 if score is None else score
    return Proposal(
        proposal_id=f"{number:032x}",
        symbol=symbol or f"I{number % 3}.X",
        ts_event=1_000 + number,
        ts_recv=1,
        received=0,
        route="r",
        revision="1",
        input=Input(columns_json(("a", "b")), (value, number)),
        direction=direction and Direction(direction),
        abstain=None if direction else "no_direction",
        answer=Answer(value, 0.75, "m", version, f"sha256:{version}", "stable", False),
        commit_by=2**62,
        rules=RULES,
        **more,
    )


class Bench:
    """A journal with its upkeep, opened and reopened as a test needs. Segments are small."""

    def __init__(self, folder, archive=None, **more):
        self.folder = folder
        self.disk = FaultyDisk()
        self.world = ManualWorld(self.disk)
        self.archive = archive
        self.settings = JournalSettings(folder=str(folder), **({"segment_bytes": 2_000} | more))
        self.quick = UpkeepSettings(first_pause_seconds=0.001, longest_pause_seconds=0.002, look_seconds=0.01)
        self.number = 0

    def open(self, upkeep=True):
        self.registry = CollectorRegistry()
        self.journal = LocalJournal(self.world, self.settings, self.registry, "test")
        self.upkeep = None
        if upkeep:
            self.upkeep = Upkeep(self.world, self.settings, self.quick, self.journal, self.registry, self.archive)
            self.upkeep.start()
        return self.journal

    async def close(self):
        if self.upkeep is not None:
            await self.upkeep.close()
        await self.journal.close()

    async def commit(self, count, **more):
        for _ in range(count):
            self.world.clock.advance(SECOND)
            self.number += 1
            await self.journal.commit([scored(self.number, **more)])

    async def fill(self, segments=1):
        """Commit until as many more segments are complete, and wait until their checkpoint is there."""
        for _ in range(segments):
            before = self.journal.segment
            while self.journal.segment == before:
                await self.commit(1)
            name = before.replace("journal", "checkpoint")
            await until(lambda name=name: (self.folder / name).exists())

    def value(self, name, **labels):
        return self.registry.get_sample_value(name, labels)

    def names(self, kind="journal"):
        return sorted(path.name for path in self.folder.glob(f"{kind}-*.jsonl"))

    def lines(self):
        return [line for name in self.names() for line in (self.folder / name).read_bytes().splitlines()]


async def until(condition):
    """Wait for what another task or thread does."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 -- what is waited for is a file or a counter
            await asyncio.sleep(0.001)


def rebuild(folder, change):
    """Doctor a journal: change a record, and rebuild the chain over all segments."""
    prev = "0" * 64
    for path in sorted(folder.glob("journal-*.jsonl")):
        made = []
        for line in path.read_bytes().splitlines():
            record = json.loads(line)
            change(record)
            record["prev"] = prev
            body = json.dumps(record, separators=(",", ":")).encode()
            prev = hashlib.sha256(body).hexdigest()
            made.append(body + b"\n")
        path.write_bytes(b"".join(made))


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "journal")
