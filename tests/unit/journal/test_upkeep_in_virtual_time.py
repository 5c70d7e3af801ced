"""Upkeep on a simulated disk and clock: the pauses to the nanosecond, and what a loss of power leaves."""

import asyncio
import itertools

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.journal.conftest import scored

from signalyard.problems import RouterError
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings, UpkeepSettings
from signalyard_router.journal.upkeep import Upkeep
from signalyard_router.journal.verify import verify
from signalyard_router.testing.archive import MemoryArchive
from signalyard_router.testing.sim.network import Node
from signalyard_router.testing.sim.world import Simulation


class Process:
    """A journal with its upkeep on a simulated machine."""

    def __init__(self, sim, disk, archive, **more):
        self.world = sim.world(Node("router"), disk)
        self.settings = JournalSettings(folder="j", **({"segment_bytes": 2_000} | more))
        self.registry = CollectorRegistry()
        self.journal = LocalJournal(self.world, self.settings, self.registry, "test")
        self.upkeep = Upkeep(self.world, self.settings, UpkeepSettings(), self.journal, self.registry, archive)
        self.upkeep.start()

    def value(self, name):
        return self.registry.get_sample_value(name)


def test_a_store_that_fails_is_asked_again_after_growing_pauses():
    sim = Simulation(1)

    async def scenario():
        archive = MemoryArchive()
        archive.fail = 10
        process = Process(sim, sim.disk(), archive)
        failed_at = [0]
        for number in range(1, 6):
            await process.journal.commit([scored(number)])
        start = sim.loop.now  # the first attempt has failed at once
        while process.value("signalyard_archive_segments_total") == 0:
            before = process.value("signalyard_archive_failures_total")
            await asyncio.sleep(0.5)
            if process.value("signalyard_archive_failures_total") > before:
                failed_at.append(round((sim.loop.now - start) / 1e9))
        pauses = [later - earlier for earlier, later in itertools.pairwise(failed_at)]
        assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
        await process.upkeep.close()
        await process.journal.close()

    sim.run(scenario)


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_a_journal_that_was_away_comes_back_though_nothing_is_committed(durability):
    sim = Simulation(1)

    async def scenario():
        disk = sim.disk()
        process = Process(sim, disk, None, durability=durability)
        disk.room = 0
        with pytest.raises(RouterError):
            await process.journal.commit([scored(1)])
        await asyncio.sleep(60)
        assert not process.journal.available
        disk.room = None
        await asyncio.sleep(11)
        assert process.journal.available
        await process.upkeep.close()
        await process.journal.close()

    sim.run(scenario)


@pytest.mark.parametrize("durability", ["os", "fsync"])
@pytest.mark.parametrize("seed", range(30))
def test_after_a_loss_of_power_a_checkpoint_stands_on_its_records_or_is_not_used(seed, durability):
    sim = Simulation(seed)

    async def scenario():
        archive, disk = MemoryArchive(), sim.disk()
        process = Process(sim, disk, archive, durability=durability, keep_bytes=1)
        number = 0
        for _ in range(3):
            for _ in range(sim.rng.randint(5, 25)):
                number += 1
                await process.journal.commit([scored(number)])
                await asyncio.sleep(sim.rng.choice([0, 0.0001, 0.01]))
            await process.upkeep.close()
            disk.mount()  # the process is dead
            if durability == "fsync":
                disk.lose_power()
            process = Process(sim, disk, archive, durability=durability, keep_bytes=1)
            settled = process.journal.settled(f"{number:032x}")
            assert settled is not None  # nothing acknowledged is lost, whatever was dropped
        await asyncio.sleep(60)
        (report,) = await verify(process.world.disk, "j", archive)
        assert (report.since, report.seq, report.notes) == (1, process.journal.sequence, [])
        assert report.kinds["decision"] == number
        await process.upkeep.close()
        await process.journal.close()

    sim.run(scenario)
