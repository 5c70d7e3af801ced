"""The event loop is kept awake after requests, and sleeps when there are none."""

import asyncio

from signalyard_router.busy_poll import BusyPoll
from signalyard_router.rules.units import MILLISECOND


class CountingClock:
    """A clock that the test sets, and that knows how often it was asked."""

    def __init__(self):
        self.time = 0
        self.asked = 0
        self.first = asyncio.Event()

    def monotonic(self):
        self.asked += 1
        self.first.set()
        return self.time


class Busy:
    """What polls, and how many turns of the loop it took part in."""

    def __init__(self):
        self.clock = CountingClock()
        self.requests = 0
        self.poll = BusyPoll(self.clock, lambda: self.requests, 5 * MILLISECOND)

    async def begins(self):
        """Return once it takes part, which is looked for every now and then."""
        await asyncio.wait_for(self.clock.first.wait(), 10)

    async def turns(self, turns):
        """In how many of the next turns it takes part."""
        before = self.clock.asked
        for _ in range(turns):
            await asyncio.sleep(0)
        return self.clock.asked - before


def test_nothing_is_polled_before_a_request_comes():
    async def run():
        busy = Busy()
        assert await busy.turns(50) == 0
        busy.poll.close()

    asyncio.run(run())


def test_after_a_request_no_turn_sleeps_until_patience_is_over():
    async def run():
        busy = Busy()
        busy.requests = 1
        await busy.begins()
        assert await busy.turns(50) == 50
        busy.clock.time = 5 * MILLISECOND - 1
        assert await busy.turns(50) == 50
        busy.clock.time = 5 * MILLISECOND
        assert await busy.turns(50) <= 1
        busy.poll.close()

    asyncio.run(run())


def test_each_request_begins_it_anew():
    async def run():
        busy = Busy()
        busy.requests = 1
        await busy.begins()
        busy.clock.time = 4 * MILLISECOND
        busy.requests = 2
        assert await busy.turns(2) == 2
        busy.clock.time = 8 * MILLISECOND
        assert await busy.turns(50) == 50
        busy.poll.close()

    asyncio.run(run())


def test_closed_it_lets_the_loop_sleep():
    async def run():
        busy = Busy()
        busy.requests = 1
        await busy.begins()
        busy.poll.close()
        assert await busy.turns(50) == 0

    asyncio.run(run())
