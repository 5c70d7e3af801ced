"""One snapshot on one route, on its way through the router."""

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
