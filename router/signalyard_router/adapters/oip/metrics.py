"""What the way to the model servers says of itself."""

from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge

from signalyard._counting import Counter, Histogram
from signalyard.problems import Problem
from signalyard_router.rules.breaker import Breaker, BreakerState

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
_TRACK = ("model", "version")
_PEER = (*_TRACK, "endpoint")


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

    in_flight: int
    """How many scoring calls are under way."""


class PeerMetrics:
    """The metrics of one version at one endpoint, their children resolved once: looking one up costs four times its increment."""

    __slots__ = ("_calls", "_probes", "_seconds", "digest_changes", "hedges_lost", "hedges_won", "opened", "retries")

    def __init__(self, all_of_them: "OipMetrics", labels: tuple[str, str, str]) -> None:
        self._calls = {result: all_of_them.calls.labels(*labels, result) for result in RESULTS}
        self._probes = {result: all_of_them.probes.labels(*labels, result) for result in RESULTS}
        self._seconds = all_of_them.seconds.labels(*labels)
        self.digest_changes = all_of_them.digest_changes.labels(*labels)
        self.retries = all_of_them.retries.labels(*labels)
        self.hedges_won = all_of_them.hedges.labels(*labels, "won")
        self.hedges_lost = all_of_them.hedges.labels(*labels, "lost")
        self.opened = all_of_them.opened.labels(*labels)

    def called(self, result: str, nanoseconds: int) -> None:
        """A call ended after ``nanoseconds``."""
        self._calls[result].inc()
        if result != Problem.MODEL_UNREACHABLE:
            self._seconds.observe(nanoseconds / 1e9)

    def probed(self, result: str) -> None:
        """A probe ended."""
        self._probes[result].inc()


class OipMetrics:
    """The metrics of all endpoints on one registry. The label ``version`` is the one that the document pins."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, labels: tuple[str, ...] = _PEER) -> Counter:
            return Counter(f"signalyard_upstream_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: tuple[str, ...]) -> Gauge:
            return Gauge(f"signalyard_upstream_{name}", text, labels, registry=registry)

        self.calls = counter(
            "requests",
            "Calls to model servers by result: ok, or the code of the problem. A call that its caller cancelled is not counted.",
            (*_PEER, "result"),
        )
        self.seconds = Histogram(
            "signalyard_upstream_seconds",
            "Time of the calls that a model server was reached for, failed and timed-out ones included.",
            _PEER,
            buckets=_BUCKETS,
            registry=registry,
        )
        self.probes = counter(
            "probes", "Looks at a model's metadata by result: ok, or the code of the problem.", (*_PEER, "result")
        )
        self.digest_changes = counter(
            "digest_changes", "Times that an endpoint was seen with another digest under the same version."
        )
        self.retries = counter("retries", "Calls taken to another endpoint because this one did not answer rightly.")
        self.hedges = counter(
            "hedges",
            "Second calls made to this endpoint while another was still silent, by whether its answer came first.",
            (*_PEER, "result"),
        )
        self.opened = counter("breaker_opened", "Times that the endpoint's breaker opened.")
        self.exhausted = counter(
            "second_calls_refused", "Retries and hedges that the track's retry budget refused.", _TRACK
        )
        self.cutovers = counter("cutovers", "Times that a track moved from one digest to another.", _TRACK)
        self._breaker = gauge(
            "breaker", "1 for the state that the endpoint's breaker is in: closed, open, half_open.", (*_PEER, "state")
        )
        self._connections = gauge(
            "connections",
            "Connections to model servers: idle, or busy (in use or being opened).",
            ("endpoint", "state"),
        )
        self._in_flight = gauge("in_flight", "Scoring calls under way to an endpoint.", ("endpoint",))

    def of(self, model: str, version: str, endpoint: str, breaker: Breaker) -> PeerMetrics:
        """The metrics of a version at an endpoint, all there at zero; the breaker's state is read off it when asked for."""
        labels = (model, version, endpoint)

        def watch(state: BreakerState) -> None:
            self._breaker.labels(*labels, state).set_function(lambda: float(breaker.state is state))

        for state in BreakerState:
            watch(state)
        return PeerMetrics(self, labels)

    def forget(self, model: str, version: str, endpoint: str) -> None:
        """Show a version at an endpoint no longer: addresses come and go with pods."""
        labels = (model, version, endpoint)
        for family in (self.digest_changes, self.retries, self.opened, self.seconds):
            family.remove(*labels)
        for result in RESULTS:
            self.calls.remove(*labels, result)
            self.probes.remove(*labels, result)
        for result in ("won", "lost"):
            self.hedges.remove(*labels, result)
        for state in BreakerState:
            self._breaker.remove(*labels, state)

    def forget_pool(self, endpoint: str) -> None:
        """Show an endpoint's gauges no longer."""
        for state in ("idle", "busy"):
            self._connections.remove(endpoint, state)
        self._in_flight.remove(endpoint)

    def watch_pool(self, endpoint: str, pool: Occupied) -> None:
        """Read the endpoint's gauges off its pool, when they are asked for."""
        self._connections.labels(endpoint, "idle").set_function(lambda: pool.idle)
        self._connections.labels(endpoint, "busy").set_function(lambda: pool.busy)
        self._in_flight.labels(endpoint).set_function(lambda: pool.in_flight)
