"""No call outlasts its time, wherever it is spent; virtual time makes that exact."""

import asyncio

import pytest

from signalyard.problems import ModelError, Problem
from signalyard.profile import decode_response
from signalyard.wire import BUDGET_HEADER
from signalyard_router.adapters.oip import request
from signalyard_router.rules.route import Endpoint, Target
from signalyard_router.testing.model_server import Behaviour


async def expired(stage, seconds):
    started = stage.now
    with pytest.raises(ModelError) as caught:
        await stage.score(seconds=seconds)
    assert caught.value.problem == Problem.MODEL_TIMEOUT
    return (stage.now - started) / 1e9


def test_a_server_that_hangs_costs_the_budget_and_no_more(play):
    async def scenario(stage):
        stage.server.behaviour = Behaviour.HANG
        assert await expired(stage, 0.06) == pytest.approx(0.06, abs=1e-8)

    play(scenario)


def test_connecting_counts(play):
    async def scenario(stage):
        stage.world.network.connect_seconds = 30
        assert await expired(stage, 0.06) == pytest.approx(0.06, abs=1e-8)
        assert stage.connections("busy") == 0

    play(scenario)


def test_waiting_for_a_connection_counts(play):
    async def scenario(stage):
        stage.server.behaviour = Behaviour.HANG
        first = asyncio.ensure_future(stage.score(seconds=0.2))
        await asyncio.sleep(0)
        assert await expired(stage, 0.06) == pytest.approx(0.06, abs=1e-8)
        with pytest.raises(ModelError):
            await first
        stage.server.behaviour = Behaviour.GOOD
        assert (await stage.score(0.75)).score == [0.75]

    play(scenario, max_open=1)


@pytest.mark.parametrize("seconds", [0, -1, 0.0000005])
def test_a_spent_budget_sends_nothing(play, seconds):
    async def scenario(stage):
        assert await expired(stage, seconds) <= 1e-6
        await stage.score()
        assert await expired(stage, seconds) <= 1e-6
        assert len(stage.server.inferences) == 1
        assert (await stage.score(0.75)).score == [0.75]
        assert stage.server.accepted <= 2

    play(scenario)


def test_the_header_says_what_remains_at_sending(play):
    async def scenario(stage):
        stage.world.network.connect_seconds = 0.03
        await stage.score(seconds=0.1)
        await stage.score(seconds=0.1)
        fresh, kept = (int(request.headers[BUDGET_HEADER]) for request in stage.server.inferences)
        assert fresh == pytest.approx(70_000, abs=1)
        assert kept == pytest.approx(100_000, abs=1)

    play(scenario)


def test_a_refused_connection_is_known_at_once(play):
    async def scenario(stage):
        nowhere = Target("rb-trend", "7", (Endpoint("models", 1),))
        started = stage.now
        with pytest.raises(ModelError) as caught:
            await stage.score(target=nowhere)
        assert caught.value.problem == Problem.MODEL_UNREACHABLE
        assert stage.now == started

    play(scenario)


def test_a_retry_is_within_the_same_time(play):
    async def scenario(stage):
        await stage.score()
        stage.server.script.extend([Behaviour.CLOSE, Behaviour.HANG])
        assert await expired(stage, 0.06) == pytest.approx(0.06, abs=1e-8)

    play(scenario)


def test_latency_is_no_reason_to_be_late(play):
    async def scenario(stage):
        stage.world.network.latency = 0.02
        assert (await stage.score(0.25, seconds=0.041)).score == [0.25]
        assert await expired(stage, 0.039) == pytest.approx(0.039, abs=1e-8)
        assert (await stage.score(0.75)).score == [0.75]

    play(scenario)


def test_an_answer_read_too_late_is_no_answer(play, monkeypatch):
    async def scenario(stage):
        def slow(*args, **kwargs):
            asyncio.get_running_loop().now += 0.2
            return decode_response(*args, **kwargs)

        monkeypatch.setattr(request, "decode_response", slow)
        await expired(stage, 0.1)
        monkeypatch.undo()
        assert (await stage.score(0.75)).score == [0.75]
        assert stage.server.accepted == 1

    play(scenario)
