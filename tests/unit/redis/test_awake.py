"""The event loop stays awake for an answer of the shared log, but not for one that takes its time."""

import asyncio

from signalyard_router.adapters.redis.log.awake import Awake
from signalyard_router.rules.units import MICROSECOND

MOST = 500 * MICROSECOND


class Waiting:
    """What waits, on a clock that the test sets; the clock knows how often it was asked."""

    def __init__(self, most=MOST):
        self.time = self.asked = 0
        self.awake = Awake(self, most)

    def monotonic(self):
        self.asked += 1
        return self.time

    def send(self):
        self.awake.sent(asyncio.get_running_loop())

    async def turns(self, turns=50):
        """In how many of the next turns the loop is kept from sleeping."""
        before = self.asked
        for _ in range(turns):
            await asyncio.sleep(0)
        return self.asked - before


def test_the_loop_stays_awake_until_the_answer_is_there():
    async def run():
        waiting = Waiting()
        assert await waiting.turns() == 0
        waiting.send()
        assert await waiting.turns() == 50
        waiting.awake.answered()
        assert await waiting.turns() == 0

    asyncio.run(run())


def test_it_sleeps_when_the_answer_takes_longer_and_for_the_next_one_too():
    async def run():
        waiting = Waiting()
        waiting.send()
        waiting.time = MOST - 1
        assert await waiting.turns() == 50
        waiting.time = MOST
        assert await waiting.turns() == 1
        waiting.awake.answered()
        waiting.send()
        assert await waiting.turns() == 0

    asyncio.run(run())


def test_it_stays_awake_again_when_an_answer_was_quick():
    async def run():
        waiting = Waiting()
        waiting.send()
        waiting.time = MOST
        waiting.awake.answered()
        waiting.send()
        waiting.time += MOST - 1
        waiting.awake.answered()
        waiting.send()
        await waiting.turns(1)
        assert await waiting.turns() == 50
        waiting.awake.answered()

    asyncio.run(run())


def test_quick_answers_leave_one_turn_waiting_not_many():
    async def run():
        waiting = Waiting()
        for _ in range(10):
            waiting.send()
            waiting.awake.answered()
        waiting.send()
        await waiting.turns(1)
        assert await waiting.turns() == 50
        waiting.awake.answered()

    asyncio.run(run())


def test_for_no_time_at_all_it_never_stays_awake():
    async def run():
        waiting = Waiting(0)
        waiting.send()
        assert await waiting.turns() == 0
        waiting.awake.answered()

    asyncio.run(run())
