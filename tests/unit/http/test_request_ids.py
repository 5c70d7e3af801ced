"""Ids of requests, and the cap on a caller's rate."""

from typing import Any

import pytest

from signalyard_router.adapters.http.request_ids import RequestIds
from signalyard_router.flow.correlation import REQUEST_ID

GOOD = {"symbol": "rb2410.SHFE", "ts_event": 1_718_923_456_000_000_000, "features": {"close": 1.0}}


@pytest.mark.parametrize("given", ["a", "order-17/leg:2", "!" * 64])
def test_a_sane_id_is_kept(given: str) -> None:
    assert RequestIds("p").of([(b"host", b"x"), (b"x-request-id", given.encode())]) == given


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 65, "é".encode(), b"a\tb", b"a\x7f", b"a event=forged"])
def test_any_other_is_replaced(given: bytes) -> None:
    assert RequestIds("p").of([(b"x-request-id", given)]) == "p-1"


def test_own_ids_differ() -> None:
    ids = RequestIds("p")
    assert [ids.of([]), ids.of([])] == ["p-1", "p-2"]


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/healthz"), ("GET", "/nowhere"), ("PUT", "/v1/predict"), ("GET", "/v1/state?a=b")]
)
def test_every_answer_has_it(call: Any, method: str, target: str) -> None:
    assert call(method, target, b"", [("x-request-id", "mine")]).headers["x-request-id"] == "mine"
    assert call(method, target).headers["x-request-id"] == "-1"


def test_the_router_is_told_it(call: Any) -> None:
    told: list[str] = []
    decisions = call.router.decisions
    call.router.decisions = lambda row: told.append(REQUEST_ID.get()) or decisions(row)
    call.predict(GOOD, [("x-request-id", "mine")])
    assert told == ["mine"]
    assert REQUEST_ID.get() == ""


def test_a_caller_above_its_rate_is_told_when_to_come_again(caller: Any) -> None:
    call = caller(requests_per_second=0.25, requests_burst=2)
    assert [call.predict(GOOD).status for _ in range(3)] == [200, 200, 429]
    reply = call.predict(GOOD)
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["retry-after"] == "4"
    assert (reply.json["code"], reply.json["fault"], reply.json["retryable"]) == ("too_many_requests", "caller", True)
    assert len(call.router.calls) == 2
    assert call("GET", "/healthz").status == call("GET", "/readyz").status == 200
    assert call("GET", "/nowhere").status == 429
    assert call.sample("signalyard_http_requests_total", path="/v1/predict", status="429") == 2
    call.clock.advance(4_000_000_000)
    assert call.predict(GOOD).status == 200


def test_without_a_cap_there_is_none(call: Any) -> None:
    assert {call.predict(GOOD).status for _ in range(200)} == {200}
