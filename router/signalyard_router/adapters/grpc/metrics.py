"""What the gRPC server says of itself."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from signalyard._counting import Counter, Histogram


class GrpcMetrics:
    """The server's metrics. What grpcio refuses by itself (messages and calls over their caps) is counted nowhere."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "signalyard_grpc_calls_total",
            "Calls that were answered, by method and status.",
            ["method", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "signalyard_grpc_call_seconds",
            "Time from a call's message to its answer.",
            ["method"],
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
            registry=registry,
        )
        self._in_flight = Gauge(
            "signalyard_grpc_calls_in_flight", "Calls that are not answered yet.", registry=registry
        )

    def answered(self, method: str, code: str, elapsed: int) -> None:
        """A call was answered, or its caller gave it up, ``elapsed`` nanoseconds after its message."""
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(elapsed / 1e9)

    def watch(self, in_flight: Callable[[], float]) -> None:
        """Read the gauge off the server, when it is asked for."""
        self._in_flight.set_function(in_flight)
