"""What a stream of requests came to, judged from outside: from what the client was answered, and the journal."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

ALLOWANCE = 0.01
"""Seconds."""
Line = Mapping[str, Any]
"""What the client printed of one snapshot."""


@dataclass(frozen=True)
class Account:
    """``failures`` counts calls without an answer, ``unanswered`` snapshots that got no decision however often they were sent;
    ``late`` calls that took longer than the deadline and ``allowance``. ``slowest_us`` is that of a call that was answered.

    ``duplicates`` and ``lost`` say, one by one, what must not be: a signal that repeats another one, an answer that the journal
    does not hold.
    """

    requests: int = 0
    failures: int = 0
    unanswered: int = 0
    late: int = 0
    slowest_us: int = 0
    duplicates: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        counts = f"{self.requests} requests, {self.failures} failures, {self.unanswered} unanswered, {self.late} late"
        return (
            f"{counts}, {len(self.duplicates)} duplicates, {len(self.lost)} lost, slowest {self.slowest_us / 1000:.1f} ms; "
            f"{dict(self.outcomes)} {dict(self.reasons)} {dict(self.problems)} {dict(self.versions)} {dict(self.marks)}"
        )


def account(
    lines: Iterable[Line],
    *,
    deadline: float,
    window: float = 0.0,
    journal: Iterable[Mapping[str, Any]] = (),
    allowance: float = ALLOWANCE,
) -> Account:
    """Of what the client printed and what the journal holds. Times are in seconds.

    ``window`` is the route's ``dedupe.window``. ``allowance`` is what the client itself may take to wake up after ``deadline``, which
    is the router's promise.
    """
    lines, records = list(lines), [record for record in journal if record["kind"] == "decision"]
    tries = [attempt for line in lines for attempt in line["tries"]]
    answered = [attempt["took_us"] for attempt in tries if "problem" not in attempt]
    decisions = [(line, decision) for line in lines for decision in line["decisions"]]
    signals = [(line, decision) for line, decision in decisions if "signal_id" in decision]
    return Account(
        requests=len(lines),
        failures=len(tries) - len(answered),
        unanswered=sum(not line["decisions"] for line in lines),
        late=sum(attempt["took_us"] > (deadline + allowance) * 1e6 for attempt in tries),
        slowest_us=max(answered, default=0),
        duplicates=(*_same(signals), *_repeated(records, window)),
        lost=tuple(_lost(decisions, records)) if records else (),
        outcomes=Counter(decision["outcome"] for _, decision in decisions),
        reasons=Counter(decision["reason"] for _, decision in decisions if decision["reason"]),
        problems=Counter(attempt["problem"] for attempt in tries if "problem" in attempt),
        versions=Counter(decision["version"] or "none" for _, decision in signals),
        marks=Counter(mark for _, one in signals for mark in ("failover", "degraded", "drift") if one[mark]),
    )


def longest_silence(lines: Iterable[Line]) -> float:
    """Seconds between two answers of what the client printed: the gap of a router that was away."""
    answered = [line["at"] for line in lines if line["decisions"]]
    return max(later - earlier for earlier, later in pairwise(answered)) / 1e9


def _same(signals: Iterable[tuple[Line, Mapping[str, Any]]]) -> Iterable[str]:
    """Signals as the desk received them: each belongs to one snapshot and bears a number of its own."""
    snapshots: dict[str, tuple[object, ...]] = {}
    numbers: dict[tuple[object, ...], str] = {}
    for line, signal in signals:
        name, where = signal["signal_id"], (signal["route"], line["symbol"])
        snapshot = (*where, line["ts_event"])
        if snapshots.setdefault(name, snapshot) != snapshot:
            yield f"{name} came for two snapshots: {snapshots[name]} and {snapshot}"
        number = (*where, signal["epoch"], signal["seq"])
        if numbers.setdefault(number, name) != name:
            yield f"{name} and {numbers[number]} both bear the number {number}"


def _repeated(records: Iterable[Mapping[str, Any]], window: float) -> Iterable[str]:
    """Signals as the journal settled them: none says again, within the window, what the one before it said."""
    last: dict[tuple[str, str], Mapping[str, Any]] = {}
    for record in sorted(records, key=lambda record: record["seq"]):
        if record["outcome"] != "emitted":
            continue
        where = (record["route"], record["symbol"])
        before = last.get(where)
        if before and before["direction"] == record["direction"] and record["t"] < before["t"] + window * 1e9:
            apart = (record["t"] - before["t"]) / 1e9
            yield f"{record['signal_id']} says {record['direction']} {apart:.3f} s after {before['signal_id']} did ({where})"
        last[where] = record


def _lost(decisions: Iterable[tuple[Line, Mapping[str, Any]]], records: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    """What was acknowledged and is not in the journal as it was acknowledged."""
    recorded = {record["proposal_id"]: record for record in records}
    for line, decision in decisions:
        if decision["outcome"] == "unknown":
            continue  # it says itself that only the journal knows
        record = recorded.get(decision["proposal_id"])
        what = f"{decision['proposal_id']} ({line['symbol']} at {line['ts_event']}, {decision['outcome']})"
        if decision["reason"] == "journal_unavailable":
            # It says that it is in no record. Where the snapshot had been sent before, and got no answer, the record may be of that time.
            if record is not None and not any("problem" in attempt for attempt in line["tries"]):
                yield f"{what} is recorded as {record['outcome']} {record.get('signal_id', '')}, and was told to be in no record"
        elif record is None:
            yield f"{what} is not in the journal"
        elif (record["outcome"], record.get("signal_id")) != (decision["outcome"], decision.get("signal_id")):
            yield f"{what} is recorded as {record['outcome']} {record.get('signal_id', '')}"
