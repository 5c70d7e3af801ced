"""From the sessions of a document to the hours that hold."""

from collections.abc import Callable
from zoneinfo import ZoneInfo

from signalyard.problems import SignalyardError
from signalyard_router.rules.documents import SessionPart
from signalyard_router.rules.sessions import Hours, Sessions, hours, overlap


def sessions_of(part: SessionPart, refuse: Callable[[str, str], SignalyardError]) -> Sessions:
    """Check the hours as a whole. Raises what ``refuse(text, pointer)`` gives."""
    try:
        zone = ZoneInfo(part.timezone)
    except (LookupError, OSError, ValueError) as exc:  # not there, a folder of the data base, no name at all
        raise refuse(
            f"no time zone is named {part.timezone!r}; write one such as Asia/Shanghai or America/Chicago",
            "/spec/sessions/timezone",
        ) from exc
    kept: list[Hours] = []
    for index, text in enumerate(part.hours):
        try:
            kept.append(hours(text))
        except ValueError as exc:
            raise refuse(str(exc), f"/spec/sessions/hours/{index}") from exc
    if (index_of := overlap(kept)) is not None:
        raise refuse(f"{part.hours[index_of]} overlaps hours before it", f"/spec/sessions/hours/{index_of}")
    return Sessions(zone, kept, frozenset(part.days), frozenset(part.holidays), eve=part.eve)
