"""The whole router in process: it asks, decides, records and ends as the one with servers does."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from prometheus_client import CollectorRegistry

from signalyard import (
    CallerError,
    Columnar,
    ColumnarRow,
    Direction,
    ModelError,
    Outcome,
    Problem,
    Reason,
    RouterError,
    SeveralDecisionsError,
    Snapshot,
    Track,
)
from signalyard_inline import InlineRouter, open_inline
from signalyard_inline.model import ENDPOINT
from signalyard_router.journal.query import Position, follow
from signalyard_router.journal.verify import verify
from signalyard_router.rules.levers import Order
from signalyard_router.rules.record import DecisionRecord
from signalyard_router.world.real import RealDisk
from signalyard_runtimes import inline
from signalyard_runtimes.bundle import signature

PATIENCE = 60.0
_numbers = count()
UP, DOWN = 0.9, -0.9


def snapshot(ret: float | None = UP, symbol: str = "rb2410.SHFE", **more: Any) -> Snapshot:
    return Snapshot(symbol=symbol, ts_event=time.time_ns(), features={"close": 3500.0, "ret_5": ret}, **more)


def fresh() -> Snapshot:
    """Of an instrument on which nothing is open: there is nothing that the version before could hold on to."""
    return snapshot(symbol=f"rb{next(_numbers)}.SHFE")


def eventually(found: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)


def test_a_strategy_gets_decisions_whose_scores_are_the_bundles(place) -> None:
    with InlineRouter(place.settings, PATIENCE) as router:
        asked = snapshot()
        decision = router.decide(asked)
        again = router.decide(asked)
        other = router.decide(snapshot(DOWN))
    model = inline.load(place.models / "rb-trend-7")
    score = model.score([3500.0, UP])
    signal = decision.signal
    assert decision.outcome is Outcome.EMITTED
    assert signal is not None
    assert (signal.signal, signal.score, signal.confidence) == (Direction.LONG, score, model.confidence(score))
    assert (signal.version, signal.digest, signal.track) == ("7", model.card.digest, Track.STABLE)
    assert again.signal == signal
    assert other.signal is not None
    assert (other.signal.signal, other.signal.seq, other.signal.prev_seq) == (Direction.SHORT, 2, 1)


def test_the_journal_is_one_that_every_command_reads_and_the_next_run_goes_on_with_it(place) -> None:
    asked = snapshot()
    with InlineRouter(place.settings, PATIENCE) as router:
        first = router.decide(asked)
    (verified,) = asyncio.run(verify(RealDisk(), str(place.journal)))
    assert verified.kinds["decision"] == 1
    records = [
        record for record in follow(RealDisk(), str(place.journal), Position()) if isinstance(record, DecisionRecord)
    ]
    assert [record.steps[0].endpoint for record in records] == [ENDPOINT]
    with InlineRouter(place.settings, PATIENCE) as router:
        assert router.decide(asked).signal == first.signal
        (opinion,) = router.state().opinions
        assert (opinion.symbol, opinion.signal) == ("rb2410.SHFE", Direction.LONG)


def test_many_rows_are_decided_as_each_alone(place) -> None:
    place.route(instruments="rb*.SHFE")
    symbols = [f"rb{index:04d}.SHFE" for index in range(40)]
    returns = [None if index % 7 == 0 else (index - 20) / 10 for index in range(40)]
    now = time.time_ns()
    rows = [
        ColumnarRow(symbol, now, [ret, 3500.0 if index != 11 else -1.0])
        for index, (symbol, ret) in enumerate(zip(symbols, returns, strict=True))
    ]
    with InlineRouter(place.settings, PATIENCE) as router:
        decisions = router.predict(Columnar(columns=["ret_5", "close"], rows=rows))
    model = inline.load(place.models / "rb-trend-7")
    assert [decision.symbol for decision in decisions] == symbols
    bad = decisions[11]
    assert bad.outcome is Outcome.REJECTED
    assert bad.problem is not None
    assert (bad.problem.code, bad.problem.pointer) == (Problem.FEATURE_OUT_OF_RANGE, "/rows/11/2/1")
    for decision, ret in zip(decisions, returns, strict=True):
        if decision.signal is not None:
            assert decision.signal.score == model.score([3500.0, ret])
    assert sum(decision.signal is not None for decision in decisions) > 20


@pytest.mark.parametrize(
    ("given", "problem", "pointer"),
    [
        (snapshot(None, symbol="rb2410"), Problem.INVALID_INSTRUMENT, "/symbol"),
        (snapshot(symbol="cu2410.SHFE"), Problem.NO_ROUTE, "/symbol"),
        (snapshot(float("inf")), Problem.FEATURE_NOT_FINITE, "/features/ret_5"),
        (
            Snapshot(symbol="rb1.SHFE", ts_event=1, features={"close": 1.0, "ret_5": 0.0}),
            Problem.SNAPSHOT_TOO_OLD,
            "/ts_event",
        ),
        (
            Snapshot(symbol="rb1.SHFE", ts_event=time.time_ns(), features={"ret_5": 0.0}),
            Problem.MISSING_FEATURE,
            "/features/close",
        ),
        (
            Snapshot(symbol="rb1.SHFE", ts_event=time.time_ns(), features={"close": "3500", "ret_5": 0.0}),
            Problem.INVALID_SNAPSHOT,
            "/features/close",
        ),
    ],
)
def test_a_bad_snapshot_raises_naming_the_field(place, given, problem, pointer) -> None:
    with InlineRouter(place.settings, PATIENCE) as router:
        with pytest.raises(CallerError) as caught:
            router.decide(given)
        assert (caught.value.problem, caught.value.pointer) == (problem, pointer)
        assert router.decide(snapshot()).outcome is Outcome.EMITTED


def test_two_routes_give_two_decisions(place) -> None:
    place.route("rb-second")
    with InlineRouter(place.settings, PATIENCE) as router:
        asked = snapshot()
        with pytest.raises(SeveralDecisionsError) as caught:
            router.decide(asked)
        assert sorted(decision.route for decision in caught.value.decisions) == ["rb-second", "rb-trend"]
        assert router.decide(snapshot(route="rb-second")).route == "rb-second"


def test_a_halt_holds_and_outlives_the_process(place) -> None:
    with InlineRouter(place.settings, PATIENCE) as router:
        lever = router.pull(Order(action="halt", route="rb-trend", by="ann", why="a test"))
        held = router.decide(snapshot())
        with pytest.raises(CallerError) as caught:
            router.pull(Order(action="halt", route="nowhere", by="ann", why="a test"))
        assert caught.value.problem is Problem.UNKNOWN_ROUTE
    with InlineRouter(place.settings, PATIENCE) as router:
        assert [known.id for known in router.status().levers] == [lever.id]
        after = router.decide(snapshot())
    assert {(d.outcome, d.reason) for d in (held, after)} == {(Outcome.SUPPRESSED, Reason.HALTED)}


# Opening -----------------------------------------------------------------------------------------------------------------


def test_a_version_without_a_bundle_is_refused_at_the_beginning(place) -> None:
    place.route(stable="9")
    with pytest.raises(ModelError, match=r"no bundle of rb-trend 9; there are rb-trend 6, rb-trend 7") as caught:
        InlineRouter(place.settings)
    assert caught.value.problem is Problem.BUNDLE_NOT_FOUND
    # and the journal's lock is free again
    place.route()
    with InlineRouter(place.settings, PATIENCE) as router:
        assert router.decide(snapshot()).outcome is Outcome.EMITTED


def test_a_bundle_that_was_changed_is_refused_at_the_beginning(place) -> None:
    (place.models / "rb-trend-6" / "model.txt").write_bytes(b"tree\n")
    with pytest.raises(ModelError, match="rb-trend-6") as caught:
        InlineRouter(place.settings)
    assert caught.value.problem is Problem.BUNDLE_FILE_CHANGED


def test_with_keys_only_signed_bundles_are_loaded(place) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    keys = place.models.parent / "keys"
    keys.mkdir()
    private, public = keys / "desk.key", keys / "desk.pub"
    private.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(secret.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    trusting = replace(place.settings, trust=(keys,))
    signature.attach(place.models / "rb-trend-7", private)
    with pytest.raises(ModelError, match="rb-trend-6") as caught:
        InlineRouter(trusting)
    assert caught.value.problem is Problem.BUNDLE_UNSIGNED
    signature.attach(place.models / "rb-trend-6", private)
    with InlineRouter(trusting, PATIENCE) as router:
        assert router.decide(snapshot()).outcome is Outcome.EMITTED
    with pytest.raises(CallerError) as nothing:
        InlineRouter(replace(place.settings, trust=(place.models / "nowhere",)))
    assert (nothing.value.problem, nothing.value.pointer) == (Problem.INVALID_SETTING, "/trust")


def test_a_bad_document_and_a_journal_in_use_are_refused_at_the_beginning(place) -> None:
    with InlineRouter(place.settings, PATIENCE), pytest.raises(RouterError) as locked:
        InlineRouter(place.settings)
    assert locked.value.problem is Problem.JOURNAL_LOCKED
    with pytest.raises(CallerError) as caught:
        InlineRouter(place.settings, deadline=0)
    assert (caught.value.problem, caught.value.pointer) == (Problem.INVALID_SETTING, "/deadline")


def test_what_ends_a_load_without_a_reason_ends_the_opening(place, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: object, model: str, version: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("signalyard_inline.bundles.Bundles.load", broken)
    with pytest.raises(RouterError, match="rb-trend:7") as caught:
        InlineRouter(place.settings)
    assert caught.value.problem is Problem.INTERNAL


# Life --------------------------------------------------------------------------------------------------------------------


def test_a_document_that_changes_brings_its_bundle_and_one_without_a_bundle_leaves_the_ladder(
    place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signalyard_inline.upstream._AGAIN_SECONDS", 0.05)
    place.pack("8")

    def answered_by(router: InlineRouter) -> tuple[str | None, bool]:
        signal = router.decide(fresh()).signal
        return (None, False) if signal is None else (signal.version, signal.failover)

    with InlineRouter(place.settings, PATIENCE) as router:
        assert answered_by(router) == ("7", False)
        place.route(stable="8")
        eventually(lambda: answered_by(router) == ("8", False))
        (place.models / "rb-trend-7").rename(place.models / ".away")
        place.route(stable="9", standby="8")
        eventually(lambda: answered_by(router) == ("8", True))
        stable = router.status().routes[0].tracks[0]
        assert not stable.endpoints[0].ready
        assert "no bundle of rb-trend 9" in (stable.endpoints[0].problem or "")


def test_a_bundle_that_comes_later_is_found(place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signalyard_inline.upstream._AGAIN_SECONDS", 0.05)
    with InlineRouter(place.settings, PATIENCE) as router:
        place.route(stable="8", standby="7")
        eventually(lambda: (signal := router.decide(fresh()).signal) is not None and signal.failover)
        place.pack("8")
        eventually(lambda: (signal := router.decide(fresh()).signal) is not None and signal.version == "8")


def test_threads_share_a_router(place) -> None:
    place.route(window="5s")
    found: list[Outcome] = []
    with InlineRouter(place.settings, PATIENCE) as router:

        def work(name: int) -> None:
            for index in range(25):
                found.append(router.decide(snapshot(symbol=f"rb{name}{index:03d}.SHFE")).outcome)

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [Outcome.EMITTED] * 100


def test_a_deadline_ends_the_wait_and_not_the_decision(place, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    place.route(deadline="1s")
    with InlineRouter(place.settings, PATIENCE) as router:
        monkeypatch.setattr("signalyard_inline.model._PROMPT", 0)  # every call on the model's own thread
        monkeypatch.setattr(inline.InlineModel, "score", lambda self, row: (go.wait(PATIENCE), 0.9)[1])
        with pytest.raises(RouterError) as caught:
            router.decide(snapshot(), deadline=0)
        assert caught.value.problem is Problem.DEADLINE_EXCEEDED
        # the router keeps time although the model hangs: it says so itself, and the ladder's rungs hang as well
        decision = router.decide(snapshot())
        assert (decision.outcome, decision.reason) == (Outcome.ABSTAINED, Reason.NO_ANSWER)
        go.set()


def test_a_model_that_fails_is_followed_by_the_standby(place, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = inline.InlineModel.score

    def broken(self: inline.InlineModel, row: Any) -> float:
        if self.card.version == "7":
            raise ModelError(Problem.MODEL_FAILED, "the model raised ZeroDivisionError")
        return honest(self, row)

    with InlineRouter(place.settings, PATIENCE) as router:
        monkeypatch.setattr(inline.InlineModel, "score", broken)
        signal = router.decide(snapshot()).signal
    assert signal is not None
    assert (signal.version, signal.failover) == ("6", True)


def test_after_the_end_nothing_is_asked_and_a_forgotten_router_ends_itself(place) -> None:
    router = InlineRouter(place.settings, PATIENCE)
    router.close()
    router.close()
    with pytest.raises(RuntimeError, match="closed"):
        router.decide(snapshot())
    forgotten = InlineRouter(place.settings, PATIENCE)
    assert forgotten.decide(snapshot()).outcome is Outcome.EMITTED
    del forgotten
    gc.collect()
    with InlineRouter(place.settings, PATIENCE) as router:
        assert router.decide(snapshot()).outcome is Outcome.EMITTED


def test_a_call_that_is_under_way_at_the_end_is_answered(place, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go = threading.Event(), threading.Event()
    monkeypatch.setattr("signalyard_inline.blocking._SETTLE_SECONDS", PATIENCE)
    router = InlineRouter(place.settings, PATIENCE)
    monkeypatch.setattr("signalyard_inline.model._PROMPT", 0)
    monkeypatch.setattr(inline.InlineModel, "score", lambda self, row: (entered.set(), go.wait(PATIENCE), 0.9)[-1])
    found: list[Outcome] = []
    asking = threading.Thread(target=lambda: found.append(router.decide(snapshot()).outcome))
    asking.start()
    assert entered.wait(PATIENCE)
    threading.Timer(0.1, go.set).start()
    router.close()
    asking.join()
    assert found == [Outcome.EMITTED]


def test_a_call_that_does_not_end_is_given_up_at_the_end(place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signalyard_inline.blocking._SETTLE_SECONDS", 0.0)
    monkeypatch.setattr("signalyard_inline.model._PROMPT", 0)
    entered, go = threading.Event(), threading.Event()
    place.route(deadline="60s")
    router = InlineRouter(place.settings, PATIENCE)
    monkeypatch.setattr(inline.InlineModel, "score", lambda self, row: (entered.set(), go.wait(PATIENCE), 0.9)[-1])
    found: list[Problem] = []

    def ask() -> None:
        with pytest.raises(RouterError) as caught:
            router.decide(snapshot())
        found.append(caught.value.problem)

    asking = threading.Thread(target=ask)
    asking.start()
    assert entered.wait(PATIENCE)
    router.close()
    asking.join()
    go.set()
    assert found == [Problem.DRAINING]


# On a strategy's own loop ------------------------------------------------------------------------------------------------


def test_the_same_on_an_event_loop(place) -> None:
    registry = CollectorRegistry()

    async def strategy() -> None:
        async with open_inline(place.settings, registry=registry) as router:
            decision = await router.decide(snapshot(), deadline=PATIENCE)
            assert decision.outcome is Outcome.EMITTED
            together = await asyncio.gather(*(router.decide(snapshot(symbol=f"rb{n}.SHFE")) for n in range(20)))
            assert {one.outcome for one in together} == {Outcome.EMITTED}
            assert len(router.state().opinions) == 21
            assert len(router.state("rb7.SHFE").opinions) == 1
            for deadline, problem in ((0.0, Problem.DEADLINE_EXCEEDED), (1e9, Problem.INVALID_SETTING)):
                with pytest.raises((CallerError, RouterError)) as caught:
                    await router.decide(snapshot(), deadline=deadline)
                assert caught.value.problem is problem
            assert await router.predict([]) == []
            await router.pull(Order(action="halt", route=None, by="ann", why="a test"))
            assert (await router.decide(snapshot())).reason is Reason.HALTED
            assert router.status().ready

    asyncio.run(strategy())
    counted = [
        sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "signalyard_decisions_total" and sample.labels["outcome"] == "emitted"
    ]
    assert sum(counted) == 21
