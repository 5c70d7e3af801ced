"""The bodies of requests and answers, the same on every wire of a client."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from signalyard.problems import CallerError, Problem, error, escape_pointer
from signalyard.wire import Columnar, Decision, Snapshot, StateAnswer

Snapshots = Snapshot | Sequence[Snapshot] | Columnar
"""What may be asked for at once."""

_INFINITE = (math.inf, -math.inf)
_T = TypeVar("_T")


class SeveralDecisionsError(CallerError):
    """One decision was asked for and several routes decided; ``decisions`` holds them all, for they stand."""

    def __init__(self, problem: Problem, detail: str, pointer: str, decisions: list[Decision]) -> None:
        super().__init__(problem, detail, pointer)
        self.decisions = decisions

    def __reduce__(self) -> tuple[type["SeveralDecisionsError"], tuple[Problem, str, str, list[Decision]]]:
        return type(self), (self.problem, self.detail, self.pointer, self.decisions)


def _plain(value: Any) -> Any:
    """numpy's scalars and arrays as Python's, without importing numpy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} is not a number")


_encoder = msgspec.json.Encoder(enc_hook=_plain)
_decisions: msgspec.json.Decoder[Decision | list[Decision]] = msgspec.json.Decoder(Decision | list[Decision])
_state = msgspec.json.Decoder(StateAnswer)


def encode(snapshots: Snapshots) -> bytes:
    """The body of a request. Raises CallerError: invalid_snapshot, or feature_not_finite, for JSON has no infinity and msgspec
    writes null, which means missing."""
    try:
        if isinstance(snapshots, Columnar):
            for index, row in enumerate(snapshots.rows):
                for place, value in enumerate(row.values):
                    if value in _INFINITE:
                        raise error(Problem.FEATURE_NOT_FINITE, f"the value is {value}", f"/rows/{index}/2/{place}")
        elif isinstance(snapshots, Snapshot):
            _check_finite(snapshots, "")
        else:
            for index, snapshot in enumerate(snapshots):
                _check_finite(snapshot, f"/{index}")
        return _encoder.encode(snapshots)
    except (AttributeError, TypeError, ValueError, RecursionError) as exc:
        raise error(Problem.INVALID_SNAPSHOT, f"this cannot be written as JSON: {exc}") from exc


def _check_finite(snapshot: Snapshot, place: str) -> None:
    if not isinstance(snapshot, Snapshot):
        raise error(Problem.INVALID_SNAPSHOT, f"a {type(snapshot).__name__} is not a Snapshot", place)
    for name, value in snapshot.features.items():
        if value in _INFINITE:
            raise error(Problem.FEATURE_NOT_FINITE, f"{name} is {value}", f"{place}/features/{escape_pointer(name)}")


def _check_rows(snapshots: Snapshots, decisions: list[Decision]) -> None:
    """That each decision is about the row it names, else one instrument gets another's. Raises RouterError (internal)."""
    rows: Sequence[Any]
    if isinstance(snapshots, Columnar):
        rows = snapshots.rows
    else:
        rows = (snapshots,) if isinstance(snapshots, Snapshot) else snapshots
    for decision in decisions:
        if not 0 <= decision.row < len(rows):
            raise error(Problem.INTERNAL, f"the answer has a decision on row {decision.row} of {len(rows)}")
        asked = rows[decision.row]
        # A rejected row may have had no symbol or time that could be read.
        if decision.symbol not in ("", asked.symbol) or decision.ts_event not in (0, asked.ts_event):
            raise error(
                Problem.INTERNAL,
                f"row {decision.row} asks about {asked.symbol} at {asked.ts_event},"
                f" its decision is about {decision.symbol} at {decision.ts_event}",
            )


def read_decisions(snapshots: Snapshots, body: bytes) -> list[Decision]:
    """The decisions in an answer to ``snapshots``. Raises RouterError (internal) where they are not those of these snapshots, and the
    problem of a single Snapshot that was rejected: a wire without status codes answers that as a decision."""
    decisions = _decode(_decisions, body)
    if isinstance(decisions, Decision):
        decisions = [decisions]
    _check_rows(snapshots, decisions)
    if isinstance(snapshots, Snapshot) and len(decisions) == 1 and (problem := decisions[0].problem) is not None:
        raise error(problem.code, problem.detail, problem.pointer)
    return decisions


def read_state(body: bytes) -> StateAnswer:
    """The state in an answer. Raises RouterError (internal) where there is none."""
    return _decode(_state, body)


def only(snapshot: Snapshot, decisions: list[Decision]) -> Decision:
    """The one decision on a snapshot. Raises as `Client.predict_one` does."""
    if len(decisions) == 1:
        return decisions[0]
    if not decisions:
        raise error(Problem.INTERNAL, "the router answered one snapshot with no decision")
    routes = ", ".join(decision.route for decision in decisions)
    raise SeveralDecisionsError(
        Problem.UNKNOWN_ROUTE,
        f"the routes {routes} decided on {snapshot.symbol}: name one in the snapshot, or use predict()",
        "/route",
        decisions,
    )


def _decode(decoder: "msgspec.json.Decoder[_T]", body: bytes) -> _T:
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError) as exc:
        raise error(Problem.INTERNAL, f"the router's answer cannot be read: {exc}") from exc
