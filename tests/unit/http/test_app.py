"""The paths of the app, without a server."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from signalyard.problems import Problem, error

GOOD = {"symbol": "rb2410.SHFE", "ts_event": 1_718_923_456_000_000_000, "features": {"close": 1.0}}


def test_predict_hands_on_what_it_knows(call: Any) -> None:
    reply = call.predict(GOOD, [("content-type", "application/json"), ("signalyard-budget-us", "1500")])
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json["outcome"] == "suppressed"
    (asked,) = call.router.calls
    assert asked["received"] == call.clock.monotonic()
    assert asked["remaining"] == 1_500_000


def test_predict_on_two_routes_answers_a_list(call: Any) -> None:
    call.router.routes = ["a", "b"]
    assert [each["route"] for each in call.predict(GOOD).json] == ["a", "b"]


def test_predict_a_bad_snapshot(call: Any) -> None:
    reply = call.predict(GOOD | {"features": {"close": "x"}})
    assert (reply.status, reply.headers["content-type"]) == (422, "application/problem+json")
    assert (reply.json["code"], reply.json["pointer"]) == ("invalid_snapshot", "/features/close")
    assert (reply.json["outcome"], reply.json["symbol"], reply.json["status"]) == ("rejected", "rb2410.SHFE", 422)


def test_predict_a_list_with_one_bad_row(call: Any) -> None:
    reply = call.predict([GOOD, GOOD | {"symbol": 1}, GOOD])
    assert reply.status == 200
    assert [each["outcome"] for each in reply.json] == ["suppressed", "rejected", "suppressed"]
    assert reply.json[1]["problem"]["pointer"] == "/1/symbol"


def test_predict_nothing(call: Any) -> None:
    reply = call.predict([])
    assert (reply.status, reply.json) == (200, [])
    assert call.router.calls == []


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", [], 400, "malformed_body"),
        (b"[{}" + b",{}" * 1_000 + b"]", [], 413, "too_many_rows"),
        (b"{}", [("content-type", "text/csv")], 415, "unsupported_media_type"),
        (b"{}", [("signalyard-budget-us", "soon")], 400, "invalid_budget"),
    ],
)
def test_predict_refused_as_a_whole(
    call: Any, body: bytes, headers: list[tuple[str, str]], status: int, code: str
) -> None:
    reply = call.predict(body, headers)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert (reply.json["code"], reply.json["status"]) == (code, status)
    assert call.router.calls == []


@pytest.mark.parametrize("problem", [Problem.OVERLOADED, Problem.DRAINING])
def test_the_router_refuses(call: Any, problem: Problem) -> None:
    call.router.error = error(problem, "text")
    reply = call.predict(GOOD)
    assert (reply.status, reply.json["code"], reply.headers["retry-after"]) == (503, problem, "1")


def test_what_nobody_foresaw(call: Any, caplog: pytest.LogCaptureFixture) -> None:
    call.router.error = ZeroDivisionError("a secret")
    with caplog.at_level(logging.ERROR):
        reply = call.predict(GOOD)
    assert (reply.status, reply.json["code"]) == (500, "internal")
    assert b"secret" not in reply.body
    (record,) = caplog.records
    assert record.exc_info is not None
    assert call.sample("signalyard_http_requests_total", path="/v1/predict", status="500") == 1


def test_state(call: Any) -> None:
    opinion = call("GET", "/v1/state?symbol=rb2410.SHFE&route=rb%2Dtrend").json["opinions"][0]
    assert (opinion["symbol"], opinion["route"]) == ("rb2410.SHFE", "rb-trend")
    assert call("GET", "/v1/state").json["opinions"][0]["symbol"] == "any"


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/v1/state?sybmol=x", "'sybmol' is not a query parameter of this path; those are symbol, route"),
        ("/v1/state?symbol=a&symbol=b", "'symbol' is given twice"),
        ("/v1/state?" + "a=1&" * 100, "more than 8"),
        ("/v1/state?%ff%00=1", "is not a query parameter"),
        ("/v1/status?x=1", "'x' is not a query parameter of this path; there are none"),
        ("/readyz?verbose", "'verbose'"),
    ],
)
def test_query_parameters_that_are_not_known(call: Any, target: str, said: str) -> None:
    reply = call("GET", target)
    assert reply.status == 400
    assert said in reply.json["detail"]


def test_status_and_index(call: Any) -> None:
    assert call("GET", "/v1/status").json == {"routes": []}
    assert set(call("GET", "/").json["paths"]) == {
        "GET /",
        "GET /v1/openapi.json",
        "GET /v1/docs",
        "POST /v1/predict",
        "GET /v1/state",
        "POST /v1/observe",
        "GET /v1/shadow",
        "GET /v1/signals",
        "GET /v1/status",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    }


def test_health_and_readiness(call: Any) -> None:
    assert call("GET", "/readyz").status == 200
    call.router.reasons = ["there are no routes"]
    reply = call("GET", "/readyz")
    assert (reply.status, reply.json["code"], reply.json["reasons"]) == (503, "not_ready", ["there are no routes"])
    assert call("GET", "/healthz").status == 200


@pytest.mark.parametrize("target", ["/v1", "/v1/predict/", "/v9/predict", "//", "/v2/models/x/infer", "/é"])
def test_nothing_there(call: Any, target: str) -> None:
    reply = call("GET", target)
    assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert call.sample("signalyard_http_requests_total", path="other", status="404") == 1


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [("GET", "/v1/predict", "POST"), ("POST", "/v1/state", "GET"), ("DELETE", "/", "GET"), ("HEAD", "/healthz", "GET")],
)
def test_wrong_method(call: Any, method: str, target: str, allow: str) -> None:
    reply = call(method, target)
    assert (reply.status, reply.json["code"], reply.headers["allow"]) == (405, "method_not_allowed", allow)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("application/openmetrics-text; version=x", "text/plain"),
        ("text/plain; version=1.0.0; escaping=x", "text/plain"),
    ],
)
def test_metrics(call: Any, accept: str, content_type: str) -> None:
    call.predict(GOOD)
    reply = call("GET", "/metrics", headers=[("accept", accept)])
    assert reply.status == 200
    assert reply.headers["content-type"].startswith(content_type)
    page = reply.body.decode()
    assert 'signalyard_http_requests_total{path="/v1/predict",status="200"} 1.0' in page
    assert 'signalyard_http_requests_total{path="/v1/predict",status="503"} 0.0' in page
    assert 'signalyard_http_timeouts_total{waited_for="body"} 0.0' in page
    assert 'signalyard_http_refusals_total{reason="connections"} 0.0' in page
    assert "signalyard_http_request_seconds_bucket" in page
    assert "signalyard_http_request_seconds_count 1.0" in page


def test_many_apps_in_one_process(caller: Callable[..., Any]) -> None:
    first, second = caller(), caller(max_rows=1)
    assert first.predict([GOOD, GOOD]).status == 200
    assert second.predict([GOOD, GOOD]).status == 413
    assert first.sample("signalyard_http_requests_total", path="/v1/predict", status="413") == 0
