"""Mirrored calls and comparisons, through the router."""

import asyncio

import pytest

from signalyard import Outcome, SignalyardError
from signalyard.problems import Problem
from signalyard_router.journal.shadow import recorded
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.route import compile_route
from signalyard_router.rules.units import MILLISECOND, SECOND
from signalyard_router.world.real import RealDisk


def test_a_shadow_is_compared_after_mapping(play):
    async def scenario(desk):
        desk.upstream.offset["9"] = 0.05
        for p in (0.7, 0.57, 0.5, 0.37):
            await desk.told(p)
        total = desk.total()
        # live: long, long (held), none, short. Shadow: long, long, long (0.55 is held), none (0.42)
        assert (total.selected, total.paired, total.compared, total.agreed) == (4, 4, 4, 2)
        assert total.matrix["long"]["long"] == 2
        assert total.matrix["none"]["long"] == 1
        assert total.matrix["short"]["none"] == 1
        assert (total.disagreement, total.coverage) == (0.5, 1.0)
        assert total.score.mean == pytest.approx(0.05)
        assert total.score.mean_absolute == pytest.approx(0.05)
        assert total.confidence.count == 4
        assert total.signals == {"live": 2, "other": 1}
        assert desk.sample("signalyard_shadow_pairs_total", live="long", other="long") == 2
        assert desk.sample("signalyard_shadow_score_difference_count") == 4
        assert desk.sample("signalyard_shadow_signals_total", side="live") == 2

    play(scenario)


def test_two_that_take_no_position_agree_about_nothing(play):
    async def scenario(desk):
        for _ in range(5):
            await desk.told(0.5)
        total = desk.total()
        assert (total.paired, total.compared, total.disagreement, total.coverage) == (5, 0, None, 1.0)

    play(scenario)


def test_several_shadows_each_with_a_memory_of_its_own(play, doc):
    async def scenario(desk):
        desk.upstream.offset = {"9": 0.0, "10": -0.2}
        for p in (0.7, 0.55, 0.55):
            await desk.told(p)
        assert desk.total("9").matrix["long"]["long"] == 3
        # 0.5 means nothing, 0.35 enters short, which is held
        assert desk.total("10").matrix["long"] == {"long": 0, "short": 2, "flat": 0, "none": 1}
        assert [summary.name for summary in desk.router.status().routes[0].shadows] == ["10", "9"]

    play(scenario, doc(shadows=({"version": "9"}, {"version": "10"})))


def test_the_mirrored_share_goes_by_the_proposal(play, doc):
    async def scenario(desk):
        for number in range(400):
            await desk.told(0.7, symbol=f"rb{number}.SHFE")
        assert 60 < desk.total().selected < 140
        assert desk.total("8").selected == 0
        assert sum(rows for version, rows in desk.upstream.calls if version == "9") == desk.total().selected

    play(scenario, doc(shadows=({"version": "9", "mirror": 25}, {"version": "8", "mirror": 0})))


def test_features_that_only_the_shadow_knows_are_known(play):
    async def scenario(desk):
        desk.upstream.unknown = {"9"}
        assert (await desk.told({"p": 0.7, "x": 1.0})).outcome is Outcome.EMITTED
        assert desk.excluded() == {"not_learnt": 1}

    play(scenario)


def test_a_shadow_s_server_that_has_another_version(play):
    async def scenario(desk):
        desk.upstream.drift["9"] = "10"
        await desk.told(0.7)
        assert desk.excluded() == {"drift": 1}
        assert desk.upstream.calls == [("7", 1)]

    play(scenario)


def test_what_makes_no_pair_is_counted_by_reason(play):
    async def scenario(desk):
        up = desk.upstream
        await desk.told(0.7)
        await desk.told({"p": 7.0})  # rejected
        old = desk.snapshot(0.7)
        await desk.told(0.7)
        await desk.router.predict(old)  # out of order
        up.fail = {"7": Problem.MODEL_FAILED}
        await desk.told(0.7)  # failover
        up.fail = {"7": Problem.MODEL_FAILED, "6": Problem.MODEL_FAILED}
        await desk.told(0.7)  # nobody
        up.fail = {"9": Problem.MODEL_TIMEOUT}
        await desk.told(0.7)
        up.fail = {"9": Problem.MODEL_FAILED}
        await desk.told(0.7)
        up.fail = {}
        desk.disk.room = 0
        await desk.told(0.7)  # not recorded
        desk.disk.room = None
        assert desk.excluded() == {
            "rejected": 1,
            "unsettled": 2,
            "degraded": 1,
            "no_answer": 1,
            "timeout": 1,
            "failed": 1,
        }
        total = desk.total()
        assert (total.paired, total.selected, total.coverage) == (2, 8, 0.25)
        assert desk.sample("signalyard_shadow_excluded_total", reason="timeout") == 1
        assert desk.sample("signalyard_shadow_excluded_total", reason="internal") == 0

    play(scenario)


