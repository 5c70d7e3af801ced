"""Calls that requests share: who goes alone, who goes together, whose answer is whose, and what a failure means for whom."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from signalyard._counting import Counter
from signalyard.problems import Problem
from signalyard.profile import Feature, FeatureSchema
from signalyard_router.flow.calls import Calls
from signalyard_router.ports import CallFailed
from signalyard_router.rules.chunks import rows_together
from signalyard_router.rules.latency import Sharing
from signalyard_router.rules.route import Endpoint, Target
from signalyard_router.rules.units import MILLISECOND
from signalyard_router.testing.upstream import FakeUpstream

SCHEMA = FeatureSchema((Feature(name="p"),))
TARGET = Target("rb-trend", "7", (Endpoint("a", 1),))
OTHER = Target("rb-trend", "6", (Endpoint("b", 1),))


class Stage:
    def __init__(self) -> None:
        self.upstream = FakeUpstream(SCHEMA, lambda row: row["p"] or 0.0)
        self.upstream.share_rows = 4
        self.registry = CollectorRegistry()
        shared = Counter("shared", "", registry=self.registry)
        self.calls = Calls(self.upstream, shared)

    def ask(self, *values: float, target: Target = TARGET, until: int = 0) -> "asyncio.Task[list[float | None]]":
        async def asking() -> list[float | None]:
            card = self.upstream.card(target)
            assert card is not None
            share = await self.calls.score(target, card, [[value] for value in values], until)
            return share.scored.rows.score[share.first : share.first + len(values)]

        return asyncio.get_running_loop().create_task(asking())

    async def turn(self, times: int = 5) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    @property
    def made(self) -> list[int]:
        return [rows for _, rows in self.upstream.calls]


@pytest.fixture
def play() -> Callable[[Callable[[Stage], Awaitable[None]]], None]:
    def run(scenario: Callable[[Stage], Awaitable[None]]) -> None:
        async def performance() -> None:
            stage = Stage()
            await scenario(stage)
            await stage.calls.close()

        asyncio.run(performance())

    return run


def test_a_lone_call_goes_out_in_its_own_turn(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        for value in (0.1, 0.2, 0.3):
            task = stage.ask(value)
            await asyncio.sleep(0)
            assert stage.made[-1:] == [1]
            assert await task == [value]
        assert stage.registry.get_sample_value("shared_total") == 0

    play(scenario)


def test_what_comes_in_one_turn_while_a_call_is_under_way_goes_together(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        stage.upstream.script.append("hang")
        tasks = [stage.ask(value) for value in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
        tasks.append(stage.ask(0.7, 0.8))
        elsewhere = stage.ask(0.9, target=OTHER)
        await stage.turn()
        assert stage.upstream.calls == [("7", 1), ("6", 1), ("7", 4), ("7", 4)]
        assert [await task for task in tasks[1:]] == [[0.1], [0.2], [0.3], [0.4], [0.5], [0.6], [0.7, 0.8]]
        assert not tasks[0].done()
        stage.upstream.release()
        assert (await tasks[0], await elsewhere) == ([0.0], [0.9])
        assert stage.registry.get_sample_value("shared_total") == 8

    play(scenario)


def test_rows_that_fill_a_call_go_alone(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        stage.upstream.script.append("hang")
        tasks = [stage.ask(0.0), stage.ask(0.1, 0.2, 0.3, 0.4), stage.ask(0.5)]
        await stage.turn()
        assert stage.made == [1, 4, 1]
        stage.upstream.share_rows = 1
        tasks += [stage.ask(0.6), stage.ask(0.7)]
        await stage.turn()
        assert stage.made == [1, 4, 1, 1, 1]
        stage.upstream.release()
        await asyncio.gather(*tasks)

    play(scenario)


def test_only_calls_that_end_at_about_the_same_time_are_one_and_it_ends_with_the_first(play: Any) -> None:
    ends: list[int] = []

    async def scenario(stage: Stage) -> None:
        score = stage.upstream.score

        async def noted(target: Target, card: Any, rows: Any, until: int) -> Any:
            ends.append(until)
            return await score(target, card, rows, until)

        stage.upstream.score = noted  # type: ignore[method-assign]
        stage.upstream.script.append("hang")
        stage.ask(0.0, until=1)
        tasks = [
            stage.ask(value, until=until)
            for value, until in ((0.1, 30 * MILLISECOND), (0.2, 10 * MILLISECOND), (0.3, 11 * MILLISECOND))
        ]
        await stage.turn()
        assert [await task for task in tasks] == [[0.1], [0.2], [0.3]]
        assert ends == [1, 10 * MILLISECOND, 30 * MILLISECOND]
        assert stage.made == [1, 2, 1]
        stage.upstream.release()

    play(scenario)


@pytest.mark.parametrize(
    ("problem", "made"), [(Problem.MODEL_FAILED, [1, 3, 1, 1, 1]), (Problem.MODEL_TIMEOUT, [1, 3])]
)
def test_a_failure_that_one_row_may_have_caused_is_not_everybodys(play: Any, problem: Problem, made: list[int]) -> None:
    async def scenario(stage: Stage) -> None:
        stage.upstream.script.extend(["hang", problem, None, Problem.MODEL_FAILED, None])
        tasks = [stage.ask(value) for value in (0.0, 0.1, 0.2, 0.3)]
        await stage.turn(10)
        assert stage.made == made
        if len(made) == 2:
            for task in tasks[1:]:
                with pytest.raises(CallFailed) as failed:
                    await task
                assert failed.value.problem is problem
        else:
            assert (await tasks[1], await tasks[3]) == ([0.1], [0.3])
            with pytest.raises(CallFailed) as failed:
                await tasks[2]
            assert [tried.problem for tried in failed.value.tries] == [problem, Problem.MODEL_FAILED]
        stage.upstream.release()
        await tasks[0]

    play(scenario)


def test_whoever_leaves_takes_nobody_along(play: Any) -> None:
    async def scenario(stage: Stage) -> None:
        stage.upstream.script.extend(["hang", "hang"])
        tasks = [stage.ask(value) for value in (0.0, 0.1, 0.2)]
        await stage.turn()
        tasks[1].cancel()
        await stage.turn()
        stage.upstream.release()
        assert await tasks[2] == [0.2]
        assert tasks[1].cancelled()
        # and where all have left before the turn is over, nothing is sent
        stage.upstream.script.append("hang")
        first = stage.ask(0.3)
        await stage.turn()
        gone = stage.ask(0.4)
        await asyncio.sleep(0)
        gone.cancel()
        await stage.turn()
        assert stage.made == [1, 2, 1]
        stage.upstream.release()
        await first

    play(scenario)


@pytest.mark.parametrize(
    ("rows", "endpoints", "most", "expected"),
    [
        (32, 1, 64, 32),
        (32, 4, 64, 8),  # each endpoint has its part
        (100, 1, 64, 64),
        (32, 4, 2, 2),
        (1, 4, 64, 1),
        (32, 0, 64, 32),  # every endpoint has just gone
    ],
)
def test_how_many_rows_share_a_call(rows: int, endpoints: int, most: int, expected: int) -> None:
    assert rows_together(rows, endpoints, most) == expected


def grown(way: float, row: float, calls: int = 200) -> int:
    """Where a server gets to whose calls take so many milliseconds, and so many for each row."""
    sharing = Sharing(MILLISECOND, 256)
    for _ in range(calls):
        for rows in (1, sharing.rows):
            sharing.observe(int((way + row * rows) * MILLISECOND), rows)
    return sharing.rows


def test_a_small_model_gets_bursts_and_a_large_one_rows_by_twos() -> None:
    assert grown(0.3, 0.002) == 256
    assert grown(0.3, 0.02) in (64, 128)
    assert grown(0.3, 5.0) in (2, 4)
    assert grown(30.0, 0.02) == 256  # the router is busy, and so is every kind of call
    assert Sharing(0, 256).rows == Sharing(MILLISECOND, 1).rows == 1


def test_a_model_that_grows_slower_is_noticed() -> None:
    sharing = Sharing(MILLISECOND, 256)
    for _ in range(20):
        sharing.observe(300_000, 1)
        sharing.observe(400_000, sharing.rows)
    assert sharing.rows == 256
    sharing.observe(9 * MILLISECOND, 40)
    assert sharing.rows == 20
    sharing.observe(9 * MILLISECOND, 3)
    assert sharing.rows == 2
    sharing.observe(500_000, 1)  # single ones are no reason to share more
    assert sharing.rows == 2
