"""Mirrored calls: copies of snapshots for shadows, on a budget of their own.

Nothing here is awaited by a request. A shadow that hangs, fails or cannot keep up costs itself pairs, which are counted, and
the live decisions nothing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from signalyard.problems import ModelError, Problem, SignalyardError
from signalyard.profile import ModelCard, ScoredRows
from signalyard_router.ports import Clock, Journal, Upstream
from signalyard_router.rules.check import Checker
from signalyard_router.rules.compare import Comparison, Live, Pair
from signalyard_router.rules.route import ShadowRules, ShadowRung
from signalyard_router.rules.rows import Row
from signalyard_router.rules.split import SLOTS
from signalyard_router.rules.tally import Excluded

_CALL_ROWS = 64
"""Rows in one mirrored call. What piles up travels together, and no single step keeps the loop from live requests for long."""

Record = Callable[[Pair, str], None]
"""Takes a pair and the digest that the shadow answered under."""

_log = logging.getLogger("signalyard.router.shadow")


class _Waiting(msgspec.Struct, frozen=True):
    row: Row
    live: Live
    until: int


class _Flight(msgspec.Struct, eq=False):
    """A call and the rows that it was made for. It has landed when ``answer`` or ``reason`` is set."""

    rows: list[_Waiting]
    answer: ScoredRows | None = None
    reason: Excluded | None = None


class Lane:
    """The way to one shadow of one route.

    Answers are compared in the order in which the snapshots were decided, since hysteresis depends on it: one that lands early
    waits for those before it. All rows that are held, waiting or under way or landed, are bounded by the route's ``queue``.
    """

    def __init__(
        self, upstream: Upstream, journal: Journal, clock: Clock, comparison: Comparison, record: Record
    ) -> None:
        self._upstream = upstream
        self._journal = journal
        self._clock = clock
        self._comparison = comparison
        self._record = record
        self._rung: ShadowRung | None = None
        self._rules: ShadowRules | None = None
        self._deadline = 0
        self._queue: deque[_Waiting] = deque()
        self._flights: deque[_Flight] = deque()
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._checker: tuple[ModelCard, Checker] | None = None
        self._closed = False
        self.held = 0

    def steer(self, rung: ShadowRung, rules: ShadowRules) -> None:
        """Where to and by which rules from now on."""
        self._rung, self._rules, self._deadline = rung, rules, rules.deadline

    def offer(self, row: Row, live: Live) -> None:
        """Take a snapshot that was decided, if it is in the mirrored share; call `depart` when the batch is complete."""
        rung, rules = self._rung, self._rules
        if rung is None or rules is None or int(live.proposal_id[:8], 16) % SLOTS >= rung.mirror:
            return
        if self.held >= rules.queue:
            self._expire()
        reason = live.excluded
        if reason in (Excluded.REJECTED, Excluded.UNSETTLED):
            # It has no place in the order, so the shadow's memory must not move on by it either.
            self._comparison.exclude(reason, self._journal.now)
        elif (problem := self._unfit(rung)) is not None:
            self._exclude(live, problem)
        elif self.held >= rules.queue:
            self._exclude(live, Excluded.QUEUE_FULL)
        else:
            self.held += 1
            self._queue.append(_Waiting(row, live, self._clock.monotonic() + rules.deadline))

    def depart(self) -> None:
        """Start as many calls as may run for what waits."""
        rung, rules = self._rung, self._rules
        while self._queue and rung is not None and rules is not None and not self._closed:
            self._expire()
            if not self._queue or len(self._tasks) >= rules.concurrency:
                return
            self._call(rung)

    async def close(self) -> None:
        """Give up what waits and what is under way."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _call(self, rung: ShadowRung) -> None:
        problem, checker = self._unfit(rung), self._checker_of(rung)
        most = min(_CALL_ROWS, max(1, self._upstream.chunk(rung.target, self._deadline)))
        rows: list[_Waiting] = []
        vectors: list[list[float | None]] = []
        while self._queue and len(rows) < most:
            waiting = self._queue.popleft()
            if checker is None or problem is not None:
                self._drop(waiting, problem or Excluded.NOT_LEARNT)
                continue
            try:
                vectors.append(checker[1].vector(waiting.row.columns, waiting.row.values))
            except SignalyardError:
                self._drop(waiting, Excluded.MISFIT)
            else:
                rows.append(waiting)
        if checker is None or not rows:
            return
        flight = _Flight(rows)
        self._flights.append(flight)
        task = asyncio.get_running_loop().create_task(self._fly(flight, rung, checker[0], vectors))
        self._tasks[task] = None

    async def _fly(self, flight: _Flight, rung: ShadowRung, card: ModelCard, vectors: list[list[float | None]]) -> None:
        try:
            # The newest row's time: the oldest may have waited for its turn until there is next to none left.
            scored = await self._upstream.score(rung.target, card, vectors, flight.rows[-1].until)
            flight.answer = scored.rows
        except ModelError as exc:
            flight.reason = Excluded.TIMEOUT if exc.problem is Problem.MODEL_TIMEOUT else Excluded.FAILED
        except Exception:  # noqa: BLE001 -- whatever it is, it is the shadow's loss and nobody else's
            _log.exception("event=shadow_call_failed target=%s", rung.target)
            flight.reason = Excluded.INTERNAL
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.pop(task, None)
        self._land()
        self.depart()

    def _land(self) -> None:
        while self._flights and (self._flights[0].answer is not None or self._flights[0].reason is not None):
            flight = self._flights.popleft()
            self.held -= len(flight.rows)
            if flight.answer is None:
                for waiting in flight.rows:
                    self._exclude(waiting.live, flight.reason or Excluded.INTERNAL)
            else:
                self._compare(flight.rows, flight.answer)

    def _compare(self, rows: list[_Waiting], answer: ScoredRows) -> None:
        now = self._journal.now
        confidences = answer.confidence or [None] * len(rows)
        for waiting, score, confidence, fault in zip(rows, answer.score, confidences, answer.row_error, strict=True):
            if score is None or fault:
                self._exclude(waiting.live, Excluded.ROW_ERROR)
                continue
            pair = self._comparison.scored(waiting.live, float(score), confidence, now)
            if pair is not None:
                self._record(pair, answer.digest)

    def _expire(self) -> None:
        now = self._clock.monotonic()
        while self._queue and self._queue[0].until <= now:
            self._drop(self._queue.popleft(), Excluded.EXPIRED)

    def _drop(self, waiting: _Waiting, reason: Excluded) -> None:
        self.held -= 1
        self._exclude(waiting.live, reason)

    def _exclude(self, live: Live, reason: Excluded) -> None:
        # A snapshot counts once, and where both sides fail it is the live one that there is nothing to compare with.
        self._comparison.exclude(live.excluded or reason, self._journal.now)

    def _unfit(self, rung: ShadowRung) -> Excluded | None:
        """Why what the shadow's endpoints serve cannot be asked."""
        card = self._upstream.card(rung.target)
        if card is None:
            return Excluded.NOT_LEARNT
        # Another version's answers would be counted under this one's name.
        return None if card.version == rung.target.version else Excluded.DRIFT

    def _checker_of(self, rung: ShadowRung) -> tuple[ModelCard, Checker] | None:
        card = self._upstream.card(rung.target)
        if card is None:
            return None
        if self._checker is None or self._checker[0] is not card:
            self._checker = (card, Checker(card.schema))
        return self._checker
