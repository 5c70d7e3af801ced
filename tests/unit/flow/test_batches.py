"""Requests that are decided together: who goes with whom, whose decision is whose, and what a failure means for whom."""

import asyncio
from typing import Any

import pytest
from tests.unit.flow.test_router import NAME, Desk, document, run

from signalyard import Snapshot
from signalyard.problems import Problem
from signalyard.wire import Decision
from signalyard_router.rules.chunks import rows_together
from signalyard_router.rules.latency import Sharing
from signalyard_router.rules.rows import rows_of
from signalyard_router.rules.units import MILLISECOND
from signalyard_router.settings import RouterSettings


class Counter:
    """Where requests are handed in, and what became of them is counted."""

    def __init__(self, desk: Desk, share: int = 4) -> None:
        self.desk = desk
        desk.upstream.share_rows = share

    def ask(self, *values: float, remaining: int | None = None, symbol: str = NAME) -> "asyncio.Task[list[Decision]]":
        snapshots: list[Snapshot] = [self.desk.snapshot(value, symbol) for value in values]
        deciding = self.desk.router.decide(rows_of(snapshots), remaining=remaining)
        return asyncio.get_running_loop().create_task(deciding)

    async def turn(self, times: int = 8) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    @property
    def made(self) -> list[int]:
        return [rows for _, rows in self.desk.upstream.calls]

    @property
    def shared(self) -> float | None:
        return self.desk.registry.get_sample_value("signalyard_shared_rows_total")


def values(answers: list[list[Decision]], desk: Desk) -> list[list[float]]:
    """What was asked in each decision, by the journal."""
    recorded = {record["proposal_id"]: record["input"]["values"][0] for record in desk.records()}
    return [[recorded[decision.proposal_id] for decision in decisions] for decisions in answers]


def test_what_comes_in_one_turn_is_one_call_and_one_commit_and_everybody_gets_his_own(tmp_path: Any) -> None:
    async def scenario(desk: Desk) -> None:
        counter = Counter(desk, 8)
        alone = counter.ask(0.1)
        assert values([await alone], desk) == [[0.1]]
        assert (counter.made, counter.shared) == ([1], 0)
        tasks = [counter.ask(0.2), counter.ask(0.3, 0.4), counter.ask(0.5)]
        answers = await asyncio.gather(*tasks)
        assert values(answers, desk) == [[0.2], [0.3, 0.4], [0.5]]
        assert [[decision.row for decision in decisions] for decisions in answers] == [[0], [0, 1], [0]]
        assert (counter.made, counter.shared) == ([1, 4], 4)
        assert (
            desk.registry.get_sample_value("signalyard_journal_commits_total", {"result": "ok"}) == 3
        )  # with the route's

    run(scenario, tmp_path)


def test_nobody_waits_for_a_call_that_is_under_way(tmp_path: Any) -> None:
    async def scenario(desk: Desk) -> None:
        counter = Counter(desk)
        desk.upstream.script.append("hang")
        first = counter.ask(0.1)
        await counter.turn()
        assert values([await counter.ask(0.2)], desk) == [[0.2]]
        assert not first.done()
        desk.upstream.release()
        await first

    run(scenario, tmp_path)


def test_no_more_rows_go_together_than_should_share_a_call(tmp_path: Any) -> None:
    async def scenario(desk: Desk) -> None:
        counter = Counter(desk)
        tasks = [counter.ask(0.1), counter.ask(0.2, 0.3, 0.4, 0.5), counter.ask(0.6), counter.ask(0.7)]
        assert values(await asyncio.gather(*tasks), desk) == [[0.1], [0.2, 0.3, 0.4, 0.5], [0.6], [0.7]]
        assert (counter.made, counter.shared) == ([1, 4, 2], 2)
        desk.upstream.share_rows = 1
        await asyncio.gather(counter.ask(0.8), counter.ask(0.9))
        assert counter.made[3:] == [1, 1]

    run(scenario, tmp_path)


def test_where_they_are_not_to_gather_each_goes_its_own_way(tmp_path: Any) -> None:
    async def scenario(desk: Desk) -> None:
        counter = Counter(desk)
        await asyncio.gather(counter.ask(0.1), counter.ask(0.2))
        assert counter.made == [1, 1]

    run(scenario, tmp_path, settings=RouterSettings(gather=False))


def test_only_those_that_go_the_same_way_wait_for_one_another(tmp_path: Any) -> None:
    async def scenario(desk: Desk) -> None:
        counter = Counter(desk, 8)
        desk.upstream.script.extend(["hang", None])
        mine = [counter.ask(0.1, symbol="rb2410.SHFE"), counter.ask(0.2, symbol="rb2411.SHFE")]
        elsewhere = [counter.ask(0.3, symbol="hc2410.SHFE"), counter.ask(0.4, symbol="hc2411.SHFE")]
        await asyncio.gather(*elsewhere)
        assert counter.made == [2, 2]
        assert not any(task.done() for task in mine)
        desk.upstream.release()
        await asyncio.gather(*mine)
        # a request on both is one with its likes, and makes a call on each
        desk.upstream.calls.clear()
        both = rows_of([desk.snapshot(0.5, "rb2410.SHFE"), desk.snapshot(0.6, "hc2410.SHFE")])
        more = rows_of([desk.snapshot(0.7, "rb2411.SHFE"), desk.snapshot(0.8, "hc2411.SHFE")])
        await asyncio.gather(desk.router.decide(both), desk.router.decide(more), counter.ask(0.9))
        assert sorted(counter.made) == [1, 2, 2]

    run(
        scenario,
        tmp_path,
        document("rb-trend"),
        document("hc-trend", instruments=["hc*.SHFE"]),
    )


