"""What the filters say of a direction. Whether an exit is exempt is the gate's to know, which knows the position."""

from signalyard.words import Direction, Reason
from signalyard_router.rules.route import Filters


def objection(direction: Direction, confidence: float | None, filters: Filters) -> Reason | None:
    """The reason to hold a signal back, or None."""
    if direction not in filters.directions:
        return Reason.DIRECTION_FILTERED
    if filters.min_confidence is not None:
        if confidence is None:
            return Reason.NO_CONFIDENCE
        if confidence < filters.min_confidence:
            return Reason.LOW_CONFIDENCE
    return None
