"""Under which revision of its document a route decided, from one moment to the next, judged from the journal."""

from collections.abc import Iterable, Mapping
from typing import Any

_SIGNALS = ("emitted", "paper")


def torn(records: Iterable[Mapping[str, Any]], route: str) -> tuple[str, ...]:
    """What contradicts that every signal of ``route`` was given under the revision that was in force when it was settled.

    ``records`` are in the order of ``seq``, those of documents among them. What was asked for under an older one may be settled
    later, and is then no signal.
    """
    found: list[str] = []
    in_force: Mapping[str, Any] | None = None
    for record in sorted(records, key=lambda record: record["seq"]):
        if record["kind"] == "route" and record["name"] == route:
            in_force = record
        elif record["kind"] == "decision" and record["route"] == route and record["outcome"] in _SIGNALS:
            named = (record["revision"], record["generation"])
            expected = (in_force["revision"], in_force["generation"]) if in_force else ("none", 0)
            if named != expected:
                found.append(f"{record['signal_id']} was given under {named} while {expected} was in force")
    return tuple(found)
