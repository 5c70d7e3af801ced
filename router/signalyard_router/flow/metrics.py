"""What the flow of requests counts."""

from collections.abc import Callable, Iterable
from enum import StrEnum

from prometheus_client import CollectorRegistry, Gauge

from signalyard._counting import Count, Counter, Distribution, Histogram
from signalyard.problems import CATALOGUE, Fault, Problem
from signalyard.wire import Decision
from signalyard.words import REASONS_BY_OUTCOME, Direction, Outcome
from signalyard_router.rules.route import FlatRung, ModelRung, Route

ROW_PROBLEMS = (
    Problem.INVALID_SNAPSHOT,
    Problem.INVALID_INSTRUMENT,
    Problem.NO_ROUTE,
    Problem.UNKNOWN_ROUTE,
    Problem.UNKNOWN_FEATURE,
    Problem.MISSING_FEATURE,
    Problem.DUPLICATE_FEATURE,
    Problem.FEATURE_NOT_FINITE,
    Problem.FEATURE_OUT_OF_RANGE,
    Problem.SNAPSHOT_TOO_OLD,
    Problem.SNAPSHOT_FROM_FUTURE,
)
"""Why a single row may be rejected."""


class Refusal(StrEnum):
    """Why a request was not let in."""

    ROWS = "rows"
    WAIT = "wait"


class FlowMetrics:
    """Counters start at zero for every route and every reason that can occur; children are resolved once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._decisions = Counter(
            "signalyard_decisions_total",
            "Decisions, by route, outcome and reason; a rejected one's reason is its problem, an emitted or paper one's its direction",
            ["route", "outcome", "reason"],
            registry=registry,
        )
        self._degraded = Counter(
            "signalyard_degraded_total",
            "Snapshots that the assigned track did not answer, by the rung that did: standby, model, flat or skip",
            ["route", "rung"],
            registry=registry,
        )
        self._late = Counter(
            "signalyard_late_total", "Decisions made after their deadline", ["route"], registry=registry
        )
        self._seconds = Histogram(
            "signalyard_decision_seconds",
            "From the request's receipt to its decision",
            ["route"],
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.08, 0.1, 0.105, 0.15, 0.25, 0.5, 1),
            registry=registry,
        )
        self._confidence = Histogram(
            "signalyard_confidence",
            "Calibrated confidence of every answer, before the filters",
            ["route"],
            buckets=tuple(step / 20 for step in range(10, 21)),
            registry=registry,
        )
        self._rows = Gauge("signalyard_rows_in_flight", "Snapshots that are being decided", registry=registry)
        self.repeated = Counter(
            "signalyard_repeated_total", "Proposals that came again and got the stored decision", registry=registry
        )
        self.shared = Counter(
            "signalyard_shared_rows_total",
            "Snapshots that went to a model server in one call with those of other requests",
            registry=registry,
        )
        refused = Counter(
            "signalyard_refused_total",
            "Requests that were not let in: rows, as many are decided as may be; wait, the queue is too long to be on time",
            ["reason"],
            registry=registry,
        )
        self.refused = {reason: refused.labels(reason) for reason in Refusal}
        self._wait = Gauge(
            "signalyard_wait_seconds",
            "From a request's receipt to its turn, a mean over some 20 ms; when it was last observed",
            registry=registry,
        )
        self._counters: dict[tuple[str, str, str], Count] = {}
        self._by_route: dict[str, RouteMetrics] = {}
        self._initialised: set[tuple[str, ...]] = set()
        self.initialise("", ())

    def watch(self, in_flight: Callable[[], float]) -> None:
        """Read the gauge of rows off the router, when it is asked for."""
        self._rows.set_function(in_flight)

    def initialise(self, route: str, rungs: Iterable[str]) -> None:
        """Start a route's counters at zero, once; the empty name stands for rows that reached no route."""
        known = (route, *rungs)
        if known in self._initialised:
            return
        self._initialised.add(known)
        for outcome, reasons in REASONS_BY_OUTCOME.items():
            for reason in reasons:
                self._count(route, outcome, reason)
        for direction in Direction:
            self._count(route, Outcome.EMITTED, direction)
            self._count(route, Outcome.PAPER, direction)
        for problem in ROW_PROBLEMS:
            if CATALOGUE[problem].fault is Fault.CALLER:
                self._count(route, Outcome.REJECTED, problem)
        for rung in known[1:]:
            self._degraded.labels(route, rung)
        self.route(route)

    def watch_wait(self, wait: Callable[[], float]) -> None:
        """Read the gauge of the mean wait, seconds, when it is asked for."""
        self._wait.set_function(wait)

    def route(self, name: str) -> "RouteMetrics":
        """The resolved children of a route."""
        metrics = self._by_route.get(name)
        if metrics is None:
            metrics = self._by_route[name] = RouteMetrics(
                self._late.labels(name), self._seconds.labels(name), self._confidence.labels(name)
            )
        return metrics

    def degraded(self, route: str, rung: str) -> None:
        """A rung below the assigned track gave the answer."""
        self._degraded.labels(route, rung).inc()

    def decided(self, decision: Decision) -> None:
        """Count a decision."""
        signal = decision.signal or decision.paper
        if signal is not None:
            reason: str = signal.signal
        elif decision.problem is not None:
            reason = decision.problem.code
        else:
            reason = decision.reason or ""
        self._count(decision.route, decision.outcome, reason).inc()

    def _count(self, route: str, outcome: Outcome, reason: str) -> Count:
        key = (route, outcome, reason)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._decisions.labels(*key)
        return counter


class RouteMetrics:
    """One route's resolved children."""

    __slots__ = ("confidence", "late", "seconds")

    def __init__(self, late: Count, seconds: Distribution, confidence: Distribution) -> None:
        self.late = late
        self.seconds = seconds
        self.confidence = confidence


def rung_names(route: Route) -> list[str]:
    """The rungs below the assigned track, as metrics name them."""
    names = {
        "flat" if isinstance(rung, FlatRung) else "model" if isinstance(rung, ModelRung) else "standby"
        for rung in route.ladder
    }
    return [*sorted(names), "skip"]
