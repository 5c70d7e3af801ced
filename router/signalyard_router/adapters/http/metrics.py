"""What the REST server says of itself."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Gauge

from signalyard._counting import Counter, Histogram
from signalyard._server.bounds import Refusal, Wait

OTHER = "other"
"""The path that unknown paths are counted under: a scanner must not fill the registry."""

# edges where budgets and objectives lie
_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class HttpMetrics:
    """The server's metrics, their children resolved once: looking one up costs four times its increment."""

    def __init__(
        self, registry: CollectorRegistry, known: Iterable[tuple[str, Iterable[int]]], prefix: str = "signalyard_http"
    ) -> None:
        self._requests = Counter(
            f"{prefix}_requests",
            "Requests that were read whole and answered, by path and status.",
            ("path", "status"),
            registry=registry,
        )
        self._by_path = {
            path: {status: self._requests.labels(path, str(status)) for status in statuses} for path, statuses in known
        }
        self.predict_seconds = Histogram(
            f"{prefix}_request_seconds",
            "Time from a predict request's last byte to its answer.",
            buckets=_BUCKETS,
            registry=registry,
        )
        timeouts = Counter(
            f"{prefix}_timeouts",
            "Connections that ran out of time, by what was waited for; idle and linger are how connections normally end.",
            ("waited_for",),
            registry=registry,
        )
        self.timeouts = {wait: timeouts.labels(wait) for wait in Wait}
        refusals = Counter(
            f"{prefix}_refusals",
            "Requests and connections that were refused before they were read whole, by reason.",
            ("reason",),
            registry=registry,
        )
        self.refusals = {reason: refusals.labels(reason) for reason in Refusal}
        self._in_flight = Gauge(
            f"{prefix}_requests_in_flight", "Requests that were read and are not answered yet.", registry=registry
        )
        self._connections = Gauge(f"{prefix}_connections", "Open connections.", registry=registry)

    def answered(self, path: str, status: int) -> None:
        """A request was answered."""
        statuses = self._by_path[path]
        counter = statuses.get(status)
        if counter is None:
            counter = statuses[status] = self._requests.labels(path, str(status))
        counter.inc()

    def watch(self, in_flight: Callable[[], float], connections: Callable[[], float]) -> None:
        """Read the gauges off the server, when they are asked for."""
        self._in_flight.set_function(in_flight)
        self._connections.set_function(connections)
