import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard.words import Outcome, Reason
from signalyard_router.rules.documents import PlanChecks, PlanPart, PlanStep
from signalyard_router.rules.plan import Evidence, Progress, compile_plan, judge
from signalyard_router.rules.units import MINUTE


def plan(**checks):
    steps = (PlanStep(canary=5, hold="10m"), PlanStep(canary=50, hold="10m"), PlanStep(canary=100, hold="1m"))
    return compile_plan(PlanPart(steps=steps, checks=PlanChecks(**{"decisions": 10} | checks)), "7", "8")


def evidence(decisions=10, errors=0, degraded=0, confidence=0.7, elapsed_us=1_000):
    counted = Evidence()
    for number in range(decisions):
        bad = number < degraded
        counted.count(
            Outcome.ABSTAINED if bad else Outcome.EMITTED,
            Reason.NO_ANSWER if bad else None,
            failover=not bad and number < errors,
            degraded=bad,
            confidence=confidence,
            elapsed_us=elapsed_us,
        )
    return counted


def at(step=0, since=0):
    one = plan()
    return Progress(plan=one.id, step=step, state="running", canary=one.steps[step].canary, at=since)


@pytest.mark.parametrize(
    ("checks", "counted", "step", "now", "disagreement", "move", "why"),
    [
        ({}, evidence(9), 0, 20 * MINUTE, None, "stay", "9 of 10 decisions"),
        ({}, evidence(10), 0, 10 * MINUTE - 1, None, "stay", "held"),
        ({}, evidence(10), 0, 10 * MINUTE, None, "advance", "good"),
        ({}, evidence(10), 2, MINUTE, None, "finish", "good"),
        ({}, evidence(100, errors=2), 0, 1, None, "back", "errors are 2 of 100, at most 1.00% may be"),
        ({}, evidence(100, errors=1), 0, 10 * MINUTE, None, "advance", ""),
        ({"errors": None}, evidence(10, degraded=1), 0, 1, None, "back", "degraded are 1 of 10"),
        ({"errors": None, "degraded": None}, evidence(10, degraded=9), 0, 10 * MINUTE, None, "advance", ""),
        ({"latency": "50ms"}, evidence(elapsed_us=60_000), 0, 1, None, "back", "99th percentile of latency"),
        ({"latency": "50ms"}, evidence(elapsed_us=40_000), 0, 10 * MINUTE, None, "advance", ""),
        ({"confidence": 0.8}, evidence(), 0, 1, None, "back", "mean confidence is 0.700"),
        ({"disagreement": "10%"}, evidence(), 0, 10 * MINUTE, None, "stay", "compared too little"),
        ({"disagreement": "10%"}, evidence(), 0, 1, 0.11, "back", "disagrees on 11.00%"),
        ({"disagreement": "10%"}, evidence(), 0, 10 * MINUTE, 0.1, "advance", ""),
    ],
)
def test_what_follows_from_the_evidence(checks, counted, step, now, disagreement, move, why):
    verdict = judge(plan(**checks), at(step), counted, now, disagreement)
    assert verdict.move == move
    assert why in verdict.why


def test_a_rejected_row_says_nothing_of_the_model():
    counted = Evidence()
    counted.count(Outcome.REJECTED, None, failover=False, degraded=False, confidence=None, elapsed_us=1)
    assert counted.decisions == 0


def test_another_version_is_another_plan():
    part = PlanPart(steps=(PlanStep(canary=5),))
    assert compile_plan(part, "7", "8").id != compile_plan(part, "7", "9").id
    assert compile_plan(part, "7", "8").id == compile_plan(part, "7", "8").id


def test_weights_must_grow():
    with pytest.raises(ValueError, match="5 follows 5"):
        compile_plan(PlanPart(steps=(PlanStep(canary=5), PlanStep(canary=5))), "7", "8")


@given(st.lists(st.integers(1, 70_000_000), min_size=1, max_size=300), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_right_to_a_quarter(latencies, quantile):
    counted = Evidence()
    for latency in latencies:
        counted.count(Outcome.EMITTED, None, failover=False, degraded=False, confidence=None, elapsed_us=latency)
    wanted = sorted(latencies)[max(0, -int(-quantile * len(latencies) // 1) - 1)]
    assert wanted <= counted.latency_us(quantile) <= max(100, wanted * 1.3)
