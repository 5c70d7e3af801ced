"""Which versions stay loaded, who may change that, and what such a request says."""

import pytest

from signalyard.problems import CallerError, Problem
from signalyard_runtimes.live.keeping import let_go, newest_first
from signalyard_runtimes.mlserver.changing import Changing, check, version_in, version_of


def test_versions_are_in_mlservers_order() -> None:
    assert newest_first(["9", "10", "8"]) == ["10", "9", "8"]
    assert newest_first(["1.9", "1.10"]) == ["1.9", "1.10"]  # as text


@pytest.mark.parametrize(
    ("loaded", "there", "gone"),
    [
        (["7", "8", "9"], [], []),  # the newest and two old ones stay, whatever the folder has
        (["6", "7", "8", "9"], ["9"], ["6"]),
        (["6", "7", "8", "9"], ["6", "9"], []),
        (["5", "6", "7", "8", "9"], ["5", "9"], ["6"]),
        (["9"], [], []),
    ],
)
def test_a_load_lets_go_of_what_is_old_and_gone(loaded: list[str], there: list[str], gone: list[str]) -> None:
    assert let_go(loaded, there) == gone


@pytest.mark.parametrize(
    ("changing", "client", "problem"),
    [
        (Changing.OFF, "127.0.0.1", Problem.METHOD_NOT_ALLOWED),
        (Changing.LOCAL, "127.0.0.1", None),
        (Changing.LOCAL, "::1", None),
        (Changing.LOCAL, "127.0.0.6", Problem.UNAUTHENTICATED),  # a sidecar's hand-over of what came from outside
        (Changing.LOCAL, "10.0.0.7", Problem.UNAUTHENTICATED),
        (Changing.LOCAL, "", Problem.UNAUTHENTICATED),
        (Changing.ALL, "10.0.0.7", None),
    ],
)
def test_who_may_change_what_is_served(changing: Changing, client: str, problem: Problem | None) -> None:
    if problem is None:
        check(changing, client)
        return
    with pytest.raises(CallerError) as caught:
        check(changing, client)
    assert caught.value.problem is problem


def test_the_version_that_a_request_names() -> None:
    assert version_in(b"") is None
    assert version_in(b"{}") is None
    assert version_in(b'{"parameters": {"version": "7", "unload_dependents": false}}') == "7"


@pytest.mark.parametrize(
    ("body", "problem", "pointer"),
    [
        (b"{", Problem.MALFORMED_BODY, ""),
        (b"[]", Problem.INVALID_REQUEST, ""),
        (b'{"parameters": {"version": 7}}', Problem.INVALID_REQUEST, "/parameters/version"),
        (b'{"parameters": {"version": ""}}', Problem.INVALID_REQUEST, "/parameters/version"),
        (b'{"parameters": {"config": "{}"}}', Problem.INVALID_REQUEST, "/parameters/config"),
    ],
)
def test_a_wrong_request(body: bytes, problem: Problem, pointer: str) -> None:
    with pytest.raises(CallerError) as caught:
        version_in(body)
    assert (caught.value.problem, caught.value.pointer) == (problem, pointer)


def test_grpcs_parameters_are_the_same() -> None:
    assert version_of({"version": "8"}) == "8"
    assert version_of({}) is None
