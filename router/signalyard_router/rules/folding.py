"""How a journal's records, whatever they are, become the state of a gate."""

from signalyard.wire import Decision
from signalyard_router.rules.gate import Gate
from signalyard_router.rules.record import (
    CallRecord,
    DecisionRecord,
    GroupRecord,
    LeverRecord,
    PlanRecord,
    Record,
    RouteRecord,
    ShadowRecord,
    StartRecord,
)


def fold(gate: Gate, record: Record, decision: Decision | None = None) -> object | None:
    """Fold a record into a gate; the answer is what takes it out again. ``decision`` is the record's, where it is at hand."""
    match record:
        case DecisionRecord():
            return gate.apply(record, decision)
        case RouteRecord():
            return gate.accept(record)
        case GroupRecord():
            return gate.group(record)
        case LeverRecord():
            return gate.pull(record)
        case PlanRecord():
            return gate.step(record)
        case StartRecord():
            return None
        case ShadowRecord() | CallRecord():
            return None  # they tell what might have been, or was passed through, and change nothing
