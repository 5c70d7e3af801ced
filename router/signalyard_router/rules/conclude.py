"""From a model's answer to a direction, at the moment of settling.

Not before: hysteresis starts from what the newest decision of the instrument left, and until a proposal is settled others may
be settled ahead of it, in the same request or from another one.
"""

from signalyard.words import FLAT, Direction, Reason
from signalyard_router.rules.filters import objection
from signalyard_router.rules.mapping import direction_of, position_of
from signalyard_router.rules.proposal import Proposal


def conclude(proposal: Proposal, held: Direction | None) -> None:
    """Give a proposal with an answer its direction, position and the filters' objection, or its reason to abstain."""
    mapping, filters, answer = proposal.rules.mapping, proposal.rules.filters, proposal.answer
    if mapping is None or filters is None:
        return
    if proposal.reduce_only:
        proposal.position = position_of(FLAT, None, mapping.position_max)
    elif answer is not None:
        proposal.held = held
        proposal.direction = direction_of(answer.score, held, mapping)
        if proposal.direction is None:
            proposal.abstain = Reason.NO_DIRECTION
        else:
            proposal.position = position_of(proposal.direction, answer.confidence, mapping.position_max)
            proposal.objection = objection(proposal.direction, answer.confidence, filters)
