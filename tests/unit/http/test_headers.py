"""What a predict request says in its headers."""

import pytest

from signalyard.problems import Problem, SignalyardError
from signalyard_router.adapters.http.headers import remaining


@pytest.mark.parametrize(
    "value", [b"application/json", b"Application/JSON", b"application/json; charset=utf-8", b" application/json "]
)
def test_json(value: bytes) -> None:
    assert remaining([(b"content-type", value)]) is None


def test_nothing_said() -> None:
    assert remaining([]) is None
    assert remaining([(b"host", b"x"), (b"content-encoding", b"identity")]) is None


@pytest.mark.parametrize(
    "header",
    [
        (b"content-type", b"text/plain"),
        (b"content-type", b""),
        (b"content-type", b"application/json-patch+json"),
        (b"content-type", b"application/x-www-form-urlencoded"),
        (b"content-type", b"\xff"),
        (b"content-encoding", b"gzip"),
    ],
)
def test_not_json(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(SignalyardError) as caught:
        remaining([header])
    assert caught.value.problem is Problem.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize(("value", "nanoseconds"), [(b"1", 1_000), (b"007", 7_000), (b"3600000000", 3_600_000_000_000)])
def test_budget(value: bytes, nanoseconds: int) -> None:
    assert remaining([(b"signalyard-budget-us", value)]) == nanoseconds


@pytest.mark.parametrize(
    "value",
    [b"", b"0", b"-1", b"+1", b"1.5", b"1e3", b"1_000", b"abc", b"3600000001", b"9" * 5_000, "٣".encode(), b"\xff"],
)
def test_invalid_budget(value: bytes) -> None:
    with pytest.raises(SignalyardError) as caught:
        remaining([(b"signalyard-budget-us", value)])
    assert caught.value.problem is Problem.INVALID_BUDGET
    assert len(caught.value.detail) < 200


def test_two_budgets() -> None:
    with pytest.raises(SignalyardError) as caught:
        remaining([(b"signalyard-budget-us", b"5")] * 2)
    assert caught.value.problem is Problem.INVALID_BUDGET
