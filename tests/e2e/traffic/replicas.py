"""The journals of several replicas put together, and where they contradict one another."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Record = Mapping[str, Any]

_SHARED = ("decision", "lever", "route", "group", "plan")
_OWN = ("seq", "prev", "input", "steps")
"""What the same record may have other values of in each journal, or in one journal alone."""


@dataclass(frozen=True)
class Together:
    """``records`` are those that the replicas share, each once, in the order in which they were settled: ``seq`` is the place in it.

    ``contradictions`` say, one by one, what two journals tell differently, or one of them twice.
    """

    records: tuple[dict[str, Any], ...]
    contradictions: tuple[str, ...]


def together(journals: Mapping[str, Iterable[Record]]) -> Together:
    """Of the journals of all replicas, by their names.

    A replica that was away may lack what was decided meanwhile. The time of a record is the same in all of them and never steps back,
    and records of one time were settled at once, by one replica.
    """
    found: dict[tuple[str, object], tuple[tuple[int, int], str, Record]] = {}
    contradictions: list[str] = []
    for name, journal in journals.items():
        own: set[tuple[str, object]] = set()
        for record in journal:
            if record["kind"] not in _SHARED:
                continue
            key = _identity(record)
            if key in own:
                contradictions.append(f"{key[1]} stands twice in the journal of {name}")
            own.add(key)
            place = (record["t"], record["seq"])
            before = found.get(key)
            if before is None:
                found[key] = (place, name, record)
            else:
                contradictions += _between(before, name, record)
                # Who decided has written it whole.
                if record.get("replica") == name:
                    found[key] = (place, name, record)
    ordered = sorted(found.values(), key=lambda one: one[0])
    return Together(
        tuple({**record, "seq": number} for number, (_, _, record) in enumerate(ordered)), tuple(contradictions)
    )


def _identity(record: Record) -> tuple[str, object]:
    match record["kind"]:
        case "decision":
            return "decision", record["proposal_id"]
        case kind:
            # Nobody writes two of them at one moment of the journal's time.
            return kind, (record["t"], record.get("name"), record.get("id"), record.get("lever"), record.get("route"))


def _between(before: tuple[tuple[int, int], str, Record], name: str, record: Record) -> Iterator[str]:
    _, other, told = before
    for field in sorted((told.keys() | record.keys()) - set(_OWN)):
        if told.get(field) != record.get(field):
            what = record.get("proposal_id", record["kind"])
            yield f"{field} of {what} is {told.get(field)} in the journal of {other} and {record.get(field)} in that of {name}"
