"""What the local journal counts."""

from collections.abc import Callable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Gauge

from signalyard._counting import Count, Counter, Histogram


class JournalMetrics:
    """Children are resolved once: looking one up costs more than counting."""

    def __init__(self, registry: CollectorRegistry) -> None:
        commits = Counter("signalyard_journal_commits_total", "Group commits, by result", ["result"], registry=registry)
        self.committed = commits.labels("ok")
        self.failed = commits.labels("failed")
        self.in_doubt = commits.labels("in_doubt")
        self.records = Counter("signalyard_journal_records_total", "Records written", registry=registry)
        self.bytes = Counter("signalyard_journal_bytes_total", "Bytes written", registry=registry)
        self.seconds = Histogram(
            "signalyard_journal_commit_seconds",
            "From the first proposal of a group commit to its confirmation",
            buckets=(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
            registry=registry,
        )
        self.available = Gauge(
            "signalyard_journal_available", "1 while the last commit succeeded, else 0", registry=registry
        )
        self.cut = Counter(
            "signalyard_journal_cut_bytes_total", "Bytes of a torn last line, cut at the start", registry=registry
        )
        self.folded = Counter(
            "signalyard_journal_folded_records_total",
            "Records read at the start, after the checkpoint",
            registry=registry,
        )
        self.sequence = Gauge("signalyard_journal_sequence", "The number of the newest record", registry=registry)


class UpkeepMetrics:
    """What is done with segments that are complete."""

    def __init__(self, registry: CollectorRegistry) -> None:
        checkpoints = Counter(
            "signalyard_journal_checkpoints_total", "Checkpoints, by result", ["result"], registry=registry
        )
        self.written = checkpoints.labels("ok")
        self.unwritten = checkpoints.labels("failed")
        self.segments = Gauge("signalyard_journal_segments", "Complete segments in the folder", registry=registry)
        self.dropped = Counter(
            "signalyard_journal_dropped_segments_total", "Segments that retention removed", registry=registry
        )
        self.dropped_bytes = Counter(
            "signalyard_journal_dropped_bytes_total", "Bytes of segments that retention removed", registry=registry
        )


class ArchiveMetrics:
    """What the archive has, and what it lacks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.archived = Counter(
            "signalyard_archive_segments_total",
            "Segments that were found or put whole into the archive",
            registry=registry,
        )
        self.bytes = Counter("signalyard_archive_bytes_total", "Bytes uploaded, compressed", registry=registry)
        self.failed = Counter("signalyard_archive_failures_total", "Attempts that failed", registry=registry)
        self.waiting = Gauge("signalyard_archive_waiting_segments", "Complete segments not archived", registry=registry)
        self.age = Gauge(
            "signalyard_archive_oldest_waiting_seconds",
            "Journal time since the newest record of the oldest complete segment that is not archived; 0 without one",
            registry=registry,
        )


class OutboxMetrics:
    """What readers of the outbox hand on; one of these for all of them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._signals = Counter(
            "signalyard_outbox_signals_total",
            "Signals that were handed to a sink, or had expired before",
            ["sink", "result"],
            registry=registry,
        )
        self._failures = Counter(
            "signalyard_outbox_failures_total", "Attempts to hand signals on that failed", ["sink"], registry=registry
        )
        self._cursors = Counter(
            "signalyard_outbox_cursors_total", "Cursors saved, by result", ["sink", "result"], registry=registry
        )
        self._skipped = Counter(
            "signalyard_outbox_skipped_segments_total",
            "Segments that retention removed before a sink had all of their signals",
            ["sink"],
            registry=registry,
        )
        self._waiting = Gauge(
            "signalyard_outbox_waiting_seconds",
            "How long the oldest signal has waited to be handed on",
            ["sink"],
            registry=registry,
        )

    def of(self, sink: str, waiting: Callable[[], float]) -> "SinkMetrics":
        """The counters of one sink; ``waiting`` tells, whenever it is asked, for how many seconds its oldest signal has waited."""
        self._waiting.labels(sink).set_function(waiting)
        return SinkMetrics(
            sent=self._signals.labels(sink, "sent"),
            expired=self._signals.labels(sink, "expired"),
            failed=self._failures.labels(sink),
            saved=self._cursors.labels(sink, "ok"),
            unsaved=self._cursors.labels(sink, "failed"),
            skipped=self._skipped.labels(sink),
        )


class SinkMetrics(NamedTuple):
    """The counters of one sink."""

    sent: Count
    expired: Count
    failed: Count
    saved: Count
    unsaved: Count
    skipped: Count


class SharingMetrics:
    """How a replica stands with the log that it shares."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.joined = Gauge(
            "signalyard_log_joined",
            "1 while the shared log is heard, and decisions can be committed",
            registry=registry,
        )
        self.epoch = Gauge("signalyard_log_epoch", "The epoch of the shared log", registry=registry)
        self.recovering = Gauge(
            "signalyard_log_recovering", "1 while signals are held back after the log was lost", registry=registry
        )
        self.conflicts = Counter(
            "signalyard_log_conflicts_total",
            "Commits that were settled again because another replica was first",
            registry=registry,
        )
        self.foreign = Counter(
            "signalyard_log_foreign_entries_total", "Entries of other replicas that were taken in", registry=registry
        )
        losses = Counter(
            "signalyard_log_epochs_total",
            "Epochs that were begun after a loss, by this replica or by another one",
            ["by"],
            registry=registry,
        )
        self.begun = losses.labels("own")
        self.adopted = losses.labels("other")
        snapshots = Counter(
            "signalyard_log_snapshots_total", "States kept beside the log, by result", ["result"], registry=registry
        )
        self.kept = snapshots.labels("ok")
        self.not_kept = snapshots.labels("failed")
