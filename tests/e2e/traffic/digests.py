"""Which bytes decided, from one moment to the next, judged from the journal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def torn(records: Iterable[Mapping[str, Any]], expected: Sequence[str]) -> tuple[str, ...]:
    """What contradicts that a track was served by the digests of ``expected``, one after the other and never two at a time.

    ``records`` are the track's decisions. A decision that was asked for before the first answer of the next digest may still be
    settled after it; one that was asked for later may not.
    """
    found: list[str] = []
    place, cut = 0, 0
    for record in sorted(records, key=lambda record: record["seq"]):
        digest = record.get("digest")
        if digest is None or digest == expected[place]:
            continue
        if place and digest == expected[place - 1] and record["ts_recv"] <= cut:
            continue
        if digest in expected[place + 1 : place + 2]:
            place, cut = place + 1, record["t"]
            continue
        since = (record["ts_recv"] - cut) / 1e9
        found.append(
            f"{record['proposal_id']} was asked for {since:.3f} s after {expected[place]} came in and got {digest}"
        )
    if place < len(expected) - 1:
        found.append(f"{expected[place + 1]} never answered")
    return tuple(found)
