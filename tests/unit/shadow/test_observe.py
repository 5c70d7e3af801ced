"""Baselines from outside, through the router."""

import pytest

from signalyard import SignalyardError
from signalyard.wire import Observation
from signalyard_router.rules.units import SECOND

NAME = "rb2410.SHFE"


def seen(snapshot, signal, **more):
    return Observation(symbol=snapshot.symbol, ts_event=snapshot.ts_event, signal=signal, **more)


def test_either_side_may_come_first(play, doc, turns):
    async def scenario(desk):
        snapshot = desk.snapshot(0.7)
        await desk.router.predict(snapshot)
        await turns()
        answer = desk.router.observe([seen(snapshot, "long")])
        assert (answer.matched, answer.waiting, answer.repeated) == (1, 0, 0)
        later = desk.snapshot(0.3)
        answer = desk.router.observe([seen(later, "long")])
        assert (answer.matched, answer.waiting) == (0, 1)
        assert desk.comparison("baseline").waiting == 1
        await desk.router.predict(later)
        await turns()
        assert desk.router.observe([seen(later, "long")]).repeated == 1
        total = desk.total("baseline")
        assert (total.matrix["long"]["long"], total.matrix["short"]["long"], total.coverage) == (1, 1, 1.0)
        assert desk.comparison("baseline").kind == "baseline"
        assert total.signals == {"live": 2, "other": 1}
        labels = {"kind": "baseline", "name": "baseline", "live": "short", "other": "long"}
        assert desk.sample("signalyard_shadow_pairs_total", **labels) == 1

    play(scenario, doc(shadows=()))


def test_sources_apart(play, doc, turns):
    async def scenario(desk):
        snapshot = desk.snapshot(0.7)
        both = [seen(snapshot, "none", source="old"), seen(snapshot, "long", source="older")]
        assert desk.router.observe(both).waiting == 2
        await desk.router.predict(snapshot)
        await turns()
        assert desk.total("old").matrix["long"]["none"] == 1
        assert desk.total("older").matrix["long"]["long"] == 1

    play(scenario, doc(shadows=()))


def test_what_finds_no_partner_is_counted(play, doc, turns):
    async def scenario(desk):
        desk.router.observe([seen(desk.snapshot(0.7), "long")])
        for _ in range(3):
            await desk.told(0.7)
        desk.world.clock.advance(61 * SECOND)
        assert desk.excluded("baseline") == {"unmatched": 1, "unobserved": 3}
        assert desk.total("baseline").coverage == 0.0

    play(scenario, doc(shadows=()))


def test_what_was_decided_before_the_first_observation_is_not_missed(play, doc, turns):
    async def scenario(desk):
        await desk.told(0.7)
        desk.router.observe([seen(desk.snapshot(0.7), "long")])
        desk.world.clock.advance(61 * SECOND)
        assert desk.excluded("baseline") == {"unmatched": 1}

    play(scenario, doc(shadows=()))


def test_degraded_decisions_are_not_compared(play, doc, turns):
    async def scenario(desk):
        desk.upstream.fail["7"] = "model_failed"
        snapshot = desk.snapshot(0.7)
        desk.router.observe([seen(snapshot, "long")])
        await desk.router.predict(snapshot)
        await turns()
        assert desk.excluded("baseline") == {"degraded": 1}

    play(scenario, doc(shadows=()))


def test_an_observation_goes_to_every_route_or_the_named_one(play, doc):
    async def scenario(desk):
        snapshot = desk.snapshot(0.7)
        assert desk.router.observe([seen(snapshot, "long")]).waiting == 2
        assert desk.router.observe([seen(snapshot, "long", route="b", source="x")]).waiting == 1
        assert [c.route for c in desk.router.shadow().comparisons] == ["a", "b", "b"]

    play(scenario, doc("a", shadows=()), doc("b", shadows=()))


def test_all_or_none(play, doc):
    async def scenario(desk):
        good = seen(desk.snapshot(0.7), "long")
        with pytest.raises(SignalyardError) as caught:
            desk.router.observe([good, Observation(symbol="cu1.SHFE", ts_event=1, signal="long")])
        assert (caught.value.problem, caught.value.pointer) == ("no_route", "/1/symbol")
        many = [seen(desk.snapshot(0.7), "long", source=f"s{number}") for number in range(9)]
        with pytest.raises(SignalyardError) as caught:
            desk.router.observe(many)
        assert (caught.value.problem, caught.value.pointer) == ("invalid_observation", "/8/source")
        assert desk.router.shadow().comparisons == []
        assert desk.router.observe(many[:8]).waiting == 8
        with pytest.raises(SignalyardError, match="8 sources already"):
            desk.router.observe([many[8]])

    play(scenario, doc(shadows=()))


def test_pairs_of_a_baseline_in_the_journal(play, doc, turns):
    async def scenario(desk):
        snapshot = desk.snapshot(0.7)
        desk.router.observe([seen(snapshot, "long", source="old")])
        await desk.router.predict(snapshot)
        await turns()
        await desk.ask(0.3)
        (record,) = desk.records("shadow")
        assert (record["name"], record["baseline"], record["direction"]) == ("old", True, "long")
        assert "score" not in record

    play(scenario, doc(shadows=(), shadow={"journal": True}))


def test_the_memory_of_recent_decisions_is_bounded(play, doc):
    async def scenario(desk):
        for _ in range(1_100):
            await desk.told(0.7)
        shadow = desk.router._shadow
        assert len(shadow._recent) == 1_024

    play(scenario, doc(shadows=()))
