"""A second opinion held against the live decisions: a shadow's scores, or what a strategy outside the router did."""

from enum import StrEnum

import msgspec

from signalyard.words import Direction
from signalyard_router.rules.filters import objection
from signalyard_router.rules.mapping import direction_of
from signalyard_router.rules.route import GateRules
from signalyard_router.rules.tally import Excluded, Windows

_INSTRUMENTS = 65_536
"""Instruments of a comparison whose memory is kept; beyond it the memory starts anew."""


class Kind(StrEnum):
    """Where a second opinion comes from."""

    SHADOW = "shadow"
    BASELINE = "baseline"


class Live(msgspec.Struct, frozen=True, gc=False):  # it holds nothing that could lead back to it, and many are kept
    """One live decision, after mapping and before filters and gate; ``direction`` is None where the score means none.

    ``at`` is the journal's time, ``held`` what hysteresis started from. ``excluded`` says why there is nothing to compare with.
    """

    symbol: str
    ts_event: int
    at: int
    route: str = ""
    proposal_id: str = ""
    direction: Direction | None = None
    held: Direction | None = None
    score: float | None = None
    confidence: float | None = None
    excluded: Excluded | None = None


class Pair(msgspec.Struct, frozen=True):
    """A live decision and the other side's, each with whether it would have been a signal after its own dedupe window."""

    live: Live
    direction: Direction | None
    score: float | None
    confidence: float | None
    live_signal: bool
    signal: bool


class Emitter(msgspec.Struct):
    """The filters and the dedupe window alone, for signals that are only counted: no limits, no latches, no ladder."""

    direction: Direction | None = None
    at: int = 0

    def emits(self, direction: Direction | None, confidence: float | None, at: int, rules: GateRules) -> bool:
        """Whether a direction at journal time ``at`` would have left."""
        if direction is None:
            return False
        exempt = direction is Direction.FLAT and not rules.filter_exits
        if rules.filters is not None and not exempt and objection(direction, confidence, rules.filters) is not None:
            return False
        if direction is self.direction and at < self.at + rules.window:
            return False
        self.direction, self.at = direction, at
        return True


class _Memory(msgspec.Struct):
    """What is remembered of one instrument: what the other side's mapping holds, and the two last signals."""

    held: Direction | None
    live: Emitter
    other: Emitter


class Comparison:
    """One second opinion on one route. ``rules`` are the route's, and may be replaced when its document changes."""

    def __init__(self, route: str, kind: Kind, name: str, rules: GateRules) -> None:
        self.route = route
        self.kind = kind
        self.name = name
        self.rules = rules
        self.windows = Windows()
        self._memories: dict[str, _Memory] = {}

    def exclude(self, reason: Excluded, now: int, count: int = 1) -> None:
        """Count snapshots that make no pair."""
        self.windows.at(now).exclude(reason, count)

    def scored(self, live: Live, score: float, confidence: float | None, now: int) -> Pair | None:
        """A shadow answered. Its direction is found here, by the route's mapping and the shadow's own hysteresis.

        The answers of an instrument must come in the order in which its snapshots were decided. None where the live side has
        nothing to compare with; the shadow's memory moves on all the same.
        """
        memory = self._memory(live)
        mapping = self.rules.mapping
        direction = direction_of(score, memory.held, mapping) if mapping is not None else None
        memory.held = direction
        return self._pair(memory, live, direction, score, confidence, now)

    def observed(self, live: Live, direction: Direction | None, now: int) -> Pair | None:
        """A strategy outside the router did ``direction``, or nothing."""
        return self._pair(self._memory(live), live, direction, None, None, now)

    def _pair(
        self,
        memory: _Memory,
        live: Live,
        direction: Direction | None,
        score: float | None,
        confidence: float | None,
        now: int,
    ) -> Pair | None:
        tally = self.windows.at(now)
        if live.excluded is not None:
            tally.exclude(live.excluded)
            return None
        tally.pair(live.direction, direction)
        if score is not None and live.score is not None:
            tally.score.note(score - live.score)
        if confidence is not None and live.confidence is not None:
            tally.confidence.note(confidence - live.confidence)
        rules = self.rules
        live_signal = memory.live.emits(live.direction, live.confidence, live.at, rules)
        if self.kind is Kind.BASELINE:  # it has passed its own filters already, whatever they were
            rules = msgspec.structs.replace(rules, filters=None)
        signal = memory.other.emits(direction, confidence, live.at, rules)
        tally.signals[0] += live_signal
        tally.signals[1] += signal
        return Pair(live, direction, score, confidence, live_signal, signal)

    def _memory(self, live: Live) -> _Memory:
        memory = self._memories.get(live.symbol)
        if memory is None:
            if len(self._memories) >= _INSTRUMENTS:
                self._memories.clear()
            # It begins where a version begins that takes an instrument over: with what the live mapping holds.
            memory = self._memories[live.symbol] = _Memory(live.held, Emitter(), Emitter())
        return memory
