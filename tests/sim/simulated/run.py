"""From a seed to a verdict."""

import gc
import traceback
from dataclasses import dataclass

from signalyard_router.testing.sim.loop import DeadlockError
from simulated.judge import judge
from simulated.plan import Plan, plan_of
from simulated.play import play


@dataclass(frozen=True)
class Verdict:
    """What was found of a seed, and the hash of its history; empty where there was none."""

    seed: int
    findings: tuple[str, ...]
    hash: str = ""


def run(seed: int) -> Verdict:
    """Play the world of a seed and judge it."""
    return run_plan(plan_of(seed))


def run_plan(plan: Plan) -> Verdict:
    """Play a plan and judge it. What breaks the play itself is a finding as well."""
    try:
        history = play(plan)
    except DeadlockError as exc:
        return Verdict(plan.seed, (f"deadlock: {exc}",))
    except TimeoutError:
        return Verdict(plan.seed, ("deadlock: the world did not come to its end",))
    try:
        findings = tuple(judge(plan, history))
    except Exception:  # noqa: BLE001 -- a history that cannot be read is one that is wrong
        findings = (f"unreadable: {traceback.format_exc(limit=-3)}",)
    return Verdict(plan.seed, findings, history.hash())


def run_many(seeds: range) -> list[Verdict]:
    """Verdicts in order. What a world leaves behind is collected between worlds, not in them."""
    verdicts = []
    for seed in seeds:
        verdicts.append(run(seed))
        if seed % 20 == 0:
            gc.collect()
    return verdicts


def settle_memory() -> None:
    """Take what is loaded out of the collector's sight; a process that runs many worlds calls it once."""
    gc.collect()
    gc.freeze()
    gc.disable()
