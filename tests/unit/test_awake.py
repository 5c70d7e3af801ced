"""The event loop stays awake for an answer, but not for one that takes its time."""

import asyncio

from signalyard_router.awake import Awake
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


async def awake_for(waiting, appends, took):
    """For which of the next appends the loop stays awake; their answers take ``took`` nanoseconds."""
    found = []
    for number in range(appends):
        waiting.send()
        await waiting.turns(1)
        if await waiting.turns(1):
            found.append(number)
        waiting.time += took
        await waiting.turns(2)
        waiting.awake.answered()
        await waiting.turns(2)
    return found


def test_it_sleeps_when_the_answer_takes_longer():
    async def run():
        waiting = Waiting()
        waiting.send()
        waiting.time = MOST - 1
        assert await waiting.turns() == 50
        waiting.time = MOST
        assert await waiting.turns() == 1
        waiting.awake.answered()

    asyncio.run(run())


def test_answers_that_take_longer_are_waited_for_awake_ever_more_rarely():
    async def run():
        waiting = Waiting()
        assert await awake_for(waiting, 40, MOST) == [0, 2, 6, 14, 30]

    asyncio.run(run())


def test_where_it_never_helps_it_is_tried_with_one_append_of_a_thousand():
    async def run():
        waiting = Waiting()
        tried = await awake_for(waiting, 5000, MOST)
        assert [later - before for before, later in zip(tried[-3:], tried[-2:], strict=False)] == [1024, 1024]

    asyncio.run(run())


def test_after_an_answer_that_came_in_time_it_stays_awake_for_all():
    async def run():
        waiting = Waiting()
        assert await awake_for(waiting, 6, MOST) == [0, 2]
        assert await awake_for(waiting, 20, MOST - 1) == list(range(20)), "the next try is the seventh"
        assert await awake_for(waiting, 3, MOST) == [0, 2]

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
