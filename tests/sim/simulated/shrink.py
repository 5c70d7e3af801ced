"""The smallest plan that still fails in the same way."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from simulated.judge import kind
from simulated.plan import Plan
from simulated.run import run_plan

_T = TypeVar("_T")

_PLAYS = 400
"""How often a plan is played at most."""

_STILL = {"split": 0, "slow": 0, "reset": 0, "vanish": 0, "segment_bytes": 1 << 28, "remember": 65_536}


def shrink(plan: Plan, findings: Sequence[str]) -> Plan:
    """Drop faults, requests and rows while a finding of one of the kinds stays."""
    kinds = {kind(finding) for finding in findings}
    left = [_PLAYS]

    def fails(smaller: Plan) -> bool:
        left[0] -= 1
        return left[0] >= 0 and any(kind(finding) in kinds for finding in run_plan(smaller).findings)

    def attempt(current: Plan, **change: Any) -> Plan:
        smaller = replace(current, **change)
        return smaller if fails(smaller) else current

    plan = replace(plan, faults=_fewer(plan.faults, lambda faults: fails(replace(plan, faults=tuple(faults)))))
    for name, value in _STILL.items():
        if getattr(plan, name) != value:
            plan = attempt(plan, **{name: value})
    plan = replace(plan, sends=_fewer(plan.sends, lambda sends: fails(replace(plan, sends=tuple(sends)))))
    plan = replace(plan, final=_fewer(plan.final, lambda final: fails(replace(plan, final=tuple(final)))))
    for index, send in enumerate(plan.sends):
        for snap in send.snaps:
            now = plan.sends[index]
            snaps = tuple(other for other in now.snaps if other is not snap)
            if snaps:
                sends = (*plan.sends[:index], replace(now, snaps=snaps), *plan.sends[index + 1 :])
                plan = attempt(plan, sends=sends)
    return replace(plan, faults=_fewer(plan.faults, lambda faults: fails(replace(plan, faults=tuple(faults)))))


def _fewer(items: Sequence[_T], fails: Callable[[Sequence[_T]], bool]) -> tuple[_T, ...]:
    """Leave out halves, quarters and so on, as long as it still fails."""
    kept = list(items)
    size = max(1, (len(kept) + 1) // 2)
    while kept:
        start = 0
        while start < len(kept):
            smaller = kept[:start] + kept[start + size :]
            if fails(smaller):
                kept = smaller
            else:
                start += size
        if size == 1:
            break
        size = max(1, size // 2)
    return tuple(kept)


def shown(plan: Plan) -> str:
    """A plan for people: what is left of it, a line each."""
    lines = [
        f"seed {plan.seed}: {'HTTP' if plan.http else 'in process'}, durability {plan.durability}, sync {plan.sync_ms} ms,"
        f" segments of {plan.segment_bytes}, remembers {plan.remember}, uncalibrated "
        f"{[name for name, good in plan.calibrated.items() if not good]}",
        f"weather: split {plan.split}, slow {plan.slow}, reset {plan.reset}, vanish {plan.vanish}",
    ]
    lines += [f"route {route['metadata']['name']}: {route['spec']}" for route in plan.stages[0]]
    lines += [f"group, stage {number}: {group['spec']}" for number, stage in enumerate(plan.groups) for group in stage]
    lines += [str(item) for item in sorted((*plan.faults, *plan.sends), key=lambda item: item.at)]
    lines += [f"at last: {send}" for send in plan.final]
    return "\n".join(f"  {line}" for line in lines)
