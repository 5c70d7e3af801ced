"""From decisions to the JSON that answers a predict request."""

from collections.abc import Sequence

import msgspec

from signalyard.wire import Decision
from signalyard_router.wire.places import Places, in_object

_encode = msgspec.json.Encoder().encode


def placed(decisions: Sequence[Decision], places: Places) -> Sequence[Decision]:
    """The decisions, the pointers of their problems led from the row to what the caller sent."""
    if places is in_object or all(decision.problem is None for decision in decisions):
        return decisions
    return [_placed(decision, places) for decision in decisions]


def decisions_body(decisions: Sequence[Decision], *, alone: bool) -> bytes:
    """One decision where it was one snapshot that one route took, else a list."""
    return _encode(decisions[0] if alone and len(decisions) == 1 else decisions)


def _placed(decision: Decision, places: Places) -> Decision:
    problem = decision.problem
    if problem is None:
        return decision
    pointer = places(decision.row, problem)
    return msgspec.structs.replace(decision, problem=msgspec.structs.replace(problem, pointer=pointer))
