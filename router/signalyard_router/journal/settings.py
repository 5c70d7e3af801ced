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

    segment_age: int | None = 3_600 * 1_000_000_000
    """Nanoseconds of the journal's time after its first record at which a segment is followed by a new one; None: never. It
    bounds how far an archive lags behind."""

    keep_bytes: int | None = None
    """The oldest segments are dropped while all of them together are larger; None: not for their size. Never dropped are those
    that the last two checkpoints need, and, where there is an archive, those that are not in it."""

    keep_age: int | None = None
    """Nanoseconds of the journal's time; a segment whose newest record is older is dropped, within the same bounds; None: not for
    its age."""

    remember: int = 65_536
    """How many decisions are kept in memory for callers that send the same proposal again; about 2 kB each."""


@dataclass(frozen=True)
class SharingSettings:
    """How a replica shares its journal with others. Times are seconds."""

    replica: str = ""
    """The replica's name, in the records of what it decided. In a cluster the pod's."""

    patience_seconds: float = 0.02
    """How long a commit may be without an answer before those behind it are refused. They were not sent, so it is certain that they are
    in no record; longer than a pause of Redis that is worth waiting for, and shorter than what a deadline leaves for a commit."""

    doubt_seconds: float = 2.0
    """How long it is tried to find out what became of a commit whose answer was lost."""

    look_seconds: float = 0.25
    """The pause between two looks at whether the log is still the one that it was."""

    retry_seconds: float = 0.05
    """The pause after a log that could not be reached; it doubles up to a second."""

    start_seconds: float = 15.0
    """How long a start waits for the log. A recovery takes a little more than `election_seconds`."""

    election_seconds: float = 1.0
    """How long replicas that lost the log wait for one another, so that whoever knew most of it begins the new one."""

    snapshot_every: int = 4_096
    """Entries after which the state is kept beside the log, so that a new replica reads it instead of all that ever was."""


@dataclass(frozen=True)
class UpkeepSettings:
    """What is done with complete segments, and when."""

    look_seconds: float = 10.0
    """How often, in seconds, the age of segments is looked at while nothing is committed, and a folder that took no records is tried."""

    archive_seconds: float = 600.0
    """How long, in seconds, archiving one segment may take, reading it back included, before it is tried again."""

    first_pause_seconds: float = 1.0
    """The pause, in seconds, after a failed attempt; it doubles with each that follows."""

    longest_pause_seconds: float = 60.0
    """The longest such pause, in seconds."""


@dataclass(frozen=True)
class OutboxSettings:
    """How signals are handed to sinks. All times are seconds."""

    send_seconds: float = 5.0
    """How long a sink may take for what it is handed at once, before it is handed the same again."""

    first_pause_seconds: float = 0.1
    """The pause after a failed attempt; it doubles with each that follows."""

    longest_pause_seconds: float = 5.0
    """The longest such pause; after an outage of the sink, it is how much later than the sink the signals are back."""

    save_seconds: float = 1.0
    """How often a cursor that has moved is saved: what was handed on since is handed on again after a crash."""

    close_seconds: float = 2.0
    """How long a shutdown waits for signals that are on their way to a sink."""
