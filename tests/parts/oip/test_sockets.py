"""Real TCP: what the tests in memory assert of order and loss, once more where the kernel has a say."""

import asyncio

import pytest

from signalyard.problems import ModelError, Problem
from signalyard_router.rules.route import Endpoint, Target
from signalyard_router.testing.model_server import Behaviour

pytestmark = pytest.mark.parts

CASES = [
    (Behaviour.HANG, Problem.MODEL_TIMEOUT),
    (Behaviour.LATE, Problem.MODEL_TIMEOUT),
    (Behaviour.FAIL, Problem.MODEL_FAILED),
    (Behaviour.OVERLOADED, Problem.MODEL_OVERLOADED),
    (Behaviour.GARBAGE, Problem.MODEL_ANSWER_MALFORMED),
    (Behaviour.WRONG_ID, Problem.MODEL_ANSWER_WRONG_ID),
    (Behaviour.NAN, Problem.MODEL_ANSWER_MALFORMED),
    (Behaviour.HALF, Problem.MODEL_ANSWER_MALFORMED),
    (Behaviour.HALF_RESET, Problem.MODEL_ANSWER_MALFORMED),
    (Behaviour.CLOSE, Problem.MODEL_UNREACHABLE),
    (Behaviour.RESET, Problem.MODEL_UNREACHABLE),
    (Behaviour.HUGE, Problem.MODEL_ANSWER_MALFORMED),
    (Behaviour.HUGE_HEADER, Problem.MODEL_ANSWER_MALFORMED),
]


@pytest.mark.parametrize(("behaviour", "problem"), CASES)
def test_the_problem_is_right_and_the_next_answer_is_its_own(play, behaviour, problem):
    async def scenario(stage):
        stage.server.script.append(behaviour)
        hangs = problem is Problem.MODEL_TIMEOUT
        started = stage.world.clock.monotonic()
        with pytest.raises(ModelError) as caught:
            await stage.score(0.25, seconds=0.1 if hangs else 10)
        assert caught.value.problem == problem
        assert stage.world.clock.monotonic() - started < (2e9 if hangs else 9e9)
        assert await stage.score(0.75) == [0.75]

    play(scenario, max_answer_bytes=100_000, max_header_bytes=10_000)


@pytest.mark.parametrize(
    "behaviour", [Behaviour.TWICE, Behaviour.EXTRA, Behaviour.LAST, Behaviour.THEN_CLOSE, Behaviour.DRIBBLE]
)
def test_a_right_answer_counts_whatever_comes_behind_it(play, behaviour):
    async def scenario(stage):
        for value in (0.25, 0.5, 0.75):
            stage.server.script.append(behaviour)
            assert await stage.score(value) == [value]

    play(scenario)


def test_one_connection_serves_calls_in_turn_and_many_serve_calls_at_once(play):
    async def scenario(stage):
        for index in range(20):
            assert await stage.score(index / 20) == [index / 20]
        assert stage.server.accepted == 1
        answers = await asyncio.gather(*(stage.score(index / 32, -index) for index in range(32)))
        assert answers == [[index / 32, -index] for index in range(32)]
        assert stage.server.accepted == 32

    play(scenario)


def test_kept_connections_that_died_cost_no_call(play):
    async def scenario(stage):
        for value in (0.25, 0.5):
            await asyncio.gather(*(stage.score(value) for _ in range(4)))
            stage.server.drop()  # not a moment is left to notice it
            assert await stage.score(value) == [value]
        stage.server.script.append(Behaviour.RESET)
        assert await stage.score(0.75) == [0.75]

    play(scenario)


def test_a_port_where_nobody_listens_is_known_at_once(play):
    async def scenario(stage):
        nowhere = stage.target
        stage.server.stop()
        started = stage.world.clock.monotonic()
        with pytest.raises(ModelError) as caught:
            await stage.score(0.5, seconds=30, target=nowhere)
        assert caught.value.problem == Problem.MODEL_UNREACHABLE
        assert stage.world.clock.monotonic() - started < 5e9

    play(scenario)


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".invalid"])
def test_a_host_that_cannot_be_one_is_unreachable(play, host):
    async def scenario(stage):
        with pytest.raises(ModelError) as caught:
            await stage.score(0.5, target=Target("rb-trend", "7", (Endpoint(host, 80),)))
        assert caught.value.problem == Problem.MODEL_UNREACHABLE

    play(scenario)


def test_cancelling_closes_the_connection(play):
    async def scenario(stage):
        stage.server.script.append(Behaviour.HANG)
        call = asyncio.ensure_future(stage.score(0.5))
        await stage.until(lambda: stage.server.requests)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await stage.until(lambda: not stage.server.open)
        assert await stage.score(0.75) == [0.75]

    play(scenario)


def test_a_card_is_learnt(play):
    async def scenario(stage):
        await stage.upstream.start([stage.target])
        await stage.upstream.first_round.wait()
        card = stage.upstream.card(stage.target)
        assert card is not None
        assert card.calibrated
        assert card.schema.names == ("close", "ret_5")

    play(scenario)


def test_a_large_batch_fills_buffers_and_still_arrives(play):
    async def scenario(stage):
        values = [index / 100_000 for index in range(100_000)]
        assert await stage.score(*values, seconds=20) == values

    play(scenario)