def test_a_repeated_snapshot_counts_once(play, turns):
    async def scenario(desk):
        snapshot = desk.snapshot(0.7)
        await desk.router.predict(snapshot)
        await desk.router.predict(snapshot)
        await turns()
        assert desk.total().selected == 1

    play(scenario)


def test_a_row_that_the_shadow_cannot_score(play):
    async def scenario(desk):
        original = desk.upstream.score

        async def score(target, card, rows, until):
            desk.upstream.row_errors = {0: "odd"} if target.version == "9" else {}
            return await original(target, card, rows, until)

        desk.upstream.score = score
        await desk.told(0.7)
        assert desk.excluded() == {"row_error": 1}

    play(scenario)


def test_whatever_a_shadow_does_it_ends_in_a_counter(play, caplog):
    async def scenario(desk):
        original = desk.upstream.score

        async def score(target, card, rows, until):
            if target.version == "9":
                raise RuntimeError("nobody foresaw this")
            return await original(target, card, rows, until)

        desk.upstream.score = score
        assert (await desk.told(0.7)).outcome is Outcome.EMITTED
        assert desk.excluded() == {"internal": 1}
        assert "nobody foresaw this" in caplog.text

    play(scenario)


def test_a_failure_of_the_comparison_reaches_no_request(play, caplog, monkeypatch):
    async def scenario(desk):
        monkeypatch.setattr(desk.router._shadow, "_mirror", lambda *_: 1 / 0)
        assert (await desk.told(0.7)).outcome is Outcome.EMITTED
        assert desk.registry.get_sample_value("signalyard_shadow_errors_total") == 1
        assert "event=shadow_failed" in caplog.text

    play(scenario)


def test_the_live_answer_comes_before_the_mirrored_call(play, turns):
    async def scenario(desk):
        await desk.ask(0.7)
        assert [version for version, _ in desk.upstream.calls] == ["7"]
        await turns()
        assert [version for version, _ in desk.upstream.calls] == ["7", "9"]

    play(scenario)


def test_a_hung_shadow_is_bounded_in_calls_rows_and_time(play, doc, turns):
    async def scenario(desk):
        desk.upstream.fail["9"] = "hang"
        for _ in range(20):
            assert (await desk.told(0.7)).outcome in ("emitted", "suppressed")
        calls = [rows for version, rows in desk.upstream.calls if version == "9"]
        assert calls == [1, 1]  # its two
        assert desk.comparison().waiting == 8
        assert desk.excluded() == {"queue_full": 12}
        assert desk.sample("signalyard_shadow_waiting") == 8
        desk.world.clock.advance(SECOND)
        await desk.told(0.7)
        assert desk.excluded() == {"queue_full": 12, "expired": 6}  # what waited too long makes room
        assert desk.comparison().waiting == 3

    play(scenario, doc(shadow={"queue": 8, "concurrency": 2, "deadline": "1s"}))


def test_answers_are_compared_in_the_order_of_the_decisions(play, turns):
    async def scenario(desk):
        first, second = asyncio.Event(), asyncio.Event()
        desk.upstream.gates["9"] = [first, second]
        await desk.told(0.7)
        await desk.told(0.55)  # a long only after the one before
        second.set()
        await turns()
        assert desk.total().paired == 0
        first.set()
        await turns()
        assert desk.total().matrix["long"] == {"long": 2, "short": 0, "flat": 0, "none": 0}

    play(scenario)


def test_what_piles_up_travels_together(play, doc, turns):
    async def scenario(desk):
        gate = asyncio.Event()
        desk.upstream.gates["9"] = [gate]
        await desk.told(0.7)
        for _ in range(100):
            await desk.told(0.7)
        gate.set()
        await turns()
        await turns()
        assert [rows for version, rows in desk.upstream.calls if version == "9"] == [1, 64, 36]
        assert desk.total().paired == 101

    play(scenario, doc(shadow={"concurrency": 1, "deadline": "10s"}))


def test_a_shadow_begins_with_what_the_live_mapping_holds(play, doc):
    async def scenario(desk):
        await desk.told(0.7)
        await desk.restart(doc())
        await desk.told(0.55)  # long is held by the live side alone, were the memory empty
        assert desk.total().matrix["long"]["long"] == 1

    play(scenario)


def test_windows_slide(play):
    async def scenario(desk):
        await desk.told(0.7)
        desk.world.clock.advance(300 * SECOND)
        await desk.told(0.7)
        windows = desk.comparison().windows
        assert {name: window.paired for name, window in windows.items()} == {"1m": 1, "10m": 2, "1h": 2, "total": 2}

    play(scenario)


