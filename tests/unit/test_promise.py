"""What is promised is told at once, once, to the one who waits."""

import asyncio
from typing import Any

import pytest

from signalyard_router.promise import Promise, UnderWay


def test_who_waits_is_told_at_once_and_not_by_a_turn_of_the_loop() -> None:
    promise: Promise[int] = Promise()
    told: list[int] = []
    promise.add_done_callback(lambda done: told.append(done.result()))
    assert not promise.done()
    promise.set_result(7)
    assert told == [7]
    assert promise.done()
    assert not promise.cancel()
    assert told == [7]


def test_who_comes_late_is_told_as_well() -> None:
    promise: Promise[int] = Promise()
    promise.set_exception(ValueError("broken"))
    told: list[Promise[int]] = []
    promise.add_done_callback(told.append)
    assert told == [promise]
    with pytest.raises(ValueError, match="broken"):
        promise.result()


def test_cancelled_it_has_no_result() -> None:
    promise: Promise[int] = Promise()
    assert promise.cancel()
    assert promise.cancelled()
    with pytest.raises(asyncio.CancelledError):
        promise.result()


def test_a_task_waits_for_what_comes_of_it() -> None:
    async def run() -> None:
        kept, broken = Promise[int](), Promise[int]()
        tasks = [asyncio.ensure_future(promise.outcome()) for promise in (kept, broken)]
        await asyncio.sleep(0)
        kept.set_result(7)
        broken.set_exception(ValueError("broken"))
        assert await tasks[0] == 7
        with pytest.raises(ValueError, match="broken"):
            await tasks[1]

    asyncio.run(run())


def test_a_task_that_is_cancelled_waits_no_longer_from_then_on() -> None:
    async def run() -> None:
        promise: Promise[int] = Promise()
        task = asyncio.ensure_future(promise.outcome())
        await asyncio.sleep(0)
        task.cancel()
        assert promise.done()  # before the task had a turn
        with pytest.raises(asyncio.CancelledError):
            await task
        assert promise.cancelled()

    asyncio.run(run())


def test_a_failure_of_who_waits_is_nobodys_who_keeps_it() -> None:
    async def run() -> None:
        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context))
        promise: Promise[int] = Promise()
        promise.add_done_callback(lambda done: 1 // 0)
        promise.set_result(7)
        assert isinstance(seen[0]["exception"], ZeroDivisionError)

    asyncio.run(run())


def test_a_shutdown_waits_for_what_is_under_way_as_long_as_it_likes() -> None:
    async def run() -> None:
        under_way = UnderWay()
        assert await under_way.ended(0)
        promises = [Promise[int](), Promise[int]()]
        for promise in promises:
            under_way.add(promise)
            promise.add_done_callback(under_way.remove)
        ending = asyncio.ensure_future(under_way.ended(60))
        await asyncio.sleep(0)
        promises[0].set_result(1)
        assert len(under_way) == 1
        assert not await under_way.ended(0)
        under_way.cancel()
        assert promises[1].cancelled()
        assert await ending

    asyncio.run(run())
