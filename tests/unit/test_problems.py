import pickle

import msgspec
import pytest

from signalyard.problems import (
    CATALOGUE,
    CallerError,
    Fault,
    ModelError,
    Problem,
    ProblemDetails,
    RouterError,
    SignalyardError,
    describe,
    error,
    escape_pointer,
)


def test_every_problem_has_an_entry() -> None:
    assert list(CATALOGUE) == list(Problem)


def test_titles_tell_problems_apart() -> None:
    titles = [entry.title for entry in CATALOGUE.values()]
    assert len(set(titles)) == len(titles)
    assert all(title and title[0].isupper() and not title.endswith(".") for title in titles)


@pytest.mark.parametrize("problem", Problem)
def test_the_fault_picks_the_class(problem: Problem) -> None:
    classes = {Fault.CALLER: CallerError, Fault.MODEL: ModelError, Fault.ROUTER: RouterError}
    raised = error(problem, "what would be right", "/features/close")
    assert type(raised) is classes[CATALOGUE[problem].fault]
    assert (raised.problem, raised.detail, raised.pointer) == (problem, "what would be right", "/features/close")


@pytest.mark.parametrize("problem", Problem)
def test_the_wire_form_round_trips(problem: Problem) -> None:
    sent = describe(problem, "a detail", "/0/symbol", 422)
    assert msgspec.json.decode(msgspec.json.encode(sent), type=ProblemDetails) == sent
    assert sent.type == f"urn:signalyard:problem:{problem.value}"
    assert (sent.title, sent.fault, sent.retryable) == (
        CATALOGUE[problem].title,
        CATALOGUE[problem].fault,
        CATALOGUE[problem].retryable,
    )


def test_a_caller_at_fault_is_told_to_retry_only_where_time_is_the_matter() -> None:
    retryable = {code for code, entry in CATALOGUE.items() if entry.fault is Fault.CALLER and entry.retryable}
    assert retryable == {Problem.REQUEST_TIMEOUT, Problem.TOO_MANY_REQUESTS}


def test_details_leave_out_the_status() -> None:
    raised = error(Problem.NO_ROUTE, "nobody serves it", "/symbol")
    assert raised.details == describe(Problem.NO_ROUTE, "nobody serves it", "/symbol")
    assert b"status" not in msgspec.json.encode(raised.details)


def test_as_text() -> None:
    assert str(error(Problem.NO_ROUTE, "nobody", "/symbol")) == "no_route at /symbol: nobody"
    assert str(error(Problem.NO_ROUTE)) == "no_route: No route serves this instrument"


def test_errors_can_be_pickled() -> None:
    raised = pickle.loads(pickle.dumps(error(Problem.NO_ROUTE, "nobody", "/symbol")))
    assert isinstance(raised, CallerError)
    assert isinstance(raised, SignalyardError)
    assert str(raised) == "no_route at /symbol: nobody"


@pytest.mark.parametrize(("token", "escaped"), [("a/b", "a~1b"), ("a~b", "a~0b"), ("~1", "~01"), (3, "3"), ("", "")])
def test_pointer_tokens_are_escaped(token: object, escaped: str) -> None:
    assert escape_pointer(token) == escaped
