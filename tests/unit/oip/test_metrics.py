import pytest

from signalyard.problems import ModelError
from signalyard_router.adapters.oip.metrics import RESULTS
from signalyard_router.testing.model_server import Behaviour


def test_every_result_of_a_known_target_starts_at_zero(play):
    async def scenario(stage):
        stage.upstream.retarget([stage.target])
        for result in RESULTS:
            assert stage.result(result) == 0
            assert stage.sample("signalyard_upstream_probes_total", result=result) == 0
        assert stage.sample("signalyard_upstream_seconds_count") == 0
        assert (stage.connections("idle"), stage.connections("busy")) == (0, 0)

    play(scenario)


def test_calls_are_counted_by_result_and_timed(play):
    async def scenario(stage):
        stage.world.network.latency = 0.004
        await stage.score()
        stage.server.script.append(Behaviour.FAIL)
        with pytest.raises(ModelError):
            await stage.score()
        assert (stage.result("ok"), stage.result("model_failed")) == (1, 1)
        assert stage.sample("signalyard_upstream_seconds_bucket", le="0.005") == 0
        assert stage.sample("signalyard_upstream_seconds_bucket", le="0.01") == 2
        assert stage.sample("signalyard_upstream_seconds_sum") == pytest.approx(0.016)

    play(scenario)


def test_a_server_that_was_not_there_has_no_latency(play):
    async def scenario(stage):
        stage.server.stop()
        with pytest.raises(ModelError):
            await stage.score()
        assert stage.result("model_unreachable") == 1
        assert stage.sample("signalyard_upstream_seconds_count") == 0

    play(scenario)
