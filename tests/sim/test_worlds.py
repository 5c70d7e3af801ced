"""The promises hold in worlds full of faults. A failure prints the command that replays it and the smallest plan that fails."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from simulated.__main__ import campaign, report
from simulated.bugs import BUGS
from simulated.plan import plan_of
from simulated.run import run, run_plan
from simulated.shrink import shrink

WORLDS = 2_000
HASHED = 30
HERE = Path(__file__).parent


def test_all_promises_are_kept():
    failed = campaign(0, WORLDS)
    assert not failed, "\n".join(report(verdict, smaller=not number) for number, verdict in enumerate(failed[:5]))


def hashes(seed: str) -> str:
    """The hashes of some histories, in a process of their own."""
    command = [sys.executable, "-m", "simulated", "--hashes", "--seeds", str(HASHED)]
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(HERE)}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_a_seed_is_the_same_history_in_every_process():
    first, second = hashes("1"), hashes("2")
    assert first == second
    assert len({line.split()[1] for line in first.splitlines()}) == HASHED


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name, record_property):
    """Each within 2,000 seeds; most in the first ten, the others from a seed on that is known to find them."""
    tried = 0
    with BUGS[name].planted():
        for seed in BUGS[name].seeds(2_000):
            tried += 1
            verdict = run(seed)
            if verdict.findings:
                break
        else:
            pytest.fail(f"{name} was not found in 2,000 seeds")
    record_property("seeds", tried)
    print(f"{name}: found with seed {seed}, after {tried}: {verdict.findings[0]}")
    assert not run(seed).findings, "the seed finds something without the bug, too"


def test_a_failure_shrinks_and_says_how_to_replay_it():
    with BUGS["exit_swallowed"].planted():
        verdict = next(found for found in map(run, range(100)) if found.findings)
        whole = plan_of(verdict.seed)
        plan = shrink(whole, verdict.findings)
        assert run_plan(plan).findings
        assert len(plan.sends) < len(whole.sends) / 4
        assert f"make sim SEED={verdict.seed} BUG=exit_swallowed" in report(verdict, "exit_swallowed", smaller=False)
