"""A second reader of the journal, which shares no code with the router: it trusts the bytes and the written rules alone.

It reads the segments, follows the chain of hashes, and plays the rules of a decision over the records from the first to the
last. Whatever does not agree is a finding; it corrects nothing and stops at nothing but what cannot be read.
"""

import hashlib
import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_GENESIS = "0" * 64
_MINUTE_NS = 60 * 1_000_000_000
_UNPLACED = ("out_of_order", "superseded", "past_commit_by")
_UNMAPPED = ("no_answer", "row_error")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the audited route promises. Times in nanoseconds, ``deadline_us`` in microseconds; limits count a minute.

    ``tracks`` maps a track that the split assigns to its version, ``standbys`` are the versions that stand in.
    """

    window: int
    valid_for: int
    deadline_us: int
    long_enter: float
    long_exit: float
    short_enter: float
    short_exit: float
    min_confidence: float
    signals: int
    flips: int
    tracks: Mapping[str, str]
    standbys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """A decision as the caller got it."""

    symbol: str
    ts_event: int
    sequence: int
    proposal_id: str
    outcome: str
    reason: str | None
    signal_id: str | None
    duplicate_of: str | None


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that does not hold, and the record (``seq``, or -1 for none) where it does not."""

    rule: str
    seq: int
    text: str


