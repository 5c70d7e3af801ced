"""The table is whole, and each status fits whose fault the problem is."""

import pytest

from signalyard.problems import CATALOGUE, Fault, Problem
from signalyard_router.adapters.http.statuses import STATUSES

FITTING = {Fault.CALLER: range(400, 500), Fault.MODEL: (502, 504), Fault.ROUTER: range(500, 600)}


def test_every_problem_has_a_status_and_nothing_else_has() -> None:
    assert set(STATUSES) == set(Problem)


@pytest.mark.parametrize("problem", Problem)
def test_the_status_fits_the_fault(problem: Problem) -> None:
    assert STATUSES[problem] in FITTING[CATALOGUE[problem].fault]


@pytest.mark.parametrize("problem", Problem)
def test_what_may_succeed_later_does_not_say_never(problem: Problem) -> None:
    if CATALOGUE[problem].fault is Fault.CALLER and CATALOGUE[problem].retryable:
        assert STATUSES[problem] in (408, 425, 429)
