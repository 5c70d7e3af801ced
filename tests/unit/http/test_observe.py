"""The paths of second opinions, without a router."""

from typing import Any

import pytest

from signalyard.problems import Problem, error

GOOD = {"symbol": "rb2410.SHFE", "ts_event": 1_718_923_456_000_000_000, "signal": "long"}


def observe(call: Any, body: Any) -> Any:
    return call("POST", "/v1/observe", body, [("content-type", "application/json")])


def test_one_and_many(call: Any) -> None:
    assert observe(call, GOOD).json == {"matched": 0, "waiting": 1, "repeated": 0}
    assert call.router.observations[0].source == "baseline"
    many = [GOOD, GOOD | {"signal": "none", "route": "rb-trend", "source": "old_one"}]
    assert observe(call, many).json["waiting"] == 2
    assert observe(call, []).json["waiting"] == 0


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        (b"{nope", 400, "malformed_body", None),
        (b'{"symbol": "\xff"}', 400, "malformed_body", None),
        (b'{"symbol": "x", "ts_event": 1, "signal": ' + b"[" * 100_000, 422, "invalid_observation", "/signal"),
        (b"[" * 100_000, 422, "invalid_observation", "/0"),
        (GOOD | {"signal": "up"}, 422, "invalid_observation", "/signal"),
        ([GOOD, GOOD | {"signal": "up"}], 422, "invalid_observation", "/1/signal"),
        (GOOD | {"ts_event": 0}, 422, "invalid_observation", "/ts_event"),
        (GOOD | {"ts_event": 2**63}, 422, "invalid_observation", "/ts_event"),
        (GOOD | {"source": ""}, 422, "invalid_observation", "/source"),
        (GOOD | {"source": "a b"}, 422, "invalid_observation", "/source"),
        (GOOD | {"score": 1}, 422, "invalid_observation", None),
        ({"symbol": "x"}, 422, "invalid_observation", None),
        ("x", 422, "invalid_observation", None),
        ([GOOD] * 1001, 413, "too_many_rows", None),
    ],
)
def test_what_is_no_observation(call: Any, body: Any, status: int, code: str, pointer: str | None) -> None:
    reply = observe(call, body)
    assert (reply.status, reply.json["code"], reply.json.get("pointer")) == (status, code, pointer)


def test_the_router_s_refusal_points_into_what_was_sent(call: Any) -> None:
    call.router.error = error(Problem.NO_ROUTE, "none", "/0/symbol")
    assert observe(call, GOOD).json["pointer"] == "/symbol"
    assert observe(call, [GOOD]).json["pointer"] == "/0/symbol"


def test_the_report_s_path(call: Any) -> None:
    assert call("GET", "/v1/shadow").json["route"] is None
    assert call("GET", "/v1/shadow?route=a").json["route"] == "a"
    assert call("GET", "/v1/shadow?rout=a").status == 400
    assert call("GET", "/v1/observe").status == 405
