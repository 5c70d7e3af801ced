"""Each way in which a model server fails: the right problem, in time, and the next call gets its own right answer."""

import asyncio

import pytest

from signalyard.problems import ModelError, Problem
from signalyard_router.testing.model_server import Behaviour

# behaviour, problem, whether its connection may be used again
CASES = [
    (Behaviour.HANG, Problem.MODEL_TIMEOUT, False),
    (Behaviour.LATE, Problem.MODEL_TIMEOUT, False),
    (Behaviour.DRIBBLE, Problem.MODEL_TIMEOUT, False),
    (Behaviour.NOT_FOUND, Problem.MODEL_UNKNOWN, True),
    (Behaviour.FAIL, Problem.MODEL_FAILED, True),
    (Behaviour.OVERLOADED, Problem.MODEL_OVERLOADED, True),
    (Behaviour.EXPIRED, Problem.MODEL_TIMEOUT, True),
    (Behaviour.GARBAGE, Problem.MODEL_ANSWER_MALFORMED, False),
    (Behaviour.NOT_JSON, Problem.MODEL_ANSWER_MALFORMED, False),
    (Behaviour.NOT_TEXT, Problem.MODEL_ANSWER_MALFORMED, False),
    (Behaviour.WRONG_SHAPE, Problem.MODEL_ANSWER_WRONG_SHAPE, False),
    (Behaviour.WRONG_ID, Problem.MODEL_ANSWER_WRONG_ID, False),
    (Behaviour.WRONG_VERSION, Problem.MODEL_ANSWER_WRONG_VERSION, False),
    (Behaviour.NAN, Problem.MODEL_ANSWER_MALFORMED, False),
    (Behaviour.NULL, Problem.MODEL_ANSWER_NOT_FINITE, False),
    (Behaviour.HALF, Problem.MODEL_ANSWER_MALFORMED, False),
    (Behaviour.HALF_RESET, Problem.MODEL_ANSWER_MALFORMED, False),
    (Behaviour.NO_LENGTH, Problem.MODEL_ANSWER_MALFORMED, False),
    (Behaviour.CLOSE, Problem.MODEL_UNREACHABLE, False),
    (Behaviour.RESET, Problem.MODEL_UNREACHABLE, False),
    (Behaviour.HUGE, Problem.MODEL_ANSWER_MALFORMED, False),
    (Behaviour.HUGE_HEADER, Problem.MODEL_ANSWER_MALFORMED, False),
]


@pytest.mark.parametrize(("behaviour", "problem", "reused"), CASES)
def test_the_problem_is_right_and_the_next_answer_is_its_own(play, behaviour, problem, reused):
    async def scenario(stage):
        stage.server.late_seconds = 0.15
        stage.server.dribble_seconds = 0.01
        stage.server.script.append(behaviour)
        started = stage.now
        with pytest.raises(ModelError) as caught:
            await stage.score(0.25)
        assert caught.value.problem == problem
        assert stage.now <= started + 100_000_000
        assert stage.result(problem) == 1

        assert (await stage.score(0.75)).score == [0.75]
        first, second = stage.server.inferences
        assert (first.connection == second.connection) is reused
        await asyncio.sleep(0.3)  # whatever still comes of the first answer finds nobody
        assert (await stage.score(0.5)).score == [0.5]

    play(scenario, max_answer_bytes=100_000, max_header_bytes=10_000)


@pytest.mark.parametrize("behaviour", [Behaviour.TWICE, Behaviour.EXTRA, Behaviour.LAST, Behaviour.THEN_CLOSE])
def test_a_right_answer_with_something_behind_it_counts_and_ends_the_connection(play, behaviour):
    async def scenario(stage):
        stage.server.script.append(behaviour)
        assert (await stage.score(0.25)).score == [0.25]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert (await stage.score(0.75)).score == [0.75]
        first, second = stage.server.inferences
        assert first.connection != second.connection

    play(scenario)


def test_an_answer_that_comes_again_while_nobody_asks_ends_the_connection(play):
    async def scenario(stage):
        stage.server.script.append(Behaviour.AGAIN)
        assert (await stage.score(0.25)).score == [0.25]
        assert stage.connections("idle") == 1
        await asyncio.sleep(0.3)
        assert stage.connections("idle") == 0
        assert (await stage.score(0.75)).score == [0.75]

    play(scenario)


def test_an_answer_that_comes_again_while_another_is_awaited_is_not_taken_for_it(play):
    async def scenario(stage):
        stage.server.late_seconds = 0.02
        stage.server.script.extend([Behaviour.AGAIN, Behaviour.HANG])
        assert (await stage.score(0.25)).score == [0.25]
        with pytest.raises(ModelError) as caught:
            await stage.score(0.75)
        assert caught.value.problem == Problem.MODEL_ANSWER_WRONG_ID
        assert (await stage.score(0.5)).score == [0.5]

    play(scenario)


def test_a_chunked_answer_after_an_interim_one_is_an_answer(play):
    async def scenario(stage):
        stage.server.script.append(Behaviour.CHUNKED)
        assert (await stage.score(0.25, 0.5)).score == [0.25, 0.5]
        assert (await stage.score(0.75)).score == [0.75]
        assert stage.server.accepted == 1

    play(scenario)


def test_an_answer_byte_by_byte_is_an_answer(play):
    async def scenario(stage):
        stage.server.script.append(Behaviour.DRIBBLE)
        assert (await stage.score(0.25)).score == [0.25]
        assert stage.server.accepted == 1 or stage.connections("idle") == 1

    play(scenario)


def test_the_text_of_an_error_is_told_in_printable_characters(play):
    async def scenario(stage):
        stage.server.script.append(Behaviour.FAIL)
        with pytest.raises(ModelError) as caught:
            await stage.score()
        assert caught.value.detail == "status 500: the model fell [31mover"
        assert caught.value.__cause__ is not None

    play(scenario)
