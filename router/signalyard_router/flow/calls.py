"""Calls to model servers, which requests share while they come in bursts."""

import asyncio
from collections.abc import Iterator, Sequence
from operator import attrgetter

import msgspec

from signalyard._counting import Counter
from signalyard.problems import Problem
from signalyard.profile import ModelCard
from signalyard_router.ports import CallFailed, Scored, Try, Upstream
from signalyard_router.rules.route import Target
from signalyard_router.rules.units import MILLISECOND

Rows = Sequence[Sequence[float | None]]

_APART = MILLISECOND
"""How far the ends of calls may lie apart that become one call, nanoseconds; it ends when the first of them must."""

_PERHAPS_A_ROW = (
    Problem.MODEL_FAILED,
    Problem.MODEL_ANSWER_MALFORMED,
    Problem.MODEL_ANSWER_WRONG_SHAPE,
    Problem.MODEL_ANSWER_NOT_FINITE,
)
"""Failures that one row of a call may have caused; the other requests' rows have not earned them."""


class Share(msgspec.Struct, frozen=True, gc=False):
    """A request's part of an answer: that of its own rows begins at ``first``."""

    scored: Scored
    first: int = 0


class _Waiting(msgspec.Struct):
    """Rows of one request. ``done`` gets their share, or None where the call failed and each is to be asked apart."""

    card: ModelCard
    rows: Rows
    until: int
    done: asyncio.Future[Share | None]
    tries: tuple[Try, ...] = ()


class _Line:
    """What is under way to one target, and what waits to go there together."""

    __slots__ = ("under_way", "waiting")

    def __init__(self) -> None:
        self.under_way = 0
        self.waiting: list[_Waiting] = []


class Calls:
    """Makes the calls of requests.

    A call goes out at once where none is under way to its target, so a lone request never waits. Else it waits for the end of the
    event loop's turn, and all that came up to then go together, as many rows a call as `Upstream.share` says. So a burst of
    snapshots costs the model server a few calls, and not one for each.
    """

    def __init__(self, upstream: Upstream, shared: Counter) -> None:
        self._upstream = upstream
        self._shared = shared
        self._lines: dict[Target, _Line] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}

    async def score(self, target: Target, card: ModelCard, rows: Rows, until: int) -> Share:
        """Score ``rows`` [n, features of the card] by ``until``. Raises CallFailed; see `Upstream.score`."""
        line = self._lines.get(target)
        if line is None:
            line = self._lines[target] = _Line()
        tries: tuple[Try, ...] = ()
        if line.under_way and self._upstream.share(target, len(rows) + 1) > len(rows):
            waiting = self._join(target, line, card, rows, until)
            share = await waiting.done
            if share is not None:
                return share
            tries = waiting.tries
        line.under_way += 1
        try:
            scored = await self._upstream.score(target, card, rows, until)
        except CallFailed as exc:
            if not tries:
                raise
            raise CallFailed(exc.problem, exc.detail, tries + exc.tries) from exc
        finally:
            line.under_way -= 1
        return Share(msgspec.structs.replace(scored, tries=tries + scored.tries) if tries else scored)

    async def close(self) -> None:
        """Wait for the calls that are under way; whoever closes the way to the model servers ends them."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _join(self, target: Target, line: _Line, card: ModelCard, rows: Rows, until: int) -> _Waiting:
        loop = asyncio.get_running_loop()
        if not line.waiting:
            loop.call_soon(self._send, target, line)
        waiting = _Waiting(card, rows, until, loop.create_future())
        line.waiting.append(waiting)
        return waiting

    def _send(self, target: Target, line: _Line) -> None:
        """The turn is over: what has come in it goes out."""
        together, line.waiting = [waiting for waiting in line.waiting if not waiting.done.done()], []
        if not together:
            return
        together.sort(key=attrgetter("until"))
        most = self._upstream.share(target, sum(len(waiting.rows) for waiting in together))
        for part in _parts(together, most):
            task = asyncio.get_running_loop().create_task(self._call(target, line, part))
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)

    async def _call(self, target: Target, line: _Line, part: list[_Waiting]) -> None:
        rows = [row for waiting in part for row in waiting.rows]
        line.under_way += 1
        try:
            scored = await self._upstream.score(target, part[0].card, rows, part[0].until)
        except CallFailed as exc:
            apart = len(part) > 1 and exc.problem in _PERHAPS_A_ROW
            for waiting in part:
                if waiting.done.done():
                    continue
                if apart:
                    waiting.tries = exc.tries
                    waiting.done.set_result(None)
                else:
                    waiting.done.set_exception(CallFailed(exc.problem, exc.detail, exc.tries))
            return
        except BaseException as exc:
            for waiting in part:
                if not waiting.done.done():
                    waiting.done.set_exception(exc)
            raise
        finally:
            line.under_way -= 1
        if len(part) > 1:
            self._shared.inc(len(rows))
        first = 0
        for waiting in part:
            if not waiting.done.done():
                waiting.done.set_result(Share(scored, first))
            first += len(waiting.rows)


def _parts(together: Sequence[_Waiting], most: int) -> Iterator[list[_Waiting]]:
    """What goes in one call each: rows made for one card, at most ``most``, whose calls must end at about the same time."""
    part: list[_Waiting] = []
    rows = 0
    for waiting in together:
        if part and (
            rows + len(waiting.rows) > most
            or waiting.card is not part[0].card
            or waiting.until - part[0].until > _APART
        ):
            yield part
            part, rows = [], 0
        part.append(waiting)
        rows += len(waiting.rows)
    if part:
        yield part