def test_the_verdict(play, doc):
    async def scenario(desk):
        asked = []
        for p in (0.7, 0.7, 0.7, 0.7):
            await desk.told(p)
            asked.append(desk.total().verdict.result)
        assert asked == ["not_enough_data"] * 2 + ["pass"] * 2
        desk.upstream.offset["9"] = -0.5
        await desk.told(0.7)
        verdict = desk.total().verdict
        assert verdict.result == "fail"
        assert [text.split()[0] for text in verdict.failed] == ["disagreement", "scoreDifference"]
        desk.upstream.fail["9"] = Problem.MODEL_FAILED
        for _ in range(10):
            await desk.told(0.7)
        assert "coverage 0.3333 < 0.9" in desk.total().verdict.failed
        assert desk.router.status().routes[0].shadows[0].verdict == "fail"

    play(scenario, doc(shadow={"thresholds": {"minimum": 3, "disagreement": 0.1, "scoreDifference": 0.05}}))


def test_pairs_in_the_journal(play, doc, turns):
    async def scenario(desk):
        desk.upstream.offset["9"] = 0.05
        for p in (0.7, 0.57, 0.5):
            await desk.told(p)
        assert len(desk.records("shadow")) == 2  # each goes out with the next decision, never by itself
        before = desk.total()
        await desk.restart(doc(shadow={"journal": True}))
        assert len(desk.records("shadow")) == 3
        (comparison,) = recorded(RealDisk(), str(desk.folder)).comparisons
        after = comparison.windows["total"]
        assert (after.matrix, after.score, after.signals) == (before.matrix, before.score, before.signals)
        assert after.coverage is None
        assert comparison.digest == "sha256:" + "9".zfill(64)

    play(scenario, doc(shadow={"journal": True}))


def test_notes_are_bounded_and_never_hold_a_commit_up(play, doc):
    async def scenario(desk):
        pair_of = []
        desk.router._shadow._journal.note = lambda notes: pair_of.append(notes) or 0
        await desk.told(0.7)
        assert desk.registry.get_sample_value("signalyard_shadow_notes_dropped_total") == 1
        del desk.router._shadow._journal.note
        note = pair_of[0][0]
        assert desk.journal.note([note] * 1_500) == 1_000
        assert desk.journal.note([note]) == 0
        await desk.ask(0.7)
        assert len(desk.records("shadow")) == 100

    play(scenario, doc(shadow={"journal": True}))


def test_a_reload_keeps_the_counts_of_what_stays(play, doc, turns):
    async def scenario(desk):
        await desk.told(0.7)

        def routes(*shadows):
            return [compile_route(parse_document(doc(shadows=shadows), "test"))]

        desk.router.take(routes({"version": "9"}, {"version": "10"}))
        assert (desk.total("9").paired, desk.total("10").paired) == (1, 0)
        desk.router.take(routes({"version": "10"}))
        await desk.told(0.7)
        assert [comparison.name for comparison in desk.router.shadow().comparisons] == ["10"]
        assert desk.sample("signalyard_shadow_waiting") is None

    play(scenario)


def test_a_report_on_an_unknown_route(play):
    async def scenario(desk):
        with pytest.raises(SignalyardError, match="unknown_route"):
            desk.router.shadow("nope")

    play(scenario)


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"shadows": ({"version": "9"}, {"version": "9"})}, "/spec/tracks/3/version"),
        ({"shadows": ({"version": "9", "weight": 1},)}, "/spec/tracks/2/weight"),
        ({"shadows": ({"version": "9", "mirror": 0.001},)}, "/spec/tracks/2/mirror"),
        ({"shadows": ({"version": "9", "mirror": 101},)}, "/spec/tracks/2/mirror"),
        ({"shadow": {"deadline": "0s"}}, "/spec/shadow/deadline"),
        ({"shadow": {"queue": 0}}, "/spec/shadow/queue"),
        ({"pin": {"rb1.SHFE": "shadow"}}, "/spec/pin"),
        ({"mode": "off"}, "/spec/mode"),
        ({"shadows": ({"version": "7", "endpoint": {"service": "stable", "port": 1}},)}, "/spec/tracks/2"),
    ],
)
def test_documents_that_are_not_good(doc, more, pointer):
    with pytest.raises(SignalyardError) as caught:
        compile_route(parse_document(doc(**more), "test"))
    assert caught.value.pointer.replace("/...", "/2") == pointer


def test_only_a_shadow_is_mirrored_to(doc):
    data = doc()
    data["spec"]["tracks"][1]["mirror"] = 5
    with pytest.raises(SignalyardError) as caught:
        compile_route(parse_document(data, "test"))
    assert caught.value.pointer == "/spec/tracks/1/mirror"


def test_defaults_of_a_shadow(doc):
    route = compile_route(parse_document(doc(), "test"))
    assert (route.shadows[0].mirror, route.shadow.deadline, route.shadow.queue) == (10_000, 200 * MILLISECOND, 1000)
    assert [target.version for target in route.targets()] == ["7", "6", "6", "9"]
    assert [target.version for target in route.live_targets()] == ["7", "6", "6"]
