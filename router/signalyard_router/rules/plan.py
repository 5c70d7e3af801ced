"""Progressive delivery: the canary's weight over time, checks between the steps, a step back by itself. Pure.

Each step is a record of the journal; the evidence that a step is judged by is counted from the decisions since its record, so
that a restart finds both again.
"""

import hashlib
import itertools
from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal

import msgspec

from signalyard.words import Outcome, Reason
from signalyard_router.rules.documents import PlanPart
from signalyard_router.rules.units import nanoseconds

State = Literal["running", "done", "back", "interrupted"]

_EDGES_US = tuple(
    sorted({int(base * 10**power) for power in range(2, 8) for base in (1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5, 6.4, 8)})
)
"""Latency is counted in buckets a quarter apart, 0.1 ms to 80 s; a percentile is its bucket's upper edge."""


class Step(msgspec.Struct, frozen=True):
    """``canary`` in slots of 10,000, ``hold`` in nanoseconds."""

    canary: int
    hold: int


class Checks(msgspec.Struct, frozen=True):
    """The thresholds; shares between 0 and 1, latency in microseconds, None for what is not checked."""

    decisions: int
    errors: float | None
    degraded: float | None
    latency_us: int | None
    confidence: float | None
    disagreement: float | None


class Plan(msgspec.Struct, frozen=True):
    """A route's plan for one canary version. ``id`` changes with the plan and with the versions it is for."""

    id: str
    version: str
    steps: tuple[Step, ...]
    checks: Checks


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a plan stands: the step in force since ``at``."""

    plan: str
    step: int
    state: State
    canary: int
    at: int
    why: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """What follows from the evidence: stay, go on, or step back, and why."""

    move: Literal["stay", "advance", "finish", "back"]
    why: str


def share(text: str) -> float:
    """``"5%"`` -> 0.05."""
    return float(text.removesuffix("%")) / 100


def compile_plan(part: PlanPart, stable: str, canary: str) -> Plan:
    """A plan from its document, for these versions. Raises ValueError where the steps do not grow."""
    steps = tuple(Step(round(step.canary * 100), nanoseconds(step.hold)) for step in part.steps)
    for before, after in itertools.pairwise(steps):
        if after.canary <= before.canary:
            raise ValueError(f"the weights must grow, {after.canary / 100:g} follows {before.canary / 100:g}")
    digest = hashlib.sha256(msgspec.json.encode((part, stable, canary), order="sorted")).hexdigest()
    checks = part.checks
    return Plan(
        id=digest[:12],
        version=canary,
        steps=steps,
        checks=Checks(
            decisions=checks.decisions,
            errors=share(checks.errors) if checks.errors else None,
            degraded=share(checks.degraded) if checks.degraded else None,
            latency_us=nanoseconds(checks.latency) // 1000 if checks.latency else None,
            confidence=checks.confidence,
            disagreement=share(checks.disagreement) if checks.disagreement else None,
        ),
    )


class Evidence:
    """What is counted of the canary's decisions since a step began."""

    __slots__ = ("_buckets", "confidence", "confidences", "decisions", "degraded", "errors")

    def __init__(self) -> None:
        self.decisions = 0
        self.errors = 0
        self.degraded = 0
        self.confidence = 0.0
        self.confidences = 0
        self._buckets = [0] * (len(_EDGES_US) + 1)

    def count(
        self,
        outcome: Outcome,
        reason: Reason | None,
        *,
        failover: bool,
        degraded: bool,
        confidence: float | None,
        elapsed_us: int,
    ) -> None:
        """One more decision; a rejected one says nothing of the model."""
        if outcome is Outcome.REJECTED:
            return
        self.decisions += 1
        self.errors += failover or degraded or reason is Reason.ROW_ERROR
        self.degraded += degraded
        if confidence is not None and not failover:
            self.confidence += confidence
            self.confidences += 1
        self._buckets[bisect_left(_EDGES_US, elapsed_us)] += 1

    def latency_us(self, quantile: float) -> int:
        """The upper edge of the bucket in which the quantile lies; 0 without decisions."""
        wanted, seen = quantile * self.decisions, 0
        for index, number in enumerate(self._buckets):
            seen += number
            if number and seen >= wanted:
                return _EDGES_US[min(index, len(_EDGES_US) - 1)]
        return 0

    def summary(self) -> dict[str, float]:
        """The evidence as a record carries it."""
        return {
            "decisions": self.decisions,
            "errors": self.errors,
            "degraded": self.degraded,
            "latency_p99_us": self.latency_us(0.99),
            "confidence": round(self.confidence / self.confidences, 6) if self.confidences else 0.0,
        }


def judge(plan: Plan, progress: Progress, evidence: Evidence, now: int, disagreement: float | None) -> Verdict:
    """What to do with a running plan. ``disagreement`` is a shadow's of the same version, None while it has too little."""
    checks = plan.checks
    if evidence.decisions < checks.decisions:
        return Verdict("stay", f"{evidence.decisions} of {checks.decisions} decisions")
    objections = list(_objections(checks, evidence, disagreement))
    if objections:
        return Verdict("back", "; ".join(objections))
    if checks.disagreement is not None and disagreement is None:
        return Verdict("stay", "the shadow has compared too little")
    left = progress.at + plan.steps[progress.step].hold - now
    if progress.step + 1 == len(plan.steps):
        return Verdict("finish", "the last step's checks are good") if left <= 0 else _hold(left)
    return Verdict("advance", "the checks are good") if left <= 0 else _hold(left)


def _hold(left: int) -> Verdict:
    return Verdict("stay", f"held for another {left / 1e9:.0f} s")


def _objections(checks: Checks, evidence: Evidence, disagreement: float | None) -> Sequence[str]:
    told: list[str] = []
    for name, most, number in (
        ("errors", checks.errors, evidence.errors),
        ("degraded", checks.degraded, evidence.degraded),
    ):
        if most is not None and number > most * evidence.decisions:
            told.append(f"{name} are {number} of {evidence.decisions}, at most {most:.2%} may be")
    if checks.latency_us is not None and (latency := evidence.latency_us(0.99)) > checks.latency_us:
        told.append(f"the 99th percentile of latency is {latency} us, at most {checks.latency_us} may be")
    if checks.confidence is not None and evidence.confidences:
        mean = evidence.confidence / evidence.confidences
        if mean < checks.confidence:
            told.append(f"the mean confidence is {mean:.3f}, at least {checks.confidence:g} must be")
    if checks.disagreement is not None and disagreement is not None and disagreement > checks.disagreement:
        told.append(f"the shadow disagrees on {disagreement:.2%}, at most {checks.disagreement:.2%} may be")
    return told
