"""One decision told step by step, from its record alone: the answer to "why did I get no signal?"."""

from collections.abc import Iterator
from typing import Any

from signalyard.words import Direction, Outcome, Reason
from signalyard_router.rules.record import SIGNALS, DecisionRecord, RouteRecord

_MEANINGS: dict[Reason, str] = {
    Reason.NO_ANSWER: "no rung of the ladder gave an answer within the budget",
    Reason.NO_DIRECTION: "the score lies between the thresholds, and the route says to abstain there",
    Reason.ROW_ERROR: "the model answered that it could not score this row",
    Reason.VERSION_DRIFT: "no model server has the version that the route names, and its onDrift is refuse",
    Reason.LOW_CONFIDENCE: "the confidence is below the route's minConfidence",
    Reason.NO_CONFIDENCE: "the route asks for a confidence, and the model, not being calibrated, gives none",
    Reason.DIRECTION_FILTERED: "the route lets no signal of this direction pass",
    Reason.HALTED: "somebody halted it; only a resume that names the halt lets signals out",
    Reason.PAUSED: "somebody paused it; only exits get through",
    Reason.DUPLICATE: "the same direction left for this instrument within the dedupe window",
    Reason.OUT_OF_ORDER: "a newer snapshot of this instrument had been decided before",
    Reason.SUPERSEDED: "it was made under an older revision of the route than the newest one in force",
    Reason.PAST_COMMIT_BY: "it reached the gate after its deadline",
    Reason.RATE_LIMITED: "the route had emitted as many signals as limits.signals allows; it is latched until a reset",
    Reason.FLIP_LATCHED: "the instrument changed sides more often than limits.flips allows; the latch holds until a "
    "reset",
    Reason.FLAT_CEILING: "the ladder's flat rung had closed as many instruments as it may within a minute",
    Reason.CONFLICT: "another route of its group says something else, and has the word by the group's rule",
    Reason.JOURNAL_UNAVAILABLE: "the journal could not record it",
    Reason.JOURNAL_RECOVERING: "the journal that the replicas share may have lost its newest records: no signal leaves until none could be repeated",
    Reason.UNCONFIRMED: "the journal had not confirmed it by the deadline",
}


def explain(record: DecisionRecord, route: RouteRecord | None) -> Iterator[str]:
    """The lines of the story. ``route`` is the document that was in force, for its numbers."""
    spec = _part(route.document if route else None, "spec")
    yield f"decision  {record.outcome}{_because(record)}"
    yield f"  proposal {record.proposal_id or '-'}, journal record {record.seq}, journal time {record.t}"
    yield f"input     {record.symbol or '(no instrument)'} at {record.ts_event}, received {record.ts_recv}" + (
        f", consumer {record.consumer}" if record.consumer else ""
    )
    if record.input is not None:
        yield f"  {_features(record)}"
    if record.route:
        yield f"route     {record.route}, revision {record.revision}, generation {record.generation}"
    if record.problem is not None:
        place = f" at {record.problem.pointer}" if record.problem.pointer else ""
        yield f"checked   refused: {record.problem.code}{place}"
        yield f"  {record.problem.detail or record.problem.title}"
        return
    yield f"budget    {record.budget_us} us in all; settled after {record.elapsed_us} us"
    yield from _calls(record)
    yield from _mapping(record, spec)
    yield from _filters(record, spec)
    yield from _gate(record, spec)


def _part(document: Any, name: str) -> dict[str, Any]:
    """A member of a recorded document that is an object; the document may be of another version, or no document at all."""
    part = document.get(name) if isinstance(document, dict) else None
    return part if isinstance(part, dict) else {}


def _because(record: DecisionRecord) -> str:
    if record.reason is not None:
        return f", {record.reason}: {_MEANINGS[record.reason]}"
    return f", {record.problem.code}" if record.problem else ""


def _features(record: DecisionRecord) -> str:
    if record.input is None:
        return ""
    columns, values = record.input.names(), record.input.values
    return ", ".join(
        f"{name}={'missing' if value is None else f'{value:g}'}" for name, value in zip(columns, values, strict=False)
    )


def _calls(record: DecisionRecord) -> Iterator[str]:
    number = 0
    for step in record.steps:
        number += not step.again
        place = f" on {step.endpoint}" if step.endpoint else ""
        target = f" {step.model} {step.version}{place}" if step.model else ""
        timing = f", given {step.budget_us} us, took {step.elapsed_us} us" if step.budget_us else ""
        yield f"rung {number}    {step.rung}{target}: {step.result}{timing}" + (
            f" ({step.detail})" if step.detail else ""
        )
    if not any(step.result == "answered" for step in record.steps):
        yield "  the ladder ended here: skip"


def _mapping(record: DecisionRecord, spec: dict[str, Any]) -> Iterator[str]:
    if record.score is None:
        if record.reduce_only:
            yield "mapping   none: the ladder's flat rung closes what is open"
        return
    confidence = "none" if record.confidence is None else f"{record.confidence:.6g}"
    yield f"answer    score {record.score:.6g}, confidence {confidence}, by {record.model} {record.version} ({record.digest})"
    thresholds = _part(spec, "mapping")
    shown = ", ".join(
        f"{side} enter {part.get('enter')} exit {part.get('exit', part.get('enter'))}"
        for side in ("long", "short")
        if (part := _part(thresholds, side))
    )
    held = f"holding {record.held}" if record.held else "holding nothing"
    position = "" if record.position is None else f", position {record.position:.4g}"
    yield f"mapping   {held}; {shown or 'thresholds unknown'} -> {record.direction or 'no direction'}{position}"


def _filters(record: DecisionRecord, spec: dict[str, Any]) -> Iterator[str]:
    if record.direction is None:
        return
    if record.objection is None:
        yield "filters   passed"
        return
    minimum = _part(spec, "filters").get("minConfidence")
    asked = f" (minConfidence {minimum})" if record.objection is Reason.LOW_CONFIDENCE and minimum is not None else ""
    verdict = "held back" if record.reason is record.objection else "let pass, for it reduces a position"
    yield f"filters   {record.objection}{asked}: {verdict}"


def _gate(record: DecisionRecord, spec: dict[str, Any]) -> Iterator[str]:
    if record.outcome in SIGNALS:
        kind = " (reduces)" if record.reduces and record.direction is not Direction.FLAT else ""
        marks = "".join(
            f", {name}"
            for name in ("failover", "drift", "degraded", "reduce_only", "handover")
            if getattr(record, name)
        )
        word = "would have been emitted, on paper" if record.outcome is Outcome.PAPER else "emitted"
        yield f"gate      {word}{kind} as {record.signal_id}, seq {record.signal_seq} after {record.prev_seq}{marks}"
        yield f"  dies at {record.ts_expire}"
    elif record.group:
        yield f"gate      {record.reason}, by the group {record.group}" + _of_group(record)
    elif record.duplicate_of:
        window = _part(spec, "dedupe").get("window", "?")
        yield f"gate      duplicate of {record.duplicate_of}, window {window}"
    elif record.outcome is Outcome.SUPPRESSED and record.objection is not record.reason:
        yield f"gate      {record.reason}"


def _of_group(record: DecisionRecord) -> str:
    if record.against:
        return f": its route {record.against} says something else"
    if record.duplicate_of:
        return f": duplicate of {record.duplicate_of} within the window that its routes share"
    return ": the limit that its routes share was reached; it is latched until a reset"
