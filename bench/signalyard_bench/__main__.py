"""``make bench``."""

import argparse
import gc
import os
import sys
from pathlib import Path

import msgspec
import uvloop

from signalyard_bench.inline import inline_decision, inline_row
from signalyard_bench.journals import journals
from signalyard_bench.report import Machine, Report, table
from signalyard_bench.rounds import CLIENT, SERVER, Row, Setting
from signalyard_bench.runtime import RUNTIME
from signalyard_bench.scenarios import SERVED, soak
from signalyard_bench.servers import kept_awake
from signalyard_bench.wires import wires

SCENARIOS = SERVED | RUNTIME | {"inline": inline_row, "inline-decision": inline_decision}
"""Those of a plain run; `soak` takes too long."""

_ALL = SCENARIOS | {"wires": wires, "journals": journals}
"""Those, and what has a target of its own."""


async def _run(setting: Setting, names: list[str], long: bool) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        print(f"bench: {name}", file=sys.stderr, flush=True)
        rows += await _ALL[name](setting)
    if long:
        print("bench: soak", file=sys.stderr, flush=True)
        rows += await soak(setting)
    return rows


def main() -> None:
    """Measure, print the table, keep the samples' figures in ``.state/bench``."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=main.__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="three rounds of a second: good for a look, not for a figure"
    )
    parser.add_argument("--only", action="append", choices=sorted(_ALL), help="this scenario; may be repeated")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0, help="of each run within a round")
    parser.add_argument("--awake-cores", action="store_true", help="let no core sleep, as idle=poll does")
    parser.add_argument("--soak", action="store_true", help="ten minutes at half capacity, instead of the others")
    parser.add_argument("--soak-seconds", type=float, default=600.0)
    given = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        parser.error("it takes two cores: one for the server, one for the client")
    root = Path.cwd()
    setting = Setting(
        root,
        root / ".state" / "bench" / "work",
        given.rounds or (3 if given.quick else 5),
        given.seconds or (1.0 if given.quick else 4.0),
        given.soak_seconds,
    )
    os.sched_setaffinity(0, {CLIENT})
    gc.disable()  # a pause of the client would look like one of the server
    machine = Machine.this()
    names = given.only or ([] if given.soak else list(SCENARIOS))
    with kept_awake((SERVER, CLIENT) if given.awake_cores else (), setting.work):
        rows = uvloop.run(_run(setting, names, given.soak))
    machine = msgspec.structs.replace(machine, load_after=os.getloadavg()[0])
    command = "make bench" + (f' ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else "")
    report = Report(command, machine, setting.rounds, setting.seconds, rows)
    target = root / ".state" / "bench" / ("soak.json" if given.soak else "quick.json" if given.quick else "bench.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    print(f"\n{command}\n{machine}\n\n{table(rows)}\n\n{target}")


if __name__ == "__main__":
    main()
