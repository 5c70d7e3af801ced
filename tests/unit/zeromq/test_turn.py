"""What came in a turn of the loop begins when the turn has ended, in the order in which it came."""

import asyncio

from signalyard_router.adapters.zeromq.turn import Turn


def test_it_begins_when_the_turn_has_ended_and_once():
    async def scenario():
        begun = []
        turn = Turn(begun.append)
        turn.add(1)
        turn.add(2)
        assert (begun, len(turn)) == ([], 2)
        await asyncio.sleep(0)
        assert (begun, len(turn)) == ([1, 2], 0)
        turn.add(3)
        turn.end()  # a shutdown does not wait for it
        await asyncio.sleep(0)
        assert begun == [1, 2, 3]

    asyncio.run(scenario())


def test_what_comes_meanwhile_has_a_turn_of_its_own():
    async def scenario():
        begun = []

        def begin(one):
            begun.append(one)
            if one == 1:
                turn.add(9)

        turn = Turn(begin)
        turn.add(1)
        turn.add(2)
        await asyncio.sleep(0)
        assert begun == [1, 2]
        await asyncio.sleep(0)
        assert begun == [1, 2, 9]

    asyncio.run(scenario())
