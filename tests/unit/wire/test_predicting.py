"""Bytes to decisions and back, as every wire does it."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from tests.promised import Promised

from signalyard.problems import Problem, RouterError, SignalyardError, describe
from signalyard.wire import Decision
from signalyard.words import Outcome
from signalyard_router.promise import Promise
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.wire.predicting import Predicting, Submitting

ROW = {"symbol": "a.B", "ts_event": 1, "features": {"x": 1.0}}


class EchoRouter:
    """Abstains from good rows and rejects the others, once a route."""

    def __init__(self, routes: int = 1) -> None:
        self.routes = routes
        self.admitted: list[tuple[int, int | None]] = []
        self.full = False

    def admit(self, received: int, remaining: int | None = None) -> None:
        if self.full:
            raise RouterError(Problem.OVERLOADED)
        self.admitted.append((received, remaining))

    async def decide(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> list[Decision]:
        return [
            Decision(outcome=Outcome.REJECTED, row=row.index, problem=row.problem)
            if isinstance(row, BadRow)
            else Decision(outcome=Outcome.ABSTAINED, row=row.index, symbol=row.symbol, ts_event=row.ts_event)
            for row in rows
            for _ in range(self.routes)
        ]

    def submit(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> Promise[list[Decision]]:
        return Promised(self.decide(rows, received=received, remaining=remaining))


async def submitted(body: bytes, router: EchoRouter, max_rows: int) -> bytes:
    begun = Submitting(router, max_rows).begin(body, 7, 9)
    await begun.done.outcome()
    return begun.answer()


def answer(body: object, router: EchoRouter | None = None, max_rows: int = 10) -> object:
    """What is answered in a task, and the same without one."""
    router = router or EchoRouter()
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answered = asyncio.run(Predicting(router, max_rows).answer(content, 7, 9))
    assert asyncio.run(submitted(content, router, max_rows)) == answered
    return json.loads(answered)


def test_one_snapshot_gets_one_decision_and_times_go_on() -> None:
    router = EchoRouter()
    assert answer(ROW, router) == {"outcome": "abstained", "symbol": "a.B", "ts_event": 1}
    assert router.admitted == [(7, 9)] * 2


def test_one_snapshot_on_two_routes_gets_a_list() -> None:
    assert isinstance(answer(ROW, EchoRouter(routes=2)), list)


def test_problems_point_into_what_was_sent() -> None:
    decisions = answer([ROW, ROW | {"ts_event": "now"}])
    assert isinstance(decisions, list)
    assert [decision["outcome"] for decision in decisions] == ["abstained", "rejected"]
    assert decisions[1]["problem"]["pointer"] == "/1/ts_event"


def test_an_empty_list_gets_an_empty_list() -> None:
    assert answer([]) == []


def test_what_is_no_request_is_refused() -> None:
    for body, problem in ((b"{", Problem.MALFORMED_BODY), ([ROW] * 11, Problem.TOO_MANY_ROWS)):
        with pytest.raises(SignalyardError) as caught:
            answer(body)
        assert caught.value.problem is problem
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        with pytest.raises(SignalyardError) as caught:
            asyncio.run(submitted(content, EchoRouter(), 10))
        assert caught.value.problem is problem


def test_a_router_that_is_full_is_not_asked() -> None:
    router = EchoRouter()
    router.full = True
    with pytest.raises(SignalyardError) as caught:
        answer(ROW, router)
    assert caught.value.problem is Problem.OVERLOADED
    assert describe(Problem.OVERLOADED).retryable
