"""Several endpoints as one: who is asked, who is left alone, and which digest a track serves. Virtual time makes it exact."""

import asyncio
import logging

import pytest

from signalyard.problems import ModelError, Problem
from signalyard_router.adapters.oip import OipSettings
from signalyard_router.rules.breaker import BreakerState
from signalyard_router.rules.route import Endpoint, Hedge, Target
from signalyard_router.testing.model_server import Behaviour, ModelServer


@pytest.fixture
def yard(play):
    """A stage with three servers; ``play``'s own is the first."""

    def run(scenario, hedge=None, **settings):
        async def with_more(stage):
            stage.servers = [stage.server, *(ModelServer([stage.serve()]) for _ in range(2))]
            for server in stage.servers[1:]:
                await server.start(stage.world.network)
            stage.ports = [server.port for server in stage.servers]
            stage.target = Target("rb-trend", "7", tuple(Endpoint("models", port) for port in stage.ports), hedge)
            try:
                await scenario(stage)
            finally:
                await stage.upstream.close()
                for server in stage.servers:
                    server.stop()

        play(with_more, **settings)

    return run


def asked(stage):
    return [len(server.inferences) for server in stage.servers]


def state(stage, index):
    return stage.upstream.endpoints(stage.target)[index]


def sample(stage, name, index, **labels):
    labels |= {"model": "rb-trend", "version": "7", "endpoint": f"models:{stage.ports[index]}"}
    return stage.registry.get_sample_value(f"signalyard_upstream_{name}", labels)


async def begin(stage):
    await stage.upstream.start([stage.target])
    await stage.upstream.first_round.wait()


def test_calls_in_turn_are_shared_evenly_and_the_answer_says_whose_it_is(yard):
    async def scenario(stage):
        names = {(await stage.call(0.25)).endpoint for _ in range(30)}
        assert asked(stage) == [10, 10, 10]
        assert names == {f"models:{port}" for port in stage.ports}

    yard(scenario)


def test_the_endpoint_with_the_least_under_way_is_asked(yard):
    async def scenario(stage):
        stage.servers[0].behaviour = Behaviour.HANG
        slow = [asyncio.ensure_future(stage.score(seconds=5)) for _ in range(3)]
        await asyncio.sleep(0.001)
        for _ in range(20):
            await stage.score(0.5)
        assert asked(stage)[0] == 1  # it has one under way, the others none
        for call in slow:
            call.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    yard(scenario)


def test_a_refused_connection_goes_to_the_next_at_once_and_costs_no_token(yard):
    async def scenario(stage):
        stage.servers[0].stop()
        started = stage.now
        outcomes = [await stage.call(index / 40) for index in range(40)]
        assert stage.now == started
        assert [outcome.rows.score for outcome in outcomes] == [[index / 40] for index in range(40)]
        moved = [outcome.tries[0] for outcome in outcomes if outcome.tries]
        assert len(moved) == 5  # then its breaker is open
        assert {(one.endpoint, one.problem) for one in moved} == {
            (f"models:{stage.ports[0]}", Problem.MODEL_UNREACHABLE)
        }
        assert state(stage, 0).breaker is BreakerState.OPEN
        assert sample(stage, "breaker", 0, state="open") == 1
        assert sample(stage, "breaker_opened_total", 0) == 1
        assert sample(stage, "retries_total", 0) == 5

    yard(scenario, retry_burst=0.0, retry_ratio=0.0)


def test_a_call_finds_out_after_the_back_off_and_closes_the_breaker(yard):
    async def scenario(stage):
        stage.servers[0].behaviour = Behaviour.FAIL
        for _ in range(30):
            assert (await stage.score(0.5)).score == [0.5]
        assert asked(stage)[0] == 5
        await asyncio.sleep(0.5)
        for _ in range(10):
            assert (await stage.score(0.5)).score == [0.5]
        assert asked(stage)[0] == 6
        await asyncio.sleep(0.9)
        await stage.score(0.5)
        assert asked(stage)[0] == 6
        stage.servers[0].behaviour = Behaviour.GOOD
        await asyncio.sleep(0.2)
        for _ in range(30):
            await stage.score(0.5)
        assert state(stage, 0).breaker is BreakerState.CLOSED
        assert asked(stage)[0] >= 15

    yard(scenario)


def test_a_server_that_came_back_is_asked_as_soon_as_a_look_says_so(yard):
    async def scenario(stage):
        await begin(stage)
        stage.servers[0].stop()
        for _ in range(30):
            await stage.score(0.5)
        await asyncio.sleep(60)
        assert state(stage, 0).problem == Problem.MODEL_UNREACHABLE
        refused = sample(stage, "requests_total", 0, result="model_unreachable")
        for _ in range(30):
            await stage.score(0.5)
        # no live call finds out what looks have answered already
        assert sample(stage, "requests_total", 0, result="model_unreachable") == refused
        await stage.servers[0].start(stage.world.network, port=stage.ports[0])
        await asyncio.sleep(1.1)
        before = asked(stage)[0]
        for _ in range(30):
            await stage.score(0.5)
        assert asked(stage)[0] >= before + 10

    yard(scenario)


