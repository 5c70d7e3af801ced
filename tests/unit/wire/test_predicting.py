"""Bytes to decisions and back, as every wire does it."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from signalyard.problems import Problem, RouterError, SignalyardError, describe
from signalyard.wire import Decision
from signalyard.words import Outcome
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.wire.predicting import Predicting

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


def answer(body: object, router: EchoRouter | None = None, max_rows: int = 10) -> object:
    predicting = Predicting(router or EchoRouter(), max_rows)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return json.loads(asyncio.run(predicting.answer(content, 7, 9)))


def test_one_snapshot_gets_one_decision_and_times_go_on() -> None:
    router = EchoRouter()
    assert answer(ROW, router) == {"outcome": "abstained", "symbol": "a.B", "ts_event": 1}
    assert router.admitted == [(7, 9)]


def test_one_snapshot_on_two_routes_gets_a_list() -> None:
    assert isinstance(answer(ROW, EchoRouter(routes=2)), list)


def test_problems_point_into_what_was_sent() -> None:
    decisions = answer([ROW, ROW | {"ts_event": "now"}])
    assert isinstance(decisions, list)
    assert [decision["outcome"] for decision in decisions] == ["abstained", "rejected"]
    assert decisions[1]["problem"]["pointer"] == "/1/ts_event"


def test_an_empty_list_gets_an_empty_list_and_asks_nobody() -> None:
    assert answer([]) == []


def test_what_is_no_request_is_refused() -> None:
    for body, problem in ((b"{", Problem.MALFORMED_BODY), ([ROW] * 11, Problem.TOO_MANY_ROWS)):
        with pytest.raises(SignalyardError) as caught:
            answer(body)
        assert caught.value.problem is problem


def test_a_router_that_is_full_is_not_asked() -> None:
    router = EchoRouter()
    router.full = True
    with pytest.raises(SignalyardError) as caught:
        answer(ROW, router)
    assert caught.value.problem is Problem.OVERLOADED
    assert describe(Problem.OVERLOADED).retryable
