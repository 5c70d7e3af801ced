"""One snapshot on one route, on its way through the router."""

from collections.abc import Sequence

import msgspec

from signalyard.problems import ProblemDetails
from signalyard.words import Reason
from signalyard_router.rules.budget import Budget
from signalyard_router.rules.check import Checker
from signalyard_router.rules.proposal import Answer, Step
from signalyard_router.rules.route import Route, TrackRung
from signalyard_router.rules.rows import Row


class Case(msgspec.Struct, gc=False):
    """What is known so far. Scoring ends with one of ``problem``, ``answer``, ``abstain`` or ``flat`` set.

    ``request`` numbers the requests that were taken in. ``rung`` is what decides, the ladder's comes after it. ``vector`` holds the row's values in the order of ``checker``'s schema.
    """

    row: Row
    route: Route
    rung: TrackRung
    budget: Budget
    proposal_id: str
    request: int
    checker: Checker | None = None
    vector: list[float | None] | None = None
    problem: ProblemDetails | None = None
    answer: Answer | None = None
    abstain: Reason | None = None
    flat: bool = False
    degraded: bool = False
    steps: list[Step] = []


def go_one_way(cases: Sequence[Case]) -> bool:
    """Whether all of these, of which there are some, go to one route, and to one version first."""
    route, rung = cases[0].route, cases[0].rung
    for case in cases:  # noqa: SIM110 -- a generator takes twice as long for one case
        if case.rung is not rung or case.route is not route:
            return False
    return True
