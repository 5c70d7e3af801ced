"""From decisions and problems to HTTP answers."""

from collections.abc import Sequence
from typing import Any

import msgspec

from signalyard._server.answer import Answer
from signalyard.problems import Problem, ProblemDetails, describe
from signalyard.wire import Decision
from signalyard.words import REJECTED, Outcome
from signalyard_router.adapters.http.statuses import STATUSES
from signalyard_router.wire.places import Places
from signalyard_router.wire.writing import decisions_body, placed

_encode = msgspec.json.Encoder().encode


class RejectedDetails(ProblemDetails, frozen=True, kw_only=True, omit_defaults=True):
    """The problem of a single snapshot, with what its decision says besides."""

    outcome: Outcome
    symbol: str = ""
    ts_event: int = 0
    route: str = ""
    proposal_id: str = ""
    elapsed_us: int = 0


class NotReadyDetails(ProblemDetails, frozen=True, kw_only=True, omit_defaults=True):
    """Why the router is not ready, reason by reason."""

    reasons: list[str]


class OipDetails(ProblemDetails, frozen=True, kw_only=True, omit_defaults=True):
    """An error as the Open Inference Protocol has it, with what a problem says besides."""

    error: str


def json_answer(value: Any) -> Answer:
    """200 with a JSON body."""
    return Answer(200, b"application/json", _encode(value))


def decisions_answer(decisions: Sequence[Decision], places: Places, *, alone: bool) -> Answer:
    """The answer to a predict request: one decision where it was one snapshot that one route took, else a list."""
    decisions = placed(decisions, places)
    decision = decisions[0] if alone and len(decisions) == 1 else None
    if decision is None or decision.outcome is not REJECTED or decision.problem is None:
        return Answer(200, b"application/json", decisions_body(decisions, alone=alone))
    return _problem(
        RejectedDetails(
            **_members(decision.problem),
            outcome=decision.outcome,
            symbol=decision.symbol,
            ts_event=decision.ts_event,
            route=decision.route,
            proposal_id=decision.proposal_id,
            elapsed_us=decision.elapsed_us,
        )
    )


def problem_answer(
    problem: ProblemDetails, status: int | None = None, headers: Sequence[tuple[bytes, bytes]] = ()
) -> Answer:
    """A problem as the answer; ``status`` replaces the one of the table."""
    return _problem(problem, status, headers)


def oip_answer(problem: ProblemDetails, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """A problem as the Open Inference Protocol's error."""
    place = f" at {problem.pointer}" if problem.pointer else ""
    text = f"{problem.code}{place}: {problem.detail or problem.title}"
    answer = _problem(OipDetails(**_members(problem), error=text), headers=headers)
    return msgspec.structs.replace(answer, content_type=b"application/json")


def not_ready_answer(reasons: list[str]) -> Answer:
    """503 with the reasons."""
    details = describe(Problem.NOT_READY, "; ".join(reasons))
    return _problem(NotReadyDetails(**_members(details), reasons=reasons))


def _problem(details: ProblemDetails, status: int | None = None, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    status = status or STATUSES[details.code]
    if status == 503:
        headers = (*headers, (b"retry-after", b"1"))
    body = _encode(msgspec.structs.replace(details, status=status))
    return Answer(status, b"application/problem+json", body, headers)


def _members(details: ProblemDetails) -> dict[str, Any]:
    return {name: getattr(details, name) for name in ProblemDetails.__struct_fields__}
