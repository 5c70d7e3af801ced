"""The router's own alerts: what they are, and when one fires. Pure: the facts and the time are given."""

from enum import StrEnum

import msgspec

from signalyard_router.rules.activity import Activity, Tally
from signalyard_router.rules.sessions import DAY, Sessions, open_time
from signalyard_router.rules.surge import Surge
from signalyard_router.rules.units import SECOND

LEAST_SESSIONS = 3
"""Earlier sessions that must be known before a contract's signals can be too many for one."""


class AlertKind(StrEnum):
    """What may be wrong with a route."""

    NO_SIGNAL = "no_signal"
    LOW_CONFIDENCE = "low_confidence"
    SURGE = "surge"
    DEGRADED = "degraded"
    LATE = "late"
    DRIFT = "drift"


class AlertState(StrEnum):
    """``pending``: it begins to look so, or too few were counted to say."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"


class SilenceCause(StrEnum):
    """Why there is no signal: the first place on a snapshot's way where nothing comes through."""

    HALTED = "halted"
    FEED_SILENT = "feed_silent"
    """No snapshots come."""
    REJECTED = "rejected"
    """Snapshots come, and are bad."""
    MODEL_SILENT = "model_silent"
    """Good snapshots come, and no model answers them."""
    JOURNAL_AWAY = "journal_away"
    """Decisions are made, and cannot be recorded."""
    ALL_FILTERED = "all_filtered"
    """Models answer, and every answer means no direction or is suppressed."""


class Finding(msgspec.Struct, frozen=True):
    """What one look says. ``value`` and ``threshold`` are seconds, a probability, signals or a ratio, by the alert."""

    state: AlertState
    message: str = ""
    value: float | None = None
    threshold: float | None = None
    cause: SilenceCause | None = None


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as ``GET /v1/status`` shows it. ``since``: when it came into this state, the journal's time."""

    route: str
    alert: AlertKind
    state: AlertState
    since: int
    value: float | None = None
    threshold: float | None = None
    message: str = ""
    cause: SilenceCause | None = None


