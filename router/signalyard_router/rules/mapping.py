"""From score to direction, with hysteresis, and to position."""

from signalyard.words import FLAT, LONG, SHORT, Direction
from signalyard_router.rules.route import Mapping


def direction_of(score: float, held: Direction | None, mapping: Mapping) -> Direction | None:
    """The direction that a score means, or None to abstain.

    ``held`` is the direction that the mapping gave last: a held long lasts while the score is at or above ``long_exit``, a
    held short while it is at or below ``short_exit``; otherwise a direction must be entered anew.
    """
    if held is LONG and score >= mapping.long_exit:
        return LONG
    if held is SHORT and score <= mapping.short_exit:
        return SHORT
    if score >= mapping.long_enter:
        return LONG
    if score <= mapping.short_enter:
        return SHORT
    return FLAT if mapping.flat_between else None


def position_of(direction: Direction, confidence: float | None, maximum: float | None) -> float | None:
    """The signed position: ``maximum * (2 * confidence - 1)``, the edge of a bet that wins with this probability.

    None where the route asks for no position, or where there is no confidence to size it by. A confidence below one half has
    no edge and gives 0.
    """
    if direction is FLAT:
        return 0.0 if maximum is not None else None
    if maximum is None or confidence is None:
        return None
    return direction.sign * maximum * max(0.0, 2.0 * confidence - 1.0)
