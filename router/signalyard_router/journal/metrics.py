"""What the local journal counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


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
        self.sequence = Gauge("signalyard_journal_sequence", "The number of the newest record", registry=registry)
