"""One digest a track at a time: while pods roll, records do not go to and fro between bundles."""

from collections.abc import Iterator

from simulated.history import History
from simulated.models import digest_of
from simulated.plan import HOMES, Plan
from simulated.reading import Line

_STABLE = {digest_of(mark) for mark, home in HOMES.items() if home == "stable"}
_NODES = ("stable", "stable-2")
_TROUBLES = {"behaviour", "script", "model_frozen", "model_down", "weather"}


def wrong_digests(plan: Plan, history: History, lines: list[Line]) -> Iterator[str]:
    """More changes of a track's digest than its servers gave cause for.

    A restarted router has to learn anew what is served: it may take up what is about to go, and go back. A server in trouble may hand
    its track to another one. Where pods alone change, two endpoints make one change of the track when both have changed.
    """
    troubled = any(fault.kind in _TROUBLES and fault.target in (*_NODES, "router") for fault in plan.faults)
    if troubled or plan.vanish or plan.reset or plan.slow:
        return
    changes = {node: sum(event.kind == "rolled" and event.who == node for event in history.events) for node in _NODES}
    starts = sum(event.kind == "up" for event in history.events)
    for route in sorted({document["metadata"]["name"] for document in plan.stages[0]}):
        spec = next(document["spec"] for document in plan.stages[0] if document["metadata"]["name"] == route)
        twins = "endpoints" in spec["tracks"][0]
        allowed = 2 * starts + (min(changes.values()) if twins else changes["stable"])
        found = _changes(lines, route)
        if found > allowed:
            yield f"digest: stable went to and fro {found} times, and its servers gave cause for {allowed} ({route})"


def _changes(lines: list[Line], route: str) -> int:
    """How often the digest must have changed: neighbours whose decisions were under way together prove nothing."""
    spans = sorted(
        (line.written.at, line.written.at - line.record.get("elapsed_us", 0) * 1000 - 1_000, line.record["digest"])
        for line in lines
        if line.record["kind"] == "decision"
        and line.record.get("route") == route
        and line.record.get("digest") in _STABLE
    )
    changes, digest, since = -1, "", -1
    for settled, received, other in spans:
        if other != digest and received >= since:
            changes, digest, since = changes + 1, other, settled
    return max(0, changes)
