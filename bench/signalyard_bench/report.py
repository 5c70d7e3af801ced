"""The table, and the machine that it was measured on."""

import os
import platform
from pathlib import Path
from statistics import median

import msgspec

from signalyard_bench.rounds import Row


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    load_before: float
    load_after: float = 0.0

    @classmethod
    def this(cls) -> "Machine":
        """This one, now."""
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
        total = int(Path("/proc/meminfo").read_text().split()[1])
        return cls(
            processor,
            os.cpu_count() or 0,
            round(total / 2**20, 1),
            platform.release(),
            platform.python_version(),
            os.getloadavg()[0],
        )

    def __str__(self) -> str:
        return (
            f"{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB, Linux {self.kernel}, Python {self.python}; "
            f"load {self.load_before:.1f} before, {self.load_after:.1f} after"
        )


class Report(msgspec.Struct, frozen=True):
    """A whole run."""

    command: str
    machine: Machine
    rounds: int
    seconds: float
    rows: list[Row]


def table(rows: list[Row]) -> str:
    """Rows as Markdown."""
    lines = ["| scenario | measured | ours | compared with | theirs | ratio (lowest-highest) | target | reached |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        reached = "" if not row.target else "yes" if row.reached else "no"
        first = [row.scenario, row.what, _figure(row.ours, row.unit)]
        if not row.theirs:
            lines.append(_line(*first, "", "", "", row.target, reached))
        for name, figures in row.theirs.items():
            lines.append(_line(*first, name, _figure(figures, row.unit), str(row.ratios[name]), row.target, reached))
            first, reached = ["", "", ""], ""
            row = msgspec.structs.replace(row, target="")
    notes = [f"{row.scenario}: {row.note}" for row in rows if row.note]
    return "\n".join(lines + ([""] + [f"- {note}" for note in notes] if notes else []))


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _figure(values: list[float], unit: str) -> str:
    middle = median(values)
    text = f"{middle:,.0f}" if middle >= 1000 else f"{middle:.1f}" if middle >= 10 else f"{middle:.3f}"
    if unit == "%":
        text = f"{middle:.2f}"
    return f"{text} {unit}"
