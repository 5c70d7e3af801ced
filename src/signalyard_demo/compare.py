"""The same snapshots through every wire, on event time and without faults: all must get the same decisions.

Each wire has a router and a journal of its own, all of them the same model servers. What may differ is what names an occurrence: ids,
sequences, and the times of recording.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from signalyard.clients import SignalClient
from signalyard.wire import Decision, Snapshot
from signalyard_demo.replay import BATCH, BATCH_EVERY, ReplayError

_OCCURRENCE = frozenset({"proposal_id", "duplicate_of", "elapsed_us", "row"})
_OCCURRENCE_OF_SIGNAL = frozenset({"signal_id", "epoch", "seq", "prev_seq", "ts_init", "ts_expire"})


@dataclass(frozen=True, slots=True)
class Compared:
    """One wire's decisions against those of the first: ``differences`` of them, ``first`` the first such."""

    wire: str
    outcomes: Mapping[str, int]
    differences: int
    first: str = ""


def decide_all(client: SignalClient, rows: Sequence[Snapshot]) -> list[Decision]:
    """The decisions on all rows, in their order: one call after another, every tenth with four rows. Raises SignalyardError, ReplayError."""
    decisions: list[Decision] = []
    calls = 0
    while len(decisions) < len(rows):
        calls += 1
        place = len(decisions)
        batch = rows[place : place + (BATCH if not calls % BATCH_EVERY else 1)]
        found = client.predict(batch)
        if [decision.row for decision in found] != list(range(len(batch))):
            raise ReplayError(f"{len(batch)} snapshots got {len(found)} decisions, where each is owed exactly one")
        decisions += found
    return decisions


def alike(decision: Decision) -> dict[str, Any]:
    """What must be the same on every wire."""
    plain: dict[str, Any] = msgspec.to_builtins(decision)
    for name in ("signal", "paper"):
        if name in plain:
            plain[name] = {key: value for key, value in plain[name].items() if key not in _OCCURRENCE_OF_SIGNAL}
    return {key: value for key, value in plain.items() if key not in _OCCURRENCE}


def compare(decided: Mapping[str, Sequence[Decision]]) -> list[Compared]:
    """Every wire against the first."""
    first = [alike(decision) for decision in next(iter(decided.values()))]
    found: list[Compared] = []
    for wire, decisions in decided.items():
        different = [
            (mine, theirs) for mine, theirs in zip(first, map(alike, decisions), strict=True) if mine != theirs
        ]
        text = f"{different[0][0]} became {different[0][1]}" if different else ""
        outcomes = Counter(str(decision.outcome) for decision in decisions)
        found.append(Compared(wire, dict(outcomes), len(different), text))
    return found
