"""What a runtime counts. ``version`` is the one that answered, not the one that was asked for.

These live in a module of their own because MLServer reloads the module of the class that it is told to serve, and a metric
cannot be registered twice.
"""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import REGISTRY, Gauge

from signalyard._counting import Counter, Histogram
from signalyard._memory import memory_limit
from signalyard._server.bounds import Count, Refusal, Wait
from signalyard.problems import Problem
from signalyard.profile import ModelCard, ScoredRows

_LABELS = ("model", "version")
_REQUESTS = Counter(
    "signalyard_model_requests",
    "Scoring requests by result: ok, rejected (the request was at fault), expired (dropped unscored), failed (the model)",
    (*_LABELS, "result"),
    registry=REGISTRY,
)
_PROBLEMS = Counter(
    "signalyard_model_errors",
    "Scoring requests that were answered with an error, by the problem's code",
    (*_LABELS, "reason"),
    registry=REGISTRY,
)
_USUAL = (
    Problem.INVALID_SNAPSHOT,
    Problem.UNKNOWN_FEATURE,
    Problem.MISSING_FEATURE,
    Problem.DUPLICATE_FEATURE,
    Problem.DEADLINE_EXCEEDED,
    Problem.MODEL_FAILED,
)
"""Those that scoring gives: counted from 0 on, so that the first one is an increase."""
_ROWS = Counter("signalyard_model_rows", "Rows in the requests that were answered", _LABELS, registry=REGISTRY)
_ROW_ERRORS = Counter(
    "signalyard_model_row_errors", "Rows that could not be scored, each with its row_error", _LABELS, registry=REGISTRY
)
_SECONDS = Histogram(
    "signalyard_model_request_seconds",
    "From the arrival of a request that was answered to its scores, in seconds",
    _LABELS,
    # 0.1 s is the deadline that routes have by default.
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    registry=REGISTRY,
)
_LOAD_SECONDS = Gauge(
    "signalyard_model_load_seconds", "How long the bundle took to verify and load, in seconds", _LABELS
)
_INFO = Gauge("signalyard_model_info", "1 for each loaded bundle", (*_LABELS, "digest"))
_READY = Gauge("signalyard_model_ready", "1 while the server takes requests for the bundle, else 0", _LABELS)
Gauge("signalyard_memory_limit_bytes", "What the process may use of memory, 0 without a limit").set(memory_limit())
_TIMEOUTS = Counter(
    "signalyard_model_http_timeouts",
    "Connections that ran out of time, by what was waited for; idle and linger are how connections normally end",
    ("waited_for",),
    registry=REGISTRY,
)
_REFUSALS = Counter(
    "signalyard_model_http_refusals",
    "Requests and connections that were refused before they were read whole, by reason",
    ("reason",),
    registry=REGISTRY,
)
_ERRORS = Counter(
    "signalyard_model_http_errors",
    "REST requests that were answered with an error, by status",
    ("status",),
    registry=REGISTRY,
)
_IN_FLIGHT = Gauge("signalyard_model_http_requests_in_flight", "REST requests that are read and not answered yet")
_CONNECTIONS = Gauge("signalyard_model_http_connections", "Open REST connections")
_CALLS = Gauge("signalyard_model_grpc_calls_in_flight", "gRPC calls for scores that are not answered yet")


class HttpMetrics:
    """What is counted of the REST server."""

    def __init__(self) -> None:
        self.timeouts: Mapping[Wait, Count] = {wait: _TIMEOUTS.labels(wait) for wait in Wait}
        self.refusals: Mapping[Refusal, Count] = {reason: _REFUSALS.labels(reason) for reason in Refusal}
        self._errors = {status: _ERRORS.labels(str(status)) for status in (400, 404, 405, 413, 415, 500, 503, 504)}

    def failed(self, status: int) -> None:
        """A request was answered with an error."""
        (self._errors.get(status) or _ERRORS.labels(str(status))).inc()

    def watch(self, in_flight: Callable[[], float], connections: Callable[[], float]) -> None:
        """Read the gauges off the server, when they are asked for."""
        _IN_FLIGHT.set_function(in_flight)
        _CONNECTIONS.set_function(connections)


def watch_calls(in_flight: Callable[[], float]) -> None:
    """Read the gauge off the gRPC server, when it is asked for."""
    _CALLS.set_function(in_flight)


def watch_readiness(cards: Iterable[ModelCard], is_open: Callable[[], bool]) -> None:
    """Read from now on, when it is asked for, whether these models are ready."""
    for card in cards:
        _READY.labels(card.model, card.version).set_function(lambda: float(is_open()))


def forget(card: ModelCard, *, replaced: bool) -> None:
    """The bundle is not loaded any more; ``replaced``: another one has its model and version. What was counted stays."""
    _INFO.remove(card.model, card.version, card.digest)
    if not replaced:
        _READY.remove(card.model, card.version)
        _LOAD_SECONDS.remove(card.model, card.version)


class ModelMetrics:
    """The metrics of one loaded bundle, each child looked up once."""

    def __init__(self, card: ModelCard, load_seconds: float) -> None:
        labels = (card.model, card.version)
        self._ok = _REQUESTS.labels(*labels, "ok")
        self.rejected = _REQUESTS.labels(*labels, "rejected")
        self.expired = _REQUESTS.labels(*labels, "expired")
        self.failed = _REQUESTS.labels(*labels, "failed")
        self._errors = {problem: _PROBLEMS.labels(*labels, problem) for problem in _USUAL}
        self._labels = labels
        self._rows = _ROWS.labels(*labels)
        self._row_errors = _ROW_ERRORS.labels(*labels)
        self._seconds = _SECONDS.labels(*labels)
        _LOAD_SECONDS.labels(*labels).set(load_seconds)
        _INFO.labels(*labels, card.digest).set(1)

    def erred(self, problem: Problem) -> None:
        """Count an error by its reason."""
        (self._errors.get(problem) or _PROBLEMS.labels(*self._labels, problem)).inc()

    def answered(self, answer: ScoredRows, seconds: float) -> None:
        """Count an answer that took ``seconds``."""
        self._ok.inc()
        self._rows.inc(len(answer.row_error))
        self._seconds.observe(seconds)
        bad = len(answer.row_error) - answer.row_error.count("")
        if bad:
            self._row_errors.inc(bad)
