"""A thread for an event loop's long calls."""

import asyncio
import gc
import threading
import weakref

import pytest

from signalyard_runtimes.mlserver.worker import Worker


def fail() -> None:
    raise ValueError("no")


def test_calls_are_worked_off_on_one_thread_in_order() -> None:
    async def run() -> None:
        worker = Worker("w")
        threads = await asyncio.gather(*(worker.run(threading.current_thread) for _ in range(5)))
        assert len(set(threads)) == 1
        assert threads[0].name == "w"
        assert await worker.run(divmod, 7, 2) == (3, 1)
        with pytest.raises(ValueError, match="no"):
            await worker.run(fail)
        assert await worker.run(int, "5") == 5
        worker.end()
        threads[0].join(10)
        assert not threads[0].is_alive()

    asyncio.run(run())


def test_who_comes_after_the_end_is_served_where_it_stands() -> None:
    async def run() -> None:
        worker = Worker("w")
        worker.end()
        assert await worker.run(threading.current_thread) is threading.main_thread()

    asyncio.run(run())


def test_a_call_goes_on_without_its_caller() -> None:
    async def run() -> None:
        worker, goes_on, done = Worker("w"), threading.Event(), []
        task = asyncio.create_task(worker.run(lambda: done.append(goes_on.wait(10))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        goes_on.set()
        assert await worker.run(lambda: list(done)) == [True]
        worker.end()

    asyncio.run(run())


def test_what_a_call_held_is_let_go_of() -> None:
    class Held:
        def score(self) -> int:
            return 1

    async def run() -> None:
        worker, held = Worker("w"), Held()
        gone = weakref.ref(held)
        assert await worker.run(held.score) == 1
        del held
        await worker.run(int)  # the thread has come back for more
        assert gone() is None
        worker.end()

    gc.disable()
    try:
        asyncio.run(run())
    finally:
        gc.enable()
