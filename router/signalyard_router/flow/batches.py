"""Requests that come together and go the same way are decided together."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from operator import attrgetter

from signalyard._counting import Counter
from signalyard.wire import Decision
from signalyard_router.flow.asked import Asked
from signalyard_router.flow.case import Case, go_one_way
from signalyard_router.ports import Upstream
from signalyard_router.promise import Promise
from signalyard_router.rules.units import MILLISECOND

_APART = MILLISECOND
"""How far the ends of requests may lie apart that are decided together, nanoseconds; the first of them ends all."""

Way = tuple[int, ...]
Deciding = Callable[[Sequence[Asked]], Awaitable[Sequence[tuple[Asked, list[Decision]]]]]


class Batches:
    """Gathers what comes in one turn of the event loop.

    The ticks of many instruments come in bursts, and a task, a call and a commit for each cost several times what its rules cost. So
    the requests of a turn whose rows go to the same routes and versions are one batch, as many rows as `Upstream.share` says; nobody
    waits for requests that are still to come, nor for those that go another way.
    """

    def __init__(self, decide: Deciding, upstream: Upstream, shared: Counter) -> None:
        self._decide = decide
        self._upstream = upstream
        self._shared = shared
        self._gathering: dict[Way, list[Asked]] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}

    def join(self, asked: Asked) -> Promise[list[Decision]]:
        """Have a request decided. Cancel the answer where nobody waits for it any more."""
        done = asked.done = Promise()
        if not asked.cases:
            self._start([asked], None)
            return done
        way = _way(asked.cases)
        batch = self._gathering.get(way)
        if batch is None:
            batch = self._gathering[way] = []
            # it begins when the turn has ended, with all that have come by then
            self._start(batch, way)
        batch.append(asked)
        return done

    async def close(self) -> None:
        """Wait for what is under way; whoever closes the way to the model servers ends it."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, batch: list[Asked], way: Way | None) -> None:
        self._tasks[asyncio.get_running_loop().create_task(self._answer(batch, way))] = None

    async def _answer(self, batch: list[Asked], way: Way | None) -> None:
        """Decide a batch, or what is to be decided together of all that came ``way``."""
        try:
            if way is not None:
                batch = self._gathered(way)
            answers = await self._decide(batch)
        except BaseException as exc:
            for asked in batch:
                asked.settle(exc)
            if not isinstance(exc, Exception):
                raise
        else:
            for asked, decisions in answers:
                asked.settle(decisions)
        finally:
            task = asyncio.current_task()
            assert task is not None, "it runs in a task"
            # not by a callback, which would cost another turn
            del self._tasks[task]

    def _gathered(self, way: Way) -> list[Asked]:
        """What is decided here of those that came one way; the others are on theirs."""
        batch = self._gathering.pop(way)
        if len(batch) > 1:
            batch, *others = self._parts(batch)
            for part in others:
                self._start(part, None)
        return batch

    def _parts(self, batch: list[Asked]) -> Iterator[list[Asked]]:
        """What is decided together: as many rows as should share a call, of requests that must be answered at about the same time."""
        batch.sort(key=attrgetter("commit_by"))
        rows = sum([len(asked.cases) for asked in batch])
        most = self._upstream.share(batch[0].cases[0].rung.target, rows)
        part: list[Asked] = []
        taken = 0
        for asked in batch:
            count = len(asked.cases)
            if part and (taken + count > most or asked.commit_by - part[0].commit_by > _APART):
                yield self._counted(part, taken)
                part, taken = [], 0
            part.append(asked)
            taken += count
        yield self._counted(part, taken)

    def _counted(self, part: list[Asked], rows: int) -> list[Asked]:
        if len(part) > 1:
            self._shared.inc(rows)
        return part


def _way(cases: Sequence[Case]) -> Way:
    """Which routes and versions cases go to. By identity: hashing a route takes longer than deciding on it, and a turn outlives none."""
    if go_one_way(cases):
        return id(cases[0].route), id(cases[0].rung)
    pairs = dict.fromkeys((id(case.route), id(case.rung)) for case in cases)
    return tuple(part for pair in pairs for part in pair)
