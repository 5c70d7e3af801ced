"""A loaded bundle as the router asks it: by a point in time, and with an end for every call."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from signalyard.problems import ModelError, Problem
from signalyard_inline.model import ENDPOINT, LoadedModel
from signalyard_router.ports import CallFailed
from signalyard_router.testing.world import ManualClock
from signalyard_router.world.real import RealClock
from signalyard_runtimes import inline

PATIENCE = 60
SECOND = 10**9
GOOD = [3500.0, 0.9]


@pytest.fixture
def model(place) -> inline.InlineModel:
    return inline.load(Path(place.models) / "rb-trend-7")


def ask(loaded: LoadedModel, rows: Any, until: int) -> Any:
    return asyncio.run(loaded.score(rows, until))


def test_rows_are_answered_as_the_server_answers_them(model: inline.InlineModel) -> None:
    clock = ManualClock()
    loaded = LoadedModel(model, 1.0, clock)
    until = clock.monotonic() + SECOND
    rows = [GOOD, [3490.0, None], [-1.0, 0.0]]
    served = model.scorer.score(model.columns, rows)
    together = ask(loaded, rows, until)
    assert (together.rows, together.endpoint) == (served, ENDPOINT)
    for index, row in enumerate(rows):
        alone = ask(loaded, [row], until).rows
        assert alone.score == served.score[index : index + 1]
        assert alone.confidence == served.confidence[index : index + 1]
        assert alone.row_error == served.row_error[index : index + 1]


def test_what_comes_too_late_is_no_answer(model: inline.InlineModel, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    loaded = LoadedModel(model, 1.0, clock)
    until = clock.monotonic() + SECOND
    honest = model.score

    def slow(row: Any) -> float:
        clock.advance(2 * SECOND)
        return honest(row)

    monkeypatch.setattr(model, "score", slow)
    for detail in ("took longer than the budget", "spent before the model was asked"):
        with pytest.raises(CallFailed, match=detail) as caught:
            ask(loaded, [GOOD], until)
        assert caught.value.problem is Problem.MODEL_TIMEOUT
    assert loaded.in_flight == 0


def test_a_call_that_was_held_up_makes_no_quick_model_slow_and_many_slow_ones_do(
    model: inline.InlineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    loaded = LoadedModel(model, 10_000.0, clock)
    takes = 10_000
    honest = model.score

    def timed(row: Any) -> float:
        clock.advance(takes)
        return honest(row)

    monkeypatch.setattr(model, "score", timed)
    before = loaded.chunk(SECOND // 100)
    takes = SECOND
    ask(loaded, [GOOD], clock.monotonic() + 10 * SECOND)
    assert before == 500
    assert loaded.chunk(SECOND // 100) > 300
    for _ in range(100):
        ask(loaded, [GOOD], clock.monotonic() + 10 * SECOND)
    assert loaded.chunk(10 * SECOND) == 5
    assert (loaded.share(40), loaded.chunk(SECOND // 100)) == (1, 1)
    loaded.close()


def test_a_model_that_hangs_is_left_behind_and_asked_again_when_it_is_free(
    model: inline.InlineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = RealClock()
    loaded = LoadedModel(model, float(SECOND), clock)  # slow by what is known of it: on its own thread
    entered, go = threading.Event(), threading.Event()
    honest = model.score

    def hanging(row: Any) -> float:
        entered.set()
        go.wait(PATIENCE)
        return honest(row)

    monkeypatch.setattr(model, "score", hanging)

    async def scenario() -> None:
        # The budget is spent while the model is at it, however busy the machine.
        with pytest.raises(CallFailed) as caught:
            await loaded.score([GOOD], clock.monotonic() + SECOND // 20)
        while not entered.is_set():
            await asyncio.sleep(0.001)
            with pytest.raises(CallFailed) as caught:
                await loaded.score([GOOD], clock.monotonic() + SECOND // 20)
        assert caught.value.problem in (Problem.MODEL_TIMEOUT, Problem.MODEL_OVERLOADED)
        with pytest.raises(CallFailed, match="still runs") as caught:
            await loaded.score([GOOD], clock.monotonic() + PATIENCE * SECOND)
        assert caught.value.problem is Problem.MODEL_OVERLOADED
        assert [(one.endpoint, one.problem) for one in caught.value.tries] == [(ENDPOINT, Problem.MODEL_OVERLOADED)]
        go.set()
        while True:
            try:
                answered = await loaded.score([GOOD], clock.monotonic() + PATIENCE * SECOND)
            except CallFailed:
                await asyncio.sleep(0.001)
            else:
                break
        assert answered.rows.score == [honest(GOOD)]

    try:
        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))
    finally:
        go.set()
        loaded.close()


def test_a_model_that_raises_has_failed(model: inline.InlineModel, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    loaded = LoadedModel(model, 1.0, clock)

    def broken(*_: Any) -> float:
        raise ModelError(Problem.MODEL_FAILED, "the model raised ZeroDivisionError")

    monkeypatch.setattr(model, "score", broken)
    monkeypatch.setattr(model.scorer, "score_values", broken)
    for rows in ([GOOD], [GOOD, GOOD]):
        with pytest.raises(CallFailed, match="ZeroDivisionError") as caught:
            ask(loaded, rows, clock.monotonic() + SECOND)
        assert caught.value.problem is Problem.MODEL_FAILED
