"""The table is whole, and each status fits whose fault the problem is."""

import grpc
import pytest

from signalyard.problems import CATALOGUE, Fault, Problem
from signalyard_router.adapters.grpc.statuses import STATUSES

CALLERS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.FAILED_PRECONDITION,
}
ANYBODYS = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}


def test_every_problem_has_a_status():
    assert set(STATUSES) == set(Problem)


@pytest.mark.parametrize("problem", Problem)
def test_the_status_fits_the_fault(problem):
    fitting = CALLERS if CATALOGUE[problem].fault is Fault.CALLER else OURS
    assert STATUSES[problem] in fitting | ANYBODYS
