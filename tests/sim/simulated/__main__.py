"""Runs worlds: ``make sim SEEDS=10000 FROM=0``, or one: ``make sim SEED=123``."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext

from simulated.bugs import BUGS
from simulated.judge import kind
from simulated.plan import plan_of
from simulated.run import Verdict, run, run_many, settle_memory
from simulated.shrink import shown, shrink

_CHUNK = 20
_SHOWN = 10


def campaign(first: int, count: int, processes: int = 2, tell: Callable[[str], None] = print) -> list[Verdict]:
    """Run ``count`` worlds from a seed on; the verdicts of those that failed."""
    failed: list[Verdict] = []
    began = told = time.monotonic()
    done = 0
    chunks = [range(start, min(start + _CHUNK, first + count)) for start in range(first, first + count, _CHUNK)]
    with ProcessPoolExecutor(processes, initializer=settle_memory) as pool:
        for verdicts in pool.map(run_many, chunks):
            done += len(verdicts)
            failed += [verdict for verdict in verdicts if verdict.findings]
            now = time.monotonic()
            if now - told > 5 or done == count:
                told = now
                tell(f"{done} worlds, {60 * done / (now - began):.0f} a minute, {len(failed)} failed")
    return failed


def report(verdict: Verdict, bug: str = "", *, smaller: bool = True) -> str:
    """What was found of a seed, the command that replays it, and the smallest plan that still fails."""
    lines = [f"seed {verdict.seed}: {len(verdict.findings)} findings"]
    lines += [f"  {text}" for text in verdict.findings[:_SHOWN]]
    lines.append(f"replay: make sim SEED={verdict.seed}" + (f" BUG={bug}" if bug else ""))
    if smaller:
        plan = shrink(plan_of(verdict.seed), verdict.findings)
        lines.append("the smallest plan that still fails like this:")
        lines.append(shown(plan))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="one world, with its findings and the smallest plan that still fails")
    parser.add_argument("--seeds", type=int, default=1000, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant a bug")
    parser.add_argument("--hashes", action="store_true", help="print the hash of every history and nothing else")
    arguments = parser.parse_args()
    with BUGS[arguments.bug].planted() if arguments.bug else nullcontext():
        if arguments.hashes:
            for seed in range(arguments.first, arguments.first + arguments.seeds):
                print(seed, run(seed).hash)
            return 0
        if arguments.seed is not None:
            verdict = run(arguments.seed)
            print(
                report(verdict, arguments.bug or "") if verdict.findings else f"seed {verdict.seed}: all promises kept"
            )
            return bool(verdict.findings)
        failed = campaign(arguments.first, arguments.seeds, arguments.processes)
        kinds = Counter(kind(finding) for verdict in failed for finding in verdict.findings)
        for number, verdict in enumerate(failed[:_SHOWN]):
            print(report(verdict, arguments.bug or "", smaller=number == 0))
        if failed:
            print("findings:", dict(kinds))
            print("failed seeds:", *(verdict.seed for verdict in failed[:100]))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
