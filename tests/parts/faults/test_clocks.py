"""A wall clock that is set while the router runs: in this process, with real sockets, on a clock that can be stepped."""

import asyncio
import time

from signalyard import Snapshot
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.main import ProcessSettings, running
from signalyard_router.rules.levers import Order
from signalyard_router.rules.units import MILLISECOND, SECOND
from signalyard_router.world.real import RealClock, RealWorld


class SteppedClock(RealClock):
    """The machine's clocks, the wall clock as somebody set it."""

    def __init__(self):
        self.offset = 0

    def wall(self):
        return time.time_ns() + self.offset


def test_the_wall_clock_is_set_forward_and_back(router):
    world = RealWorld()
    world.clock = clock = SteppedClock()
    settings = ProcessSettings(routes=router.routes, journal=JournalSettings(folder=str(router.journal)))

    async def run():
        async with running(settings, world=world) as (inside, board, *_):

            async def ask(p, at=None, name="rb1.SHFE"):
                row = Snapshot(symbol=name, ts_event=clock.wall() if at is None else at, features={"p": p})
                (decision,) = await inside.predict(row)
                return decision.outcome, decision.problem.code if decision.problem else decision.reason

            assert await ask(0.9) == ("emitted", None)
            assert await ask(0.9) == ("suppressed", "duplicate")
            lever = await board.pull(Order(action="pause", by="ann", why="x", expires_in=60 * SECOND))

            # a little back, as NTP does: time stands still in the journal, and decisions go on
            clock.offset -= 200 * MILLISECOND
            assert await ask(0.9, name="rb2.SHFE") == ("suppressed", "paused")
            await board.pull(Order(action="resume", by="ann", why="x", lever=lever.id))
            assert await ask(0.9, name="rb2.SHFE") == ("emitted", None)
            assert await ask(0.9, name="rb2.SHFE") == ("suppressed", "duplicate")

            # an hour forward: windows are over, feeds on the true time are too old
            clock.offset += 3600 * SECOND
            assert await ask(0.9, at=time.time_ns()) == ("rejected", "snapshot_too_old")
            assert await ask(0.9) == ("emitted", None)

            # and back: nothing that the hour forbids gets out, nothing is made up for, and no answer takes longer
            clock.offset -= 3600 * SECOND
            assert await ask(0.9) == ("rejected", "snapshot_too_old")
            assert await ask(0.1) == ("rejected", "snapshot_too_old")

            # once the clock is where it had been, everything goes on
            clock.offset += 3600 * SECOND
            assert await ask(0.9) == ("suppressed", "duplicate")
            assert await ask(0.1) == ("emitted", None)

    asyncio.run(run())
    times = [record["t"] for kind in ("start", "route", "lever", "decision") for record in router.records(kind)]
    decided = [record["t"] for record in router.records()]
    assert decided == sorted(decided)
    assert max(times) == decided[-1]
    assert max(record["elapsed_us"] for record in router.records()) < 300_000
    assert router.run("journal", "verify", "--journal", str(router.journal)).returncode == 0
