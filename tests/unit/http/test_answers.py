"""Decisions and problems as HTTP answers."""

import json
from typing import Any

import msgspec
import pytest

from signalyard.problems import Problem, ProblemDetails, describe
from signalyard.wire import Decision
from signalyard.words import Outcome, Reason
from signalyard_router.adapters.http.answers import decisions_answer, not_ready_answer, problem_answer
from signalyard_router.wire.places import in_columnar, in_list, in_object

KEPT = Decision(outcome=Outcome.SUPPRESSED, reason=Reason.DUPLICATE, symbol="a.B", ts_event=1, route="r")


def rejected(code: Problem, pointer: str = "", row: int = 0) -> Decision:
    return Decision(
        outcome=Outcome.REJECTED,
        row=row,
        symbol="a.B",
        ts_event=1,
        route="r",
        proposal_id="p",
        elapsed_us=3,
        problem=describe(code, "text", pointer),
    )


def test_one_decision() -> None:
    answer = decisions_answer([KEPT], in_object, alone=True)
    assert (answer.status, answer.content_type) == (200, b"application/json")
    assert msgspec.json.decode(answer.body, type=Decision) == KEPT


def test_one_rejected() -> None:
    answer = decisions_answer([rejected(Problem.UNKNOWN_FEATURE, "/features/x")], in_object, alone=True)
    assert (answer.status, answer.content_type) == (422, b"application/problem+json")
    assert json.loads(answer.body) == {
        "type": "urn:signalyard:problem:unknown_feature",
        "title": "The model does not know this feature",
        "code": "unknown_feature",
        "fault": "caller",
        "retryable": False,
        "detail": "text",
        "pointer": "/features/x",
        "status": 422,
        "outcome": "rejected",
        "symbol": "a.B",
        "ts_event": 1,
        "route": "r",
        "proposal_id": "p",
        "elapsed_us": 3,
    }
    assert msgspec.json.decode(answer.body, type=ProblemDetails).code is Problem.UNKNOWN_FEATURE


def test_one_snapshot_on_two_routes() -> None:
    answer = decisions_answer([KEPT, rejected(Problem.NO_ROUTE)], in_object, alone=True)
    assert answer.status == 200
    assert [each["outcome"] for each in json.loads(answer.body)] == ["suppressed", "rejected"]


@pytest.mark.parametrize("decisions", [[], [KEPT], [rejected(Problem.NO_ROUTE)]])
def test_a_list_is_always_a_list(decisions: list[Decision]) -> None:
    answer = decisions_answer(decisions, in_list, alone=False)
    assert answer.status == 200
    assert len(json.loads(answer.body)) == len(decisions)


def test_places_in_a_list() -> None:
    answer = decisions_answer([KEPT, rejected(Problem.UNKNOWN_FEATURE, "/features/x", 1)], in_list, alone=False)
    problem: Any = json.loads(answer.body)[1]["problem"]
    assert problem["pointer"] == "/1/features/x"
    assert "status" not in problem


@pytest.mark.parametrize(
    ("code", "pointer", "place"),
    [
        (Problem.INVALID_INSTRUMENT, "/symbol", "/rows/4/0"),
        (Problem.SNAPSHOT_TOO_OLD, "/ts_event", "/rows/4/1"),
        (Problem.FEATURE_NOT_FINITE, "/features/a~1b", "/rows/4/2/1"),
        (Problem.UNKNOWN_FEATURE, "/features/a~1b", "/columns/1"),
        (Problem.DUPLICATE_FEATURE, "/features/x", "/columns/2"),
        (Problem.MISSING_FEATURE, "/features/gone", "/columns"),
        (Problem.INVALID_SNAPSHOT, "/features", "/rows/4/2"),
        (Problem.INVALID_SNAPSHOT, "/sequence", "/rows/4/3"),
        (Problem.INVALID_SNAPSHOT, "", "/rows/4"),
        (Problem.UNKNOWN_ROUTE, "/route", "/route"),
    ],
)
def test_places_in_a_columnar_request(code: Problem, pointer: str, place: str) -> None:
    assert in_columnar(("x", "a/b", "x"))(4, describe(code, "", pointer)) == place


def test_503_says_when_to_come_back() -> None:
    assert (b"retry-after", b"1") in problem_answer(describe(Problem.OVERLOADED)).headers
    assert (b"retry-after", b"1") not in problem_answer(describe(Problem.INTERNAL)).headers


def test_not_ready_has_the_reasons() -> None:
    answer = not_ready_answer(["one", "two"])
    assert answer.status == 503
    body = json.loads(answer.body)
    assert (body["code"], body["detail"], body["reasons"]) == ("not_ready", "one; two", ["one", "two"])