@dataclass(slots=True)
class Audit:
    """What the audit saw. ``head`` is the hash of the last line: whoever keeps it can prove the journal later.

    ``answered_by`` counts the scored decisions a track and version, ``late`` those past the route's deadline.
    """

    segments: int = 0
    records: int = 0
    decisions: int = 0
    starts: int = 0
    late: int = 0
    worst_elapsed_us: int = 0
    head: str = _GENESIS
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    answered_by: Counter[str] = field(default_factory=Counter)
    failover: int = 0
    degraded: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every rule held."""
        return not self.findings

    def by_rule(self) -> dict[str, int]:
        """How many findings each rule has."""
        return dict(Counter(finding.rule for finding in self.findings))


def audit(folder: Path, rules: Rules, answered: Iterable[Answered]) -> Audit:
    """Read the journal in ``folder`` and hold it against ``rules`` and against what the caller was answered."""
    result = Audit()
    decisions: list[dict[str, Any]] = []
    for record in _chain(folder, result):
        if record.get("kind") == "decision":
            decisions.append(record)
        elif record.get("kind") == "start":
            result.starts += 1
    result.decisions = len(decisions)
    checker = _Checker(rules, result)
    for record in decisions:
        try:
            checker.check(record)
        except (KeyError, TypeError, ValueError) as exc:
            result.findings.append(Finding("form", int(record["seq"]), f"not a decision's record: {exc!r}"))
    _compare(decisions, answered, result)
    return result


def _chain(folder: Path, result: Audit) -> Iterator[dict[str, Any]]:
    """The records in order, as far as they can be read."""
    expected, time = 1, 0
    for segment in sorted(folder.glob("journal-*.jsonl")):
        result.segments += 1
        data = segment.read_bytes()
        lines = data.split(b"\n")
        if lines.pop():
            result.findings.append(Finding("chain", expected, f"{segment.name}: the last line is torn"))
        for number, line in enumerate(lines, 1):
            place = f"{segment.name} line {number}"
            try:
                record = json.loads(line)
                seq, stamp, prev = int(record["seq"]), int(record["t"]), record["prev"]
            except (ValueError, KeyError, TypeError) as exc:
                result.findings.append(Finding("chain", expected, f"{place}: not a record: {exc!r}"))
                result.head = hashlib.sha256(line).hexdigest()
                continue
            if seq != expected:
                result.findings.append(Finding("chain", seq, f"{place}: record {expected} should be here, {seq} is"))
            if prev != result.head:
                result.findings.append(Finding("chain", seq, f"{place}: prev is not the hash of the line before"))
            if stamp < time:
                result.findings.append(Finding("time", seq, f"{place}: journal time steps back by {time - stamp} ns"))
            expected, time = seq + 1, stamp
            result.head = hashlib.sha256(line).hexdigest()
            result.records += 1
            yield record
    if result.records == 0:
        result.findings.append(Finding("chain", -1, f"no journal in {folder}"))


@dataclass(slots=True)
class _Instrument:
    """What the rules remember of one instrument on one route."""

    newest: tuple[int, int] = (-1, -1)
    held: str | None = None
    last: dict[str, Any] | None = None
    side: str | None = None
    flips: deque[int] = field(default_factory=deque)
    track: str | None = None


class _Checker:
    """Plays the rules over the decisions, one after the other."""

    def __init__(self, rules: Rules, result: Audit) -> None:
        self._rules = rules
        self._result = result
        self._instruments: dict[tuple[str, str], _Instrument] = defaultdict(_Instrument)
        self._proposals: dict[str, int] = {}
        self._signals: dict[str, int] = {}
        self._emissions: dict[str, deque[int]] = defaultdict(deque)

    def check(self, record: Mapping[str, Any]) -> None:
        self._count(record)
        if record["outcome"] == "rejected":
            return
        self._identity(record)
        state = self._instruments[(record.get("route", ""), record["symbol"])]
        if not self._order(record, state):
            return
        self._mapping(record, state)
        self._provenance(record, state)
        if record["outcome"] == "emitted":
            self._emission(record, state)
        elif record.get("reason") == "duplicate":
            self._duplicate(record, state)
        if record.get("reason") not in _UNMAPPED and not record.get("reduce_only"):
            state.held = record.get("direction")

    def _count(self, record: Mapping[str, Any]) -> None:
        result, elapsed = self._result, int(record.get("elapsed_us", 0))
        result.worst_elapsed_us = max(result.worst_elapsed_us, elapsed)
        result.late += elapsed > self._rules.deadline_us
        result.outcomes[record["outcome"]] += 1
        if record.get("reason"):
            result.reasons[record["reason"]] += 1
        if record.get("version"):
            result.answered_by[f"{record.get('track')} {record['version']}"] += 1
        result.failover += bool(record.get("failover"))
        result.degraded += bool(record.get("degraded"))

    def _find(self, rule: str, record: Mapping[str, Any], text: str) -> None:
        self._result.findings.append(Finding(rule, int(record["seq"]), f"{record['symbol']}: {text}"))

    def _identity(self, record: Mapping[str, Any]) -> None:
        proposal = record["proposal_id"]
        if proposal in self._proposals:
            self._find("idempotence", record, f"proposal {proposal} was settled before, in {self._proposals[proposal]}")
        self._proposals[proposal] = int(record["seq"])

    def _order(self, record: Mapping[str, Any], state: _Instrument) -> bool:
        place = (int(record["ts_event"]), int(record.get("sequence", 0)))
        reason = record.get("reason")
        if reason in _UNPLACED:
            if reason == "out_of_order" and place >= state.newest:
                self._find("order", record, "refused as out of order, and is not older than what came before")
            return False
        if place < state.newest:
            self._find("order", record, f"{place} was admitted after {state.newest}")
        state.newest = max(place, state.newest)
        return True

    def _mapping(self, record: Mapping[str, Any], state: _Instrument) -> None:
        score, direction = record.get("score"), record.get("direction")
        if score is None:
            if direction is not None:
                self._find("mapping", record, f"{direction} without a score")
            return
        held = record.get("held")
        if held != state.held:
            self._find("hysteresis", record, f"held is {held}, the record before left {state.held}")
        expected = self._direction(score, held)
        if direction != expected:
            self._find("mapping", record, f"score {score} with {held} held means {expected}, not {direction}")

    def _direction(self, score: float, held: str | None) -> str | None:
        rules = self._rules
        if (held == "long" and score >= rules.long_exit) or score >= rules.long_enter:
            return "long"
        if (held == "short" and score <= rules.short_exit) or score <= rules.short_enter:
            return "short"
        return None

    def _provenance(self, record: Mapping[str, Any], state: _Instrument) -> None:
        version, track = record.get("version"), record.get("track")
        if (record.get("reason") == "no_answer") != bool(record.get("degraded")):
            self._find(
                "provenance", record, f"degraded is {bool(record.get('degraded'))}, reason {record.get('reason')}"
            )
        if version is None:
            return
        stands_in = version in self._rules.standbys
        if not stands_in and self._rules.tracks.get(track or "") != version:
            self._find("provenance", record, f"version {version} answered as track {track}")
        if stands_in != bool(record.get("failover")):
            self._find("provenance", record, f"version {version}, and failover is {bool(record.get('failover'))}")
        if not record.get("digest"):
            self._find("provenance", record, "a version without a digest")
        if not stands_in:
            if state.track not in (None, track):
                self._find("split", record, f"moved from {state.track} to {track}")
            state.track = track

    def _emission(self, record: Mapping[str, Any], state: _Instrument) -> None:
        rules, now, direction, last = self._rules, int(record["t"]), record["direction"], state.last
        reduces = self._reduces(record, last)
        if reduces != bool(record.get("reduces")):
            self._find("exits", record, f"reduces is {bool(record.get('reduces'))} and should be {reduces}")
        if last is not None and last["direction"] == direction and now < int(last["t"]) + rules.window:
            self._find(
                "duplicates", record, f"{direction} repeats {last['signal_id']} {now - int(last['t'])} ns after it"
            )
        confidence = record.get("confidence")
        if not reduces and (confidence is None or confidence < rules.min_confidence):
            self._find("confidence", record, f"emitted with a confidence of {confidence}")
        self._numbering(record, last)
        if int(record["ts_expire"]) - now != rules.valid_for:
            self._find("expiry", record, f"lives for {int(record['ts_expire']) - now} ns")
        emissions = self._emissions[record.get("route", "")]
        _forget(emissions, now - _MINUTE_NS)
        if not reduces and len(emissions) >= rules.signals:
            self._find("limits", record, f"more than {rules.signals} signals within a minute")
        emissions.append(now)
        if direction != "flat":
            if state.side not in (None, direction):
                _forget(state.flips, now - _MINUTE_NS)
                if len(state.flips) >= rules.flips:
                    self._find("limits", record, f"more than {rules.flips} flips within a minute")
                state.flips.append(now)
            state.side = direction
        state.last = dict(record)

    def _reduces(self, record: Mapping[str, Any], last: Mapping[str, Any] | None) -> bool:
        if record["direction"] == "flat":
            return True
        if last is None or last["direction"] != record["direction"]:
            return False
        position, before = record.get("position"), last.get("position")
        return position is not None and before is not None and abs(position) < abs(before)

    def _numbering(self, record: Mapping[str, Any], last: Mapping[str, Any] | None) -> None:
        signal, seq, prev = record.get("signal_id"), int(record["signal_seq"]), int(record.get("prev_seq", 0))
        if not signal:
            self._find("numbering", record, "emitted without a signal_id")
        elif signal in self._signals:
            self._find("numbering", record, f"signal {signal} was emitted before, in {self._signals[signal]}")
        else:
            self._signals[signal] = int(record["seq"])
        before = int(last["signal_seq"]) if last is not None else 0
        restarted = last is not None and record.get("epoch") != last.get("epoch")
        allowed = (0, before) if restarted else (before,)
        if seq != prev + 1 or prev not in allowed:
            self._find("numbering", record, f"signal {seq} after {prev}, the one before was {before}")

    def _duplicate(self, record: Mapping[str, Any], state: _Instrument) -> None:
        last, now = state.last, int(record["t"])
        if last is None or last["direction"] != record.get("direction") or now >= int(last["t"]) + self._rules.window:
            self._find("duplicates", record, "held back as a duplicate of nothing")
        elif record.get("duplicate_of") != last["signal_id"]:
            self._find("duplicates", record, f"names {record.get('duplicate_of')}, and repeats {last['signal_id']}")


def _forget(times: deque[int], until: int) -> None:
    while times and times[0] <= until:
        times.popleft()


def _compare(decisions: list[dict[str, Any]], answered: Iterable[Answered], result: Audit) -> None:
    """What the caller was told against what is recorded."""

    def find(seq: int, text: str) -> None:
        result.findings.append(Finding("recorded", seq, text))

    recorded = {str(record.get("proposal_id")): record for record in decisions}
    told: set[str] = set()
    for answer in answered:
        told.add(answer.proposal_id)
        record = recorded.get(answer.proposal_id)
        if record is None:
            find(-1, f"{answer.symbol} at {answer.ts_event}: answered, and not in the journal")
            continue
        for name in ("symbol", "ts_event", "outcome", "reason", "signal_id", "duplicate_of"):
            if record.get(name) != getattr(answer, name):
                text = f"{answer.symbol}: {name} is {record.get(name)} here and was answered as {getattr(answer, name)}"
                find(int(record["seq"]), text)
        if int(record.get("sequence", 0)) != answer.sequence:
            find(int(record["seq"]), f"{answer.symbol}: the sequence is not the one that was sent")
    for proposal, record in recorded.items():
        if proposal not in told:
            find(int(record["seq"]), f"{record.get('symbol')}: in the journal, and nobody was told")
