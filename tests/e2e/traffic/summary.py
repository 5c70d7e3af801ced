"""The table at the end: a line a scenario."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from traffic.account import Account

_TITLES = ("scenario", "requests", "failures", "duplicates", "lost", "late", "slowest", "time")


@dataclass(frozen=True)
class Entry:
    """``seconds`` is the scenario's whole time; without an ``account`` it had no load."""

    scenario: str
    seconds: float
    passed: bool
    account: Account | None = None

    def cells(self) -> tuple[str, ...]:
        """As the table shows them."""
        name = self.scenario if self.passed else f"{self.scenario} (FAILED)"
        if self.account is None:
            return (name, *["-"] * 6, f"{self.seconds:.0f} s")
        one = self.account
        counts = (one.requests, one.failures, len(one.duplicates), len(one.lost), one.late)
        return (name, *map(str, counts), f"{one.slowest_us / 1000:.1f} ms", f"{self.seconds:.0f} s")


@dataclass
class Summary:
    """Filled by the scenarios, shown and written once at the end."""

    scenarios: list[Entry] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """More that was measured, by name: sizes, memory."""

    def add(self, written: bytes) -> None:
        """What another process wrote (:meth:`written`) of its scenarios. Raises msgspec.ValidationError."""
        other = msgspec.json.decode(written, type=Summary, dec_hook=lambda kind, value: kind(value))
        self.scenarios += other.scenarios
        self.notes |= other.notes

    def written(self) -> bytes:
        """As JSON."""
        return msgspec.json.format(msgspec.json.encode(self)) + b"\n"

    def table(self) -> str:
        """Columns of equal width; scenarios in the order of their names."""
        rows = [_TITLES, *(entry.cells() for entry in sorted(self.scenarios, key=lambda entry: entry.scenario))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_TITLES))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, *(f"{name}: {value}" for name, value in self.notes.items())])

    def write(self, path: Path) -> None:
        """As JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.written())