def test_only_what_must_be_answered_at_about_the_same_time_goes_together_and_ends_with_the_first(tmp_path: Any) -> None:
    async def scenario(desk: Desk) -> None:
        counter = Counter(desk)
        ends: list[int] = []
        score = desk.upstream.score

        async def noted(target: Any, card: Any, rows: Any, until: int) -> Any:
            ends.append((until - desk.world.clock.monotonic()) // MILLISECOND)
            return await score(target, card, rows, until)

        desk.upstream.score = noted
        left = [60 * MILLISECOND, 20 * MILLISECOND, 20 * MILLISECOND + 900_000]
        rows = [rows_of(desk.snapshot(value)) for value in (0.1, 0.2, 0.3)]
        answers = await asyncio.gather(
            *(desk.router.decide(row, remaining=much) for row, much in zip(rows, left, strict=True))
        )
        assert values(answers, desk) == [[0.1], [0.2], [0.3]]
        assert counter.made == [2, 1]
        first, second = ends
        assert first < 20 < second < 60

    run(scenario, tmp_path)


@pytest.mark.parametrize(
    ("problem", "made"), [(Problem.MODEL_FAILED, [3, 1, 1, 1, 1]), (Problem.MODEL_UNREACHABLE, [3, 3])]
)
def test_a_failure_that_one_row_may_have_caused_is_not_everybodys(
    tmp_path: Any, problem: Problem, made: list[int]
) -> None:
    """Each is asked again apart; the ladder is for those that fail once more."""

    async def scenario(desk: Desk) -> None:
        counter = Counter(desk)
        desk.upstream.script.extend([problem, None, problem, None] if len(made) > 2 else [problem])
        answers = await asyncio.gather(counter.ask(0.1), counter.ask(0.2), counter.ask(0.3))
        assert values(answers, desk) == [[0.1], [0.2], [0.3]]
        assert counter.made == made
        versions = {record["input"]["values"][0]: record["version"] for record in desk.records()}
        results = {
            record["input"]["values"][0]: [step["result"] for step in record["steps"]] for record in desk.records()
        }
        if len(made) == 2:
            assert set(versions.values()) == {"6"}
        else:
            assert versions == {0.1: "7", 0.2: "6", 0.3: "7"}
            assert results == {
                0.1: [problem, "answered"],
                0.2: [problem, problem, "answered"],
                0.3: [problem, "answered"],
            }

    run(scenario, tmp_path, document(ladder=[{"standby": "6"}, {"skip": {}}]))


def test_whoever_leaves_takes_nobody_along_and_is_not_decided(tmp_path: Any) -> None:
    async def scenario(desk: Desk) -> None:
        counter = Counter(desk)
        desk.upstream.script.append("hang")
        tasks = [counter.ask(value) for value in (0.1, 0.2, 0.3)]
        await counter.turn()
        tasks[1].cancel()
        await counter.turn()
        desk.upstream.release()
        answers = await asyncio.gather(tasks[0], tasks[2])
        assert values(answers, desk) == [[0.1], [0.3]]
        assert tasks[1].cancelled()
        assert len(desk.records()) == 2
        assert desk.router.status().rows_in_flight == 0
        # and where all have left before the turn is over, nothing is sent
        gone = counter.ask(0.4)
        await asyncio.sleep(0)
        gone.cancel()
        await counter.turn()
        assert counter.made == [3]

    run(scenario, tmp_path)


def test_what_nobody_foresaw_is_told_to_everybody(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(desk: Desk) -> None:
        counter = Counter(desk)

        async def wrong(*args: Any) -> Any:
            raise RuntimeError("a bug")

        monkeypatch.setattr(desk.upstream, "score", wrong)
        found = await asyncio.gather(counter.ask(0.1), counter.ask(0.2), return_exceptions=True)
        assert [repr(exc) for exc in found] == ["RuntimeError('a bug')"] * 2
        assert desk.router.status().rows_in_flight == 0

    run(scenario, tmp_path)


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


def test_where_nothing_comes_alone_bursts_are_found_out_as_well() -> None:
    def bursts(way: float, row: float) -> int:
        sharing = Sharing(MILLISECOND, 256)
        sharing.observe(int(50 * MILLISECOND), 2)  # the first finds everything cold
        for _ in range(200):
            sharing.observe(int((way + row * sharing.rows) * MILLISECOND), sharing.rows)
        return sharing.rows

    assert bursts(0.3, 0.002) == 256
    assert bursts(0.3, 0.02) in (32, 64)
    assert bursts(0.3, 5.0) in (2, 4)


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
