"""Connections are kept, handed on and given up."""

import asyncio

import pytest

from signalyard.problems import ModelError, Problem
from signalyard_router.adapters.oip.pool import Pool
from signalyard_router.adapters.oip.request import metadata_request
from signalyard_router.rules.route import Target
from signalyard_router.testing.model_server import Behaviour


def test_one_connection_serves_calls_in_turn(play):
    async def scenario(stage):
        for index in range(50):
            assert (await stage.score(index / 50)).score == [index / 50]
        assert stage.server.accepted == 1
        assert (stage.connections("idle"), stage.connections("busy")) == (1, 0)

    play(scenario)


def test_concurrent_calls_each_get_their_own_answer(play):
    async def scenario(stage):
        answers = await asyncio.gather(*(stage.score(index / 32, -index) for index in range(32)))
        assert [answer.score for answer in answers] == [[index / 32, -index] for index in range(32)]
        assert stage.server.accepted == 32
        assert stage.connections("idle") == 8

    play(scenario, max_idle=8)


def test_calls_beyond_the_cap_wait_for_their_turn(play):
    async def scenario(stage):
        answers = await asyncio.gather(*(stage.score(index / 32) for index in range(32)))
        assert [answer.score for answer in answers] == [[index / 32] for index in range(32)]
        assert stage.server.accepted == 4
        assert (stage.connections("idle"), stage.connections("busy")) == (4, 0)

    play(scenario, max_open=4)


def test_a_waiting_call_takes_the_place_of_a_connection_that_broke(play):
    async def scenario(stage):
        stage.server.script.append(Behaviour.GARBAGE)
        outcomes = await asyncio.gather(stage.score(0.25), stage.score(0.5), stage.score(0.75), return_exceptions=True)
        assert isinstance(outcomes[0], ModelError)
        assert [outcome.score for outcome in outcomes[1:]] == [[0.5], [0.75]]
        assert stage.server.accepted == 2

    play(scenario, max_open=1)


def test_the_place_of_a_refused_connection_is_free_again(play):
    async def scenario(stage):
        stage.server.stop()
        outcomes = await asyncio.gather(*(stage.score() for _ in range(8)), return_exceptions=True)
        assert {outcome.problem for outcome in outcomes} == {Problem.MODEL_UNREACHABLE}
        assert stage.connections("busy") == 0
        await stage.server.start(stage.world.network, port=stage.endpoint.port)
        assert (await stage.score(0.75)).score == [0.75]

    play(scenario, max_open=2, breaker_failures=100)


def test_the_newest_idle_connection_is_used_next(play):
    async def scenario(stage):
        stage.server.late_seconds = 0.01
        stage.server.script.extend([Behaviour.GOOD, Behaviour.LATE])
        await asyncio.gather(stage.score(), stage.score())
        await stage.score()
        await stage.score()
        assert [request.connection for request in stage.server.inferences] == [0, 1, 1, 1]

    play(scenario)


def test_a_connection_that_the_server_closed_while_idle_is_dropped(play):
    async def scenario(stage):
        await stage.score()
        stage.server.drop()
        await asyncio.sleep(0.01)
        assert stage.connections("idle") == 0
        assert (await stage.score(0.75)).score == [0.75]
        assert len(stage.server.inferences) == 2

    play(scenario)


@pytest.mark.parametrize("behaviour", [Behaviour.CLOSE, Behaviour.RESET])
def test_a_kept_connection_that_dies_unanswered_is_replaced_once(play, behaviour):
    async def scenario(stage):
        await stage.score()
        stage.server.script.append(behaviour)
        assert (await stage.score(0.75)).score == [0.75]
        assert [request.connection for request in stage.server.inferences] == [0, 0, 1]
        assert stage.result("ok") == 2

        stage.server.script.extend([behaviour, behaviour])
        with pytest.raises(ModelError) as caught:
            await stage.score(0.75)
        assert caught.value.problem == Problem.MODEL_UNREACHABLE
        assert len(stage.server.inferences) == 5

    play(scenario)


def test_a_fresh_connection_that_dies_unanswered_is_not_replaced(play):
    async def scenario(stage):
        stage.server.script.append(Behaviour.CLOSE)
        with pytest.raises(ModelError) as caught:
            await stage.score()
        assert caught.value.problem == Problem.MODEL_UNREACHABLE
        assert len(stage.server.inferences) == 1

    play(scenario)


def test_a_kept_connection_that_dies_within_the_answer_is_not_replaced(play):
    async def scenario(stage):
        await stage.score()
        stage.server.script.append(Behaviour.HALF)
        with pytest.raises(ModelError) as caught:
            await stage.score()
        assert caught.value.problem == Problem.MODEL_ANSWER_MALFORMED
        assert len(stage.server.inferences) == 2

    play(scenario)


def test_cancelling_closes_the_connection(play):
    async def scenario(stage):
        await stage.score()
        stage.server.late_seconds = 0.05
        stage.server.behaviour = Behaviour.LATE
        call = asyncio.ensure_future(stage.score(0.25))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0)
        assert (stage.connections("idle"), stage.connections("busy"), stage.server.open) == (0, 0, 0)
        stage.server.behaviour = Behaviour.GOOD
        assert (await stage.score(0.75)).score == [0.75]

    play(scenario)


