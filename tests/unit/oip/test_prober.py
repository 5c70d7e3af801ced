"""Cards are learnt at once, again until known, then from time to time."""

import asyncio
import logging

import pytest

from signalyard_router.rules.route import Target
from signalyard_router.testing.model_server import Behaviour


def looks(stage):
    return [request for request in stage.server.requests if request.method == "GET"]


def test_all_targets_are_tried_at_once(play):
    async def scenario(stage):
        stage.server.serve(stage.serve(version="8", digest="sha256:bb", calibrated=True))
        stage.world.network.connect_seconds = 0.5
        targets = [
            stage.target,
            *(Target("rb-trend", str(n), stage.target.endpoints) for n in range(8, 20)),
        ]
        started = stage.now
        assert stage.upstream.card(stage.target) is None
        await stage.upstream.start(targets)
        assert not stage.upstream.first_round.is_set()
        await stage.upstream.first_round.wait()
        assert (stage.now - started) / 1e9 == pytest.approx(0.5)
        assert stage.upstream.card(stage.target).digest == "sha256:aa"
        assert stage.upstream.card(targets[1]).calibrated
        assert stage.upstream.card(targets[2]).version == "8"  # what is there instead of version 9

    play(scenario)


def test_no_targets_are_soon_tried(play):
    async def scenario(stage):
        await stage.upstream.start([])
        assert stage.upstream.first_round.is_set()

    play(scenario)


def test_a_server_that_hangs_holds_the_first_round_up_for_its_own_time_only(play):
    async def scenario(stage):
        stage.server.metadata_behaviour = Behaviour.HANG
        started = stage.now
        await stage.upstream.start([stage.target])
        await stage.upstream.first_round.wait()
        assert (stage.now - started) / 1e9 == pytest.approx(2)
        assert stage.sample("signalyard_upstream_probes_total", result="model_timeout") == 1

    play(scenario)


def test_it_asks_every_second_until_it_knows_then_every_ten(play, caplog):
    caplog.set_level(logging.INFO, "signalyard.router.oip")

    async def scenario(stage):
        port = stage.endpoint.port
        stage.server.stop()
        await stage.upstream.start([stage.target])
        await stage.upstream.first_round.wait()
        await asyncio.sleep(3.5)
        assert stage.sample("signalyard_upstream_probes_total", result="model_unreachable") == 4
        await stage.server.start(stage.world.network, port=port)
        await asyncio.sleep(0.6)
        assert stage.upstream.card(stage.target) is not None
        await asyncio.sleep(30)
        assert len(looks(stage)) == 4
        assert stage.sample("signalyard_upstream_probes_total", result="ok") == 4

    play(scenario)
    events = [record.getMessage().split()[0] for record in caplog.records]
    assert events == ["event=probe_failed", "event=model_known", "event=serving"]
    assert "model=rb-trend version=7 endpoint=models:8000 problem=model_unreachable known=false" in caplog.text
    assert "digest=sha256:aa calibrated=false features=2" in caplog.text


def test_a_card_is_kept_when_a_later_look_fails_and_replaced_when_it_changed(play, caplog):
    caplog.set_level(logging.INFO, "signalyard.router.oip")

    async def scenario(stage):
        await stage.upstream.start([stage.target])
        await stage.upstream.first_round.wait()
        stage.server.metadata_behaviour = Behaviour.OVERLOADED
        await asyncio.sleep(10.5)
        assert stage.sample("signalyard_upstream_probes_total", result="model_overloaded") == 1
        assert stage.sample("signalyard_upstream_digest_changes_total") == 0
        assert stage.upstream.card(stage.target).digest == "sha256:aa"
        stage.server.metadata_behaviour = Behaviour.GOOD
        stage.server.serve(stage.serve(digest="sha256:bb"))
        await asyncio.sleep(10)
        assert stage.upstream.card(stage.target).digest == "sha256:bb"
        assert stage.sample("signalyard_upstream_digest_changes_total") == 1

    play(scenario)
    events = [record.getMessage().split()[0] for record in caplog.records]
    assert events == [
        "event=model_known",
        "event=serving",
        "event=probe_failed",
        "event=model_known",
        "event=digest_changed",
        "event=serving",
    ]


def test_another_digest_in_an_answer_brings_the_next_look_forward(play):
    async def scenario(stage):
        await stage.upstream.start([stage.target])
        await stage.upstream.first_round.wait()
        stage.server.serve(stage.serve(digest="sha256:bb"))
        for _ in range(100):
            await stage.score()
        await asyncio.sleep(0.9)
        assert len(looks(stage)) == 1
        await asyncio.sleep(0.2)
        assert len(looks(stage)) == 2
        assert stage.upstream.card(stage.target).digest == "sha256:bb"

        await asyncio.sleep(5)
        stage.server.serve(stage.serve(digest="sha256:cc"))
        await stage.score()
        await asyncio.sleep(0.01)
        assert stage.upstream.card(stage.target).digest == "sha256:cc"

    play(scenario)


def test_a_server_that_speaks_with_two_tongues_is_asked_once_a_second(play):
    async def scenario(stage):
        await stage.upstream.start([stage.target])
        await stage.upstream.first_round.wait()
        for second in range(100):
            stage.server.serve(stage.serve(digest=f"sha256:{second}"))
            await stage.score()
            await asyncio.sleep(0.1)
        assert len(looks(stage)) <= 11

    play(scenario)


def test_a_target_that_goes_is_asked_no_more_and_its_card_stays(play):
    async def scenario(stage):
        await stage.upstream.start([stage.target])
        await stage.upstream.first_round.wait()
        stage.upstream.retarget([])
        await asyncio.sleep(60)
        assert len(looks(stage)) == 1
        assert stage.upstream.card(stage.target) is not None

    play(scenario)


def test_a_target_that_goes_before_it_was_tried_holds_nothing_up(play):
    async def scenario(stage):
        stage.server.metadata_behaviour = Behaviour.HANG
        await stage.upstream.start([stage.target])
        await asyncio.sleep(0.1)
        stage.upstream.retarget([])
        assert stage.upstream.first_round.is_set()

    play(scenario)


@pytest.mark.parametrize("behaviour", [Behaviour.NOT_JSON, Behaviour.GARBAGE, Behaviour.NOT_FOUND, Behaviour.HALF])
def test_metadata_that_cannot_be_read_teaches_nothing(play, behaviour):
    async def scenario(stage):
        stage.server.metadata_behaviour = behaviour
        await stage.upstream.start([stage.target])
        await stage.upstream.first_round.wait()
        assert stage.upstream.card(stage.target) is None

    play(scenario)


def test_later_looks_are_spread_over_the_interval(play):
    async def scenario(stage):
        targets = [Target("rb-trend", str(n), stage.target.endpoints) for n in range(100, 300)]
        for target in targets:
            stage.server.serve(stage.serve(version=target.version))
        await stage.upstream.start(targets)
        await stage.upstream.first_round.wait()
        await asyncio.sleep(11)
        for second in range(5):
            before = len(looks(stage))
            await asyncio.sleep(1)
            assert 15 <= len(looks(stage)) - before <= 25, second

    play(scenario)