def test_with_every_breaker_open_nobody_waits(yard):
    async def scenario(stage):
        for server in stage.servers:
            server.behaviour = Behaviour.HANG
        await asyncio.gather(*(stage.score() for _ in range(15)), return_exceptions=True)
        started = stage.now
        for _ in range(10):
            with pytest.raises(ModelError) as caught:
                await stage.score(0.5)
            assert caught.value.problem == Problem.MODEL_UNREACHABLE
            assert caught.value.tries == ()
        assert stage.now == started
        assert asked(stage) == [5, 5, 5]

    yard(scenario)


def test_an_outage_does_not_double_the_load(yard):
    async def scenario(stage):
        for server in stage.servers:
            server.behaviour = Behaviour.FAIL
        for _ in range(200):
            with pytest.raises(ModelError):
                await stage.score()
        assert sum(asked(stage)) <= 200 * 1.2 + 10
        labels = {"model": "rb-trend", "version": "7"}
        assert stage.registry.get_sample_value("signalyard_upstream_second_calls_refused_total", labels) > 100

    yard(scenario, breaker_failures=10_000, breaker_ratio=2.0)


def test_over_the_cap_the_next_is_asked_and_at_last_it_is_too_much(yard):
    async def scenario(stage):
        for server in stage.servers:
            server.behaviour = Behaviour.HANG
        under_way = [asyncio.ensure_future(stage.score(seconds=5)) for _ in range(6)]
        await asyncio.sleep(0.01)
        assert asked(stage) == [2, 2, 2]
        assert (
            stage.registry.get_sample_value("signalyard_upstream_in_flight", {"endpoint": f"models:{stage.ports[0]}"})
            == 2
        )
        started = stage.now
        with pytest.raises(ModelError) as caught:
            await stage.score()
        assert caught.value.problem == Problem.MODEL_OVERLOADED
        assert stage.now == started
        for call in under_way:
            call.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    yard(scenario, max_in_flight=2)


def test_an_impatient_caller_does_not_open_a_breaker(yard):
    async def scenario(stage):
        stage.world.network.latency = 0.002
        for _ in range(200):
            await stage.score(0.5)
        for _ in range(100):
            with pytest.raises(ModelError):
                await stage.score(0.5, seconds=0.001)
        assert {status.breaker for status in stage.upstream.endpoints(stage.target)} == {BreakerState.CLOSED}

    yard(scenario)


def test_rows_that_take_long_travel_in_smaller_chunks(yard):
    async def scenario(stage):
        stage.world.network.latency = 0.016
        assert stage.upstream.chunk(stage.target, 60_000_000) == 256
        for _ in range(20):
            await stage.score(*([0.5] * 64))
        assert stage.upstream.chunk(stage.target, 60_000_000) == 60  # 0.5 ms a row, half of 60 ms

    yard(scenario)


# Hedges


def test_a_hedge_answers_when_the_first_is_slow_and_its_loser_is_closed(yard):
    async def scenario(stage):
        stage.servers[0].behaviour = Behaviour.HANG
        started = stage.now
        for _ in range(2):
            assert (await stage.score(0.5)).score == [0.5]
        assert (stage.now - started) / 1e9 == pytest.approx(0.01, abs=1e-6)
        await asyncio.sleep(0.01)
        assert stage.servers[0].open == 0
        assert sum(sample(stage, "hedges_total", index, result="won") for index in range(3)) == 1
        for _ in range(40):
            assert (await stage.score(0.5)).score == [0.5]
        assert state(stage, 0).breaker is BreakerState.OPEN
        assert asked(stage)[0] == 5  # a loser counts as a failure, or a server that hangs would be asked for ever

    yard(scenario, hedge=Hedge(10_000_000))


def test_a_hedge_after_p95_waits_until_it_knows_what_is_usual(yard):
    async def scenario(stage):
        stage.world.network.latency = 0.001
        for _ in range(64):
            await stage.score(0.5)
        assert sum(asked(stage)) == 64
        stage.servers[0].script.append(Behaviour.HANG)
        started, calls = stage.now, 0
        while stage.servers[0].script:
            await stage.score(0.5)
            calls += 1
        assert (stage.now - started) / 1e9 == pytest.approx(0.002 * calls + 0.00225, abs=1e-5)

    yard(scenario, hedge=Hedge(None))


