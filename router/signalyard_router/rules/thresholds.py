"""From the alerts of a document to the thresholds that hold."""

from collections.abc import Callable

import msgspec

from signalyard.problems import SignalyardError
from signalyard_router.rules.documents import AlertPart
from signalyard_router.rules.sessions import DAY
from signalyard_router.rules.units import MINUTE, SECOND, nanoseconds


class AlertRules(msgspec.Struct, frozen=True):
    """The thresholds of a route; None is off. Durations are nanoseconds; ``surge`` is 3.0 for 300%."""

    no_signal: int | None
    min_confidence: float | None
    surge: float | None
    surge_floor: int
    surge_part: int
    degraded: float | None
    late: float | None
    window: int
    at_least: int
    drift: bool


def alert_rules(part: AlertPart, refuse: Callable[[str, str], SignalyardError]) -> AlertRules:
    """Turn a document's part into numbers. Raises what ``refuse(text, pointer)`` gives."""
    for name, text, least in (
        ("noSignal", part.no_signal, SECOND),
        ("window", part.window, SECOND),
        ("surgePart", part.surge_part, MINUTE),
    ):
        if text != "off" and not least <= nanoseconds(text) <= DAY:
            raise refuse(f"must be between {least // SECOND} s and 24 h", f"/spec/alerts/{name}")
    return AlertRules(
        no_signal=None if part.no_signal == "off" else nanoseconds(part.no_signal),
        min_confidence=_number(part.min_confidence),
        surge=None if part.surge == "off" else int(part.surge.removesuffix("%")) / 100,
        surge_floor=part.surge_floor,
        surge_part=nanoseconds(part.surge_part),
        degraded=_number(part.degraded),
        late=_number(part.late),
        window=nanoseconds(part.window),
        at_least=part.at_least,
        drift=part.drift == "on",
    )


def _number(value: float | str) -> float | None:
    return None if isinstance(value, str) else value