def test_cancelling_at_any_moment_loses_no_place(play):
    async def scenario(stage):
        stage.world.network.connect_seconds = 0.003
        stage.world.network.latency = 0.002
        for step in range(40):
            calls = [asyncio.ensure_future(stage.score(index / 8, seconds=1)) for index in range(8)]
            await asyncio.sleep(step * 0.0005)
            for call in calls[step % 3 :: 2]:
                call.cancel()
            for index, outcome in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
                assert isinstance(outcome, asyncio.CancelledError) or outcome.score == [index / 8]
            await asyncio.sleep(0.1)
            assert stage.connections("busy") == 0
            assert 0 <= stage.connections("idle") <= 2

    play(scenario, max_open=2)


def test_expiry_at_any_moment_loses_no_place(play):
    async def scenario(stage):
        stage.world.network.connect_seconds = 0.003
        stage.world.network.latency = 0.002
        for step in range(1, 60):
            calls = [stage.score(index / 8, seconds=(step + index) * 0.0005) for index in range(8)]
            for index, outcome in enumerate(await asyncio.gather(*calls, return_exceptions=True)):
                if isinstance(outcome, ModelError):
                    assert outcome.problem == Problem.MODEL_TIMEOUT
                else:
                    assert outcome.score == [index / 8]
            await asyncio.sleep(0.1)
            assert stage.connections("busy") == 0

    play(scenario, max_open=3, breaker_failures=1000, breaker_ratio=2.0)


def test_connections_outlive_a_retarget_and_end_with_their_endpoint(play):
    async def scenario(stage):
        other = Target("rb-trend", "8", stage.target.endpoints)
        await stage.score()
        stage.upstream.retarget([other])
        await asyncio.sleep(0.01)
        await stage.score()
        assert stage.server.accepted == 1
        stage.upstream.retarget([])
        assert stage.connections("idle") == 0
        assert (await stage.score(0.75)).score == [0.75]
        assert stage.connections("idle") == 0
        stage.upstream.retarget([stage.target])
        await asyncio.sleep(0.01)
        assert stage.connections("idle") == 1

    play(scenario)


def test_closing_ends_what_is_in_flight_and_refuses_what_comes(play):
    async def scenario(stage):
        stage.server.behaviour = Behaviour.HANG
        calls = [asyncio.ensure_future(stage.score(seconds=5)) for _ in range(3)]
        await asyncio.sleep(0.01)
        await stage.upstream.close()
        outcomes = await asyncio.gather(*calls, stage.score(), return_exceptions=True)
        assert {outcome.problem for outcome in outcomes} == {Problem.MODEL_UNREACHABLE}

    play(scenario, max_open=2)


def test_what_is_handed_to_a_call_at_the_moment_it_gives_up_is_not_lost(play):
    async def scenario(stage):
        for behaviour in (Behaviour.GOOD, Behaviour.GARBAGE):  # a connection is handed on, or the place of one
            for turns in range(30):
                stage.server.script.append(behaviour)
                first = asyncio.ensure_future(stage.score(0.25))
                await asyncio.sleep(0)
                second = asyncio.ensure_future(stage.score(0.5))
                for _ in range(turns):
                    await asyncio.sleep(0)
                second.cancel()
                await asyncio.gather(first, second, return_exceptions=True)
                stage.server.script.clear()
                await asyncio.sleep(0.01)
                assert stage.connections("busy") == 0
                assert (await stage.score(0.75)).score == [0.75]

    play(scenario, max_open=1)


def test_closing_reaches_a_call_that_was_just_handed_a_place(play):
    async def scenario(stage):
        for turns in range(20):
            stage.upstream.retarget([])
            world = stage.world
            pool = Pool(world, stage.settings, stage.endpoint.host, stage.endpoint.port)
            stage.server.script.extend([Behaviour.GARBAGE, Behaviour.HANG])
            started = stage.now
            head = (
                metadata_request("rb-trend", "7", stage.endpoint).replace(b"GET", b"POST").replace(b"/7 ", b"/7/infer ")
            )
            calls = [asyncio.ensure_future(pool.call(head, b"", started + 10**9, bytes)) for _ in range(2)]
            for _ in range(turns):
                await asyncio.sleep(0)
            pool.close()
            await asyncio.gather(*calls, return_exceptions=True)
            assert stage.now == started
            assert pool.busy == 0
            stage.server.script.clear()

    play(scenario, max_open=1)


class Notes:
    """Stands for what keeps the loop awake."""

    def __init__(self):
        self.told = []

    def sent(self, loop):
        self.told.append("sent")

    def answered(self):
        self.told.append("answered")


def test_the_loop_is_told_of_each_call_and_of_its_end_whatever_it_is(play):
    async def scenario(stage):
        notes = stage.upstream._pools.of(stage.endpoint)._awake = Notes()
        await stage.score()
        stage.server.script.append(Behaviour.HANG)
        hangs = asyncio.create_task(stage.score())
        await asyncio.sleep(0.01)
        assert notes.told == ["sent", "answered", "sent"]
        hangs.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hangs
        assert notes.told == ["sent", "answered"] * 2

    play(scenario)
