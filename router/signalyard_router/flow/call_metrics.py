"""What is counted of calls that are passed through."""

from enum import StrEnum

from prometheus_client import CollectorRegistry

from signalyard._counting import Counter, Histogram
from signalyard_router.rules.record import CallRecord


class Copied(StrEnum):
    """What became of a copy for a shadow."""

    SAME = "same"
    DIFFERENT = "different"
    FAILED = "failed"
    DROPPED = "dropped"
    """As many copies were under way as may be."""


class CallMetrics:
    """Children are made when a route has its first call: most routes have none."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "signalyard_calls_total",
            "Inference calls that were passed through, by route and result: answered, failover (by another rung than the "
            "assigned one), or the problem",
            ["route", "result"],
            registry=registry,
        )
        self._seconds = Histogram(
            "signalyard_call_seconds",
            "From the receipt of an inference call to its record",
            ["route"],
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.08, 0.1, 0.105, 0.15, 0.25, 0.5, 1),
            registry=registry,
        )
        self._copies = Counter(
            "signalyard_call_copies_total",
            "Copies of inference calls for shadows, by what came of them: same and different compare outputs bit by bit",
            ["route", "version", "result"],
            registry=registry,
        )

    def ended(self, record: CallRecord, elapsed: int) -> None:
        """A call was recorded, ``elapsed`` nanoseconds after its receipt."""
        result = record.problem.code if record.problem else "failover" if record.failover else "answered"
        self._calls.labels(record.route, result).inc()
        self._seconds.labels(record.route).observe(elapsed / 1e9)

    def copied(self, route: str, version: str, result: Copied) -> None:
        """A copy has come to its end."""
        self._copies.labels(route, version, result).inc()
