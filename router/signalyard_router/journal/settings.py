"""What the local journal can be told."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class JournalSettings:
    """The local journal's settings."""

    folder: str = "journal"
    """Where the segments lie. One process at a time writes there."""

    durability: Literal["os", "fsync"] = "os"
    """``os``: a decision is answered once the operating system has it, which outlives the process but not a power loss.
    ``fsync``: once it is on the medium, at a price of some 0.2 ms a group of commits."""

    clock: Literal["wall", "event"] = "wall"
    """What drives the journal's time: the machine's clock, or the newest event time seen (replay, demonstration, tests)."""

    segment_bytes: int = 256 * 1024 * 1024
    """A segment that has grown to this size is followed by a new one."""

    remember: int = 65_536
    """How many decisions are kept in memory for callers that send the same proposal again; about 2 kB each."""
