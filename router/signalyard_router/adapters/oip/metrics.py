"""What the way to the model servers says of itself."""

from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from signalyard.problems import Problem
from signalyard_router.adapters.oip.request import endpoint_of
from signalyard_router.rules.route import Target

OK = "ok"
RESULTS: tuple[str, ...] = (
    OK,
    Problem.MODEL_UNREACHABLE,
    Problem.MODEL_TIMEOUT,
    Problem.MODEL_UNKNOWN,
    Problem.MODEL_FAILED,
    Problem.MODEL_OVERLOADED,
    Problem.MODEL_ANSWER_MALFORMED,
    Problem.MODEL_ANSWER_WRONG_SHAPE,
    Problem.MODEL_ANSWER_WRONG_ID,
    Problem.MODEL_ANSWER_WRONG_VERSION,
    Problem.MODEL_ANSWER_NOT_FINITE,
)
"""How a call or a probe can end; each starts at zero for every target."""

# edges where budgets and objectives lie; a lone row in a warm server takes well under a millisecond
_BUCKETS = (0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_TARGET = ("model", "version", "endpoint")


class Occupied(Protocol):
    """A pool, as its gauges see it."""

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        ...

    @property
    def busy(self) -> int:
        """How many connections are in use or being opened."""
        ...


class TargetMetrics:
    """The metrics of one target, their children resolved once: looking one up costs four times its increment."""

    __slots__ = ("_calls", "_probes", "_seconds")

    def __init__(self, calls: Counter, seconds: Histogram, probes: Counter, target: Target) -> None:
        labels = (target.model, target.version, endpoint_of(target))
        self._calls = {result: calls.labels(*labels, result) for result in RESULTS}
        self._probes = {result: probes.labels(*labels, result) for result in RESULTS}
        self._seconds = seconds.labels(*labels)

    def called(self, result: str, nanoseconds: int) -> None:
        """A call ended after ``nanoseconds``."""
        self._calls[result].inc()
        if result != Problem.MODEL_UNREACHABLE:
            self._seconds.observe(nanoseconds / 1e9)

    def probed(self, result: str) -> None:
        """A probe ended."""
        self._probes[result].inc()


class OipMetrics:
    """The metrics of all targets on one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "signalyard_upstream_requests",
            "Calls to model servers by result: ok, or the code of the problem. A call that its caller cancelled is not counted.",
            (*_TARGET, "result"),
            registry=registry,
        )
        self._seconds = Histogram(
            "signalyard_upstream_seconds",
            "Time of the calls that a model server was reached for, failed and timed-out ones included.",
            _TARGET,
            buckets=_BUCKETS,
            registry=registry,
        )
        self._connections = Gauge(
            "signalyard_upstream_connections",
            "Connections to model servers: idle, or busy (in use or being opened).",
            ("endpoint", "state"),
            registry=registry,
        )
        self._probes = Counter(
            "signalyard_upstream_probes",
            "Looks at a model's metadata by result: ok, or the code of the problem.",
            (*_TARGET, "result"),
            registry=registry,
        )
        self._targets: dict[Target, TargetMetrics] = {}

    def of(self, target: Target) -> TargetMetrics:
        """The metrics of a target; from the first call on they are there, at zero."""
        metrics = self._targets.get(target)
        if metrics is None:
            metrics = self._targets[target] = TargetMetrics(self._calls, self._seconds, self._probes, target)
        return metrics

    def watch_pool(self, endpoint: str, pool: Occupied) -> None:
        """Read the endpoint's gauges off its pool, when they are asked for."""
        self._connections.labels(endpoint, "idle").set_function(lambda: pool.idle)
        self._connections.labels(endpoint, "busy").set_function(lambda: pool.busy)