def test_hedges_are_paid_from_the_retry_budget(yard):
    async def scenario(stage):
        stage.world.network.latency = 0.01
        for _ in range(100):
            await stage.score(0.5)
        assert sum(asked(stage)) == 100 + 2 + 19  # the budget was full at first

    yard(scenario, hedge=Hedge(1_000_000), retry_burst=2.0, breaker_failures=1000, breaker_ratio=2.0)


def test_a_hedge_whose_first_fails_waits_for_the_second(yard):
    async def scenario(stage):
        for server in stage.servers:
            server.late_seconds = 0.02
        stage.servers[0].script.append(Behaviour.HALF_RESET)
        stage.servers[1].behaviour = stage.servers[2].behaviour = Behaviour.LATE
        answers = [await stage.call(0.5) for _ in range(3)]
        assert [answer.rows.score for answer in answers] == [[0.5]] * 3
        (tried,) = [one for answer in answers for one in answer.tries]
        assert (tried.endpoint, tried.problem) == (f"models:{stage.ports[0]}", Problem.MODEL_ANSWER_MALFORMED)

    yard(scenario, hedge=Hedge(5_000_000))


def test_cancelling_a_hedged_call_closes_both(yard):
    async def scenario(stage):
        for server in stage.servers:
            server.behaviour = Behaviour.HANG
        call = asyncio.ensure_future(stage.score(0.5, seconds=5))
        await asyncio.sleep(0.05)
        assert sum(asked(stage)) == 2
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0.01)
        assert sum(server.open for server in stage.servers) == 0
        assert {status.in_flight for status in stage.upstream.endpoints(stage.target)} == {0}

    yard(scenario, hedge=Hedge(10_000_000))


# One digest at a time


def test_while_pods_roll_one_version_is_served_and_the_cutover_is_one_swap(yard, caplog):
    caplog.set_level(logging.INFO, "signalyard.router.oip")

    async def scenario(stage):
        for server in stage.servers:
            server.withdraw("rb-trend", "7")
            server.serve(stage.serve(version="6", digest="sha256:66"))
        await begin(stage)
        served = []

        async def traffic():
            for _ in range(12):
                served.append((await stage.score(0.5)).digest)

        await traffic()
        assert stage.upstream.card(stage.target).version == "6"
        for server in stage.servers:
            server.withdraw("rb-trend", "6")
            server.serve(stage.serve(version="7", digest="sha256:77"))
            await traffic()
            await asyncio.sleep(11)
            await traffic()
        assert served == sorted(served)
        assert len(served) == 12 * 7
        assert stage.upstream.card(stage.target).version == "7"
        labels = {"model": "rb-trend", "version": "7"}
        assert stage.registry.get_sample_value("signalyard_upstream_cutovers_total", labels) == 1

    yard(scenario)


def test_a_bundle_published_again_is_seen_counted_and_not_mixed(yard, caplog):
    caplog.set_level(logging.WARNING, "signalyard.router.oip")

    async def scenario(stage):
        await begin(stage)
        stage.servers[0].serve(stage.serve(digest="sha256:bb"))
        served = [await stage.call(0.5) for _ in range(30)]
        assert {answer.rows.digest for answer in served} == {"sha256:aa"}
        refused = [one for answer in served for one in answer.tries]
        assert [one.problem for one in refused] == [Problem.MODEL_ANSWER_WRONG_VERSION]
        await asyncio.sleep(1.1)
        assert sample(stage, "digest_changes_total", 0) == 1
        before = asked(stage)[0]
        served = [await stage.call(0.5) for _ in range(30)]
        assert {answer.rows.digest for answer in served} == {"sha256:aa"}
        assert asked(stage)[0] == before
        stage.servers[1].serve(stage.serve(digest="sha256:bb"))
        await asyncio.sleep(11)
        served = [await stage.call(0.5) for _ in range(30)]
        assert {answer.rows.digest for answer in served} == {"sha256:bb"}
        assert stage.upstream.card(stage.target).digest == "sha256:bb"
        assert {status.breaker for status in stage.upstream.endpoints(stage.target)} == {BreakerState.CLOSED}

    yard(scenario)
    assert "event=digest_changed model=rb-trend version=7" in caplog.text


def test_pods_that_alternate_behind_one_address_are_taken_as_they_come(yard, caplog):
    caplog.set_level(logging.INFO, "signalyard.router.oip")

    async def scenario(stage):
        target = Target("rb-trend", "7", stage.target.endpoints[:1])
        await stage.upstream.start([target])
        await stage.upstream.first_round.wait()
        served = []
        for index in range(200):
            stage.servers[0].serve(stage.serve(digest=f"sha256:{'ab'[index % 2]}"))
            served.append((await stage.score(0.5, target=target)).digest)
            await asyncio.sleep(0.01)
        assert served == ["sha256:a", "sha256:b"] * 100

    yard(scenario)
    assert len(caplog.records) <= 10  # not one an answer