def silence(
    limit: int, sessions: Sessions | None, activity: Activity, since: int, now: int, halted: str | None
) -> Finding:
    """No signal for ``limit`` nanoseconds of open session, counted from the last one or from ``since``, when watching began."""
    if sessions is not None and not sessions.open_at(now):
        return Finding(AlertState.OK, "the session is closed", None, limit / SECOND)
    lasted = open_time(sessions, max(since, activity.last_signal), now, max(limit, DAY))
    value = lasted / SECOND
    if lasted < limit // 2:
        return Finding(AlertState.OK, "", value, limit / SECOND)
    cause, text = _cause(limit // 2, sessions, activity, since, now, halted)
    state = AlertState.FIRING if lasted >= limit else AlertState.PENDING
    return Finding(state, f"no signal for {_spoken(lasted)} of open session: {text}", value, limit / SECOND, cause)


def _cause(
    quiet: int, sessions: Sessions | None, activity: Activity, since: int, now: int, halted: str | None
) -> tuple[SilenceCause, str]:
    """The first place where nothing came through for ``quiet``, in the order of a snapshot's way."""
    if halted is not None:
        return SilenceCause.HALTED, f"the route is {halted}"

    def without(last: int) -> bool:
        return open_time(sessions, max(since, last), now, quiet) >= quiet

    seen = activity.totals(now)
    counted = f"in the last {_spoken(activity.window)} {seen.snapshots} snapshots"
    if without(activity.last_snapshot):
        ago = (
            f"the last came {_spoken(now - activity.last_snapshot)} ago" if activity.last_snapshot else "none came yet"
        )
        return SilenceCause.FEED_SILENT, f"the feed is silent, {ago}"
    if without(activity.last_answer):
        if 2 * seen.rejected > seen.snapshots:
            return SilenceCause.REJECTED, f"snapshots are rejected ({counted}, {seen.rejected} rejected{_most(seen)})"
        return SilenceCause.MODEL_SILENT, f"no model answers ({counted}, {seen.answers} answers{_most(seen)})"
    if 2 * seen.unrecorded > seen.snapshots:
        return SilenceCause.JOURNAL_AWAY, f"the journal takes no decisions ({counted}, {seen.unrecorded} not recorded)"
    return SilenceCause.ALL_FILTERED, f"no answer becomes a signal ({counted}, {seen.answers} answers{_most(seen)})"


def low_confidence(floor: float, at_least: int, seen: Tally) -> Finding:
    """The mean of all calibrated answers, before the filters, lies below the floor."""
    if not seen.confidences:
        return Finding(AlertState.OK, "", None, floor)
    mean = seen.confidence_sum / seen.confidences / 1e9
    if mean >= floor:
        return Finding(AlertState.OK, "", mean, floor)
    return Finding(
        _enough(seen.confidences, at_least),
        f"the mean confidence of {seen.confidences} answers is {mean:.3f}, below {floor:g}",
        mean,
        floor,
    )


def degraded(limit: float, at_least: int, seen: Tally) -> Finding:
    """Too large a share of the good snapshots was not answered by their assigned track."""
    return _ratio(seen.degraded, limit, at_least, seen, "were not answered by their track")


def late(limit: float, at_least: int, seen: Tally) -> Finding:
    """Too large a share of the good snapshots missed the deadline."""
    return _ratio(seen.late, limit, at_least, seen, "missed their deadline")


def excessive(more: float, surges: list[Surge]) -> list[Surge]:
    """Those of ``surges`` that gave too many signals for this part of the session, the worst first."""
    found = [surge for surge in surges if surge.sessions >= LEAST_SESSIONS and surge.count > surge.mean * (1 + more)]
    return sorted(found, key=lambda surge: surge.mean * (1 + more) - surge.count)


def surged(more: float, floor: int, surges: list[Surge]) -> Finding:
    """A contract's signals in this part of the session, against the same part of earlier ones.

    ``surges`` are the contracts that have reached the floor; the worst is named.
    """
    above = excessive(more, surges)
    if not above:
        waiting = sum(surge.sessions < LEAST_SESSIONS for surge in surges)
        if waiting:
            text = f"{waiting} contracts have {floor} signals or more, and too few earlier sessions to compare with"
            return Finding(AlertState.PENDING, text, None, float(floor))
        return Finding(AlertState.OK, "", None, float(floor))
    surge = above[0]
    others = f"; {len(above) - 1} other contracts too" if len(above) > 1 else ""
    text = (
        f"{surge.symbol} gave {surge.count} signals in this part of the session,"
        f" the mean of {surge.sessions} earlier ones is {surge.mean:.1f}{others}"
    )
    return Finding(AlertState.FIRING, text, float(surge.count), max(float(floor), surge.mean * (1 + more)))


def drifted(tracks: list[str]) -> Finding:
    """Model servers serve another version than the document names; each of ``tracks`` says which."""
    if not tracks:
        return Finding(AlertState.OK)
    return Finding(AlertState.FIRING, "; ".join(tracks), float(len(tracks)), 0.0)


def _ratio(count: int, limit: float, at_least: int, seen: Tally, what: str) -> Finding:
    good = seen.snapshots - seen.rejected
    if not good:
        return Finding(AlertState.OK, "", None, limit)
    ratio = count / good
    if ratio <= limit:
        return Finding(AlertState.OK, "", ratio, limit)
    return Finding(_enough(good, at_least), f"{count} of {good} snapshots {what}", ratio, limit)


def _enough(count: int, at_least: int) -> AlertState:
    return AlertState.FIRING if count >= at_least else AlertState.PENDING


def _most(seen: Tally) -> str:
    if not seen.reasons:
        return ""
    reason, count = max(seen.reasons.items(), key=lambda item: (item[1], item[0]))
    return f"; most often {reason}, {count}"


def _spoken(nanos: int) -> str:
    seconds = nanos // SECOND
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
