"""A bundle that is loaded, as the router asks model servers: by a point in time, and with an end for every call."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from signalyard.problems import Problem, SignalyardError
from signalyard.profile import ModelCard, ScoredRows
from signalyard_router.ports import CallFailed, Clock, Scored, Try
from signalyard_router.rules.chunks import rows_together, rows_within
from signalyard_runtimes.inline import InlineModel

Rows = Sequence[Sequence[float | None]]

ENDPOINT = "in process"
"""What the journal has where it otherwise names a model server."""

_PROMPT = 2_000_000
"""Nanoseconds. A call that should take longer gets the model's own thread, so that the router's keeps its time; that costs a call some
0.1 ms."""

_MOST_ROWS = 512
_SETTLING = 8
"""How many calls an estimate remembers, about."""
_STRAYING = 4
"""So many times the estimate counts at most: a call that the machine held up says nothing of the model."""


class LoadedModel:
    """One bundle in this process, and what its rows take."""

    def __init__(self, model: InlineModel, row_time: float, clock: Clock) -> None:
        """``row_time``: what a row takes, nanoseconds, to begin with."""
        self.card: ModelCard = model.card
        self.in_flight = 0
        self._model = model
        self._row_time = row_time
        self._clock = clock
        self._thread: ThreadPoolExecutor | None = None
        self._left_behind: Future[ScoredRows] | None = None

    async def score(self, rows: Rows, until: int) -> Scored:
        """Score ``rows`` [n, features of the card] by ``until``, monotonic nanoseconds. Raises CallFailed."""
        started = self._clock.monotonic()
        if until <= started:
            raise self._late(started, "the budget was spent before the model was asked")
        if self._left_behind is not None and not self._left_behind.done():
            # The ladder goes on at once, and does not spend its budget behind a model that hangs.
            raise self._failed(started, Problem.MODEL_OVERLOADED, "a call that took longer than its budget still runs")
        self.in_flight += 1
        try:
            if self._row_time * len(rows) <= _PROMPT:
                answer = self._score(rows)
            else:
                answer = await self._beside(rows, (until - started) / 1e9)
        except TimeoutError as exc:
            raise self._late(started, "the model takes longer than the budget") from exc
        except SignalyardError as exc:
            raise self._failed(started, exc.problem, exc.detail) from exc
        finally:
            self.in_flight -= 1
        finished = self._clock.monotonic()
        took = min((finished - started) / len(rows), _STRAYING * self._row_time)
        self._row_time += (took - self._row_time) / _SETTLING
        if finished > until:
            raise self._late(started, "the model took longer than the budget")
        return Scored(answer, ENDPOINT)

    def chunk(self, budget: int) -> int:
        """How many rows a call should carry to be answered within ``budget`` nanoseconds."""
        return rows_within(budget, self._row_time, _MOST_ROWS, 1)

    def share(self, rows: int) -> int:
        """How many of ``rows`` that several requests have at once a call should carry."""
        return rows_together(rows, 1, self.chunk(_PROMPT))

    def close(self) -> None:
        """Take no more calls for the thread; the one that runs there ends by itself."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _score(self, rows: Rows) -> ScoredRows:
        """Raises ModelError (model_failed)."""
        if len(rows) != 1:
            # None becomes NaN.
            return self._model.scorer.score_values(self.card.schema.names, np.array(rows, dtype=np.float64))
        score: float | None = None
        confidence: float | None = None
        row_error = ""
        try:
            score = self._model.score(rows[0])
            confidence = self._model.confidence(score)
        except SignalyardError as exc:
            if exc.problem is Problem.MODEL_FAILED:
                raise
            row_error = exc.detail
        card = self.card
        return ScoredRows(
            model=card.model,
            version=card.version,
            digest=card.digest,
            score=[score],
            confidence=[confidence] if card.calibrated else None,
            row_error=[row_error],
        )

    async def _beside(self, rows: Rows, seconds: float) -> ScoredRows:
        """On the model's own thread. Raises TimeoutError; what has begun there goes on, and is thrown away."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"score-{self.card.model}")
        work = self._thread.submit(self._score, rows)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            if not work.done():
                self._left_behind = work
            raise

    def _late(self, started: int, detail: str) -> CallFailed:
        return self._failed(started, Problem.MODEL_TIMEOUT, detail)

    def _failed(self, started: int, problem: Problem, detail: str) -> CallFailed:
        return CallFailed(problem, detail, (Try(ENDPOINT, problem, detail, self._clock.monotonic() - started),))