def test_one_lost_look_changes_no_model(yard):
    async def scenario(stage):
        for server in stage.servers[1:]:
            server.withdraw("rb-trend", "7")
            server.serve(stage.serve(version="6", digest="sha256:66"))
        await begin(stage)
        assert stage.upstream.card(stage.target).version == "7"
        stage.servers[0].metadata_behaviour = Behaviour.OVERLOADED
        await asyncio.sleep(10.5)
        assert state(stage, 0).problem == Problem.MODEL_OVERLOADED
        assert stage.upstream.card(stage.target).version == "7"
        await asyncio.sleep(1)
        assert stage.upstream.card(stage.target).version == "6"
        stage.servers[0].metadata_behaviour = Behaviour.GOOD
        await asyncio.sleep(11)
        assert stage.upstream.card(stage.target).version == "6"  # one of three is not enough

    yard(scenario)


@pytest.mark.parametrize("how", ["stop", "withdraw"])
def test_a_call_that_finds_the_last_endpoint_gone_makes_the_others_the_track_s_at_once(yard, how):
    async def scenario(stage):
        for server in stage.servers[1:]:
            server.withdraw("rb-trend", "7")
            server.serve(stage.serve(version="6", digest="sha256:66"))
        await begin(stage)
        before = stage.upstream.card(stage.target)
        assert before.version == "7"
        if how == "stop":
            stage.servers[0].stop()
        else:
            stage.servers[0].withdraw("rb-trend", "7")
        with pytest.raises(ModelError):
            await stage.score(0.5)
        # No look was needed, so no call is lost until there was one.
        assert stage.upstream.card(stage.target).version == "6"
        assert {(await stage.score(0.5)).version for _ in range(10)} == {"6"}

    yard(scenario)


def test_a_call_that_finds_the_only_endpoint_gone_changes_no_model(yard):
    async def scenario(stage):
        target = Target("rb-trend", "7", stage.target.endpoints[:1])
        await stage.upstream.start([target])
        await stage.upstream.first_round.wait()
        stage.servers[0].withdraw("rb-trend", "7")
        with pytest.raises(ModelError):
            await stage.score(0.5, target=target)
        assert stage.upstream.card(target).version == "7"
        stage.servers[0].serve(stage.serve())
        assert (await stage.score(0.5, target=target)).score == [0.5]

    yard(scenario)


def test_one_more_endpoint_in_the_document_changes_nothing_else(yard):
    async def scenario(stage):
        first = Target("rb-trend", "7", stage.target.endpoints[:2])
        await stage.upstream.start([first])
        await stage.upstream.first_round.wait()
        stage.servers[2].serve(stage.serve(digest="sha256:bb"))
        stage.upstream.retarget([stage.target])
        assert stage.upstream.card(stage.target) is stage.upstream.card(first)
        await stage.upstream.asked([stage.target])
        assert {(await stage.score(0.5)).digest for _ in range(12)} == {"sha256:aa"}
        assert asked(stage)[2] == 0

    yard(scenario)


def test_an_endpoint_that_serves_nothing_is_not_asked(yard):
    async def scenario(stage):
        stage.servers[0].withdraw("rb-trend", "7")
        await begin(stage)
        for _ in range(12):
            await stage.score(0.5)
        assert asked(stage) == [0, 6, 6]
        for server in stage.servers[1:]:
            server.withdraw("rb-trend", "7")
        await asyncio.sleep(11)
        with pytest.raises(ModelError) as caught:
            await stage.score(0.5)
        assert caught.value.problem == Problem.MODEL_UNKNOWN
        assert sum(asked(stage)) == 12

    yard(scenario)


def test_status_shows_each_endpoint(yard):
    async def scenario(stage):
        stage.servers[2].stop()
        await begin(stage)
        shown = stage.upstream.endpoints(stage.target)
        assert [(one.endpoint, one.ready, one.version, one.digest) for one in shown] == [
            (f"models:{stage.ports[0]}", True, "7", "sha256:aa"),
            (f"models:{stage.ports[1]}", True, "7", "sha256:aa"),
            (f"models:{stage.ports[2]}", False, None, None),
        ]
        assert shown[2].problem == Problem.MODEL_UNREACHABLE

    yard(scenario)


def test_the_settings_of_breakers_are_nanoseconds():
    rules = OipSettings(breaker_window_seconds=1.5, breaker_backoff_seconds=0.25).breaker
    assert (rules.window, rules.backoff) == (1_500_000_000, 250_000_000)
