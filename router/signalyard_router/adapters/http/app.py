"""The REST app: predictions, state, status, health, metrics."""

from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from signalyard._server.answer import Answer
from signalyard._server.connection import Later
from signalyard.problems import Problem, ProblemDetails, SignalyardError
from signalyard.wire import BUDGET_HEADER, Decision, Observation, ObserveAnswer, StateAnswer
from signalyard_router.adapters.http.answers import (
    NotReadyDetails,
    RejectedDetails,
    decisions_answer,
    json_answer,
    not_ready_answer,
)
from signalyard_router.adapters.http.headers import MAX_BUDGET_US, remaining
from signalyard_router.adapters.http.inference import InferencePaths
from signalyard_router.adapters.http.observe import ObservationForm, ObserveReader, without_place
from signalyard_router.adapters.http.pages import Pages, Path, Request, parameters
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.adapters.http.signals import EVENT_STREAM, LAST_ID, LAST_ID_SCHEMA, SignalStreams
from signalyard_router.flow.correlation import REQUEST_ID
from signalyard_router.flow.metrics import ROW_PROBLEMS
from signalyard_router.ports import Clock, Tracer
from signalyard_router.promise import Promise
from signalyard_router.router import Status
from signalyard_router.rules.admission import CallerRates
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.rules.verdict import ShadowAnswer
from signalyard_router.wire.forms import ColumnarForm, SnapshotForm
from signalyard_router.wire.reading import Batch, PredictReader


class Decider(Protocol):
    """The router, as the app sees it."""

    def admit(self, received: int, remaining: int | None = None) -> None:
        """Called once a request, before it is decoded. Raises RouterError: overloaded, where it would be answered late."""
        ...

    async def decide(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> list[Decision]:
        """A decision for every row on every route that it goes to. Raises RouterError."""
        ...

    def submit(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> Promise[list[Decision]]:
        """The same for a caller without a task: what goes wrong at once is raised, all else is in the promise."""
        ...

    def state(self, symbol: str | None = None, route: str | None = None) -> StateAnswer:
        """What each route last said of each instrument."""
        ...

    def observe(self, observations: Sequence[Observation]) -> ObserveAnswer:
        """Compare what a strategy outside the router did. Raises CallerError; its pointer begins with a place in the list."""
        ...

    def shadow(self, route: str | None = None) -> Any:
        """How shadows and baselines compare with the decisions; JSON can be made of it. Raises CallerError."""
        ...

    def status(self) -> Any:
        """The router as it stands; JSON can be made of it."""
        ...

    def unready(self) -> list[str]:
        """Why the router should get no traffic; empty when it should."""
        ...


PREDICT_PROBLEMS = (
    Problem.MALFORMED_BODY,
    Problem.INVALID_BUDGET,
    Problem.TOO_MANY_ROWS,
    Problem.UNSUPPORTED_MEDIA_TYPE,
    *ROW_PROBLEMS,
)
"""What a predict request may be answered with; what goes wrong behind the router is in the decision."""

OBSERVE_PROBLEMS = (
    Problem.MALFORMED_BODY,
    Problem.INVALID_BUDGET,
    Problem.TOO_MANY_ROWS,
    Problem.UNSUPPORTED_MEDIA_TYPE,
    Problem.INVALID_OBSERVATION,
    Problem.INVALID_INSTRUMENT,
    Problem.NO_ROUTE,
    Problem.UNKNOWN_ROUTE,
)

BUDGET_SCHEMA = {
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_BUDGET_US,
    "description": "How many microseconds the caller still waits; the smaller of it and the route's deadline holds.",
}
TRACE_SCHEMA = {
    "type": "string",
    "description": "W3C trace context; it goes on to the model server while traces are on.",
}

EXAMPLE = {"symbol": "rb2410.SHFE", "ts_event": 1718923456000000000, "features": {"close": 3512.0, "ret_5": 0.0012}}


class App(Pages):
    """The router's REST face."""

    def __init__(
        self,
        router: Decider,
        clock: Clock,
        settings: HttpSettings,
        registry: CollectorRegistry,
        tracer: Tracer | None = None,
        signals: SignalStreams | None = None,
        inference: InferencePaths | None = None,
    ) -> None:
        self._tracer = tracer
        self._signals = signals or SignalStreams(clock, registry)
        self._inference = inference
        self._router = router
        self._clock = clock
        self._registry = registry
        self._reader = PredictReader(settings.max_rows)
        self._observations = ObserveReader(settings.max_rows)
        paths = {
            "/v1/predict": Path(
                "POST",
                self._predict,
                "decide on one snapshot, a list, or columns and rows",
                PREDICT_PROBLEMS,
                headers={BUDGET_HEADER: BUDGET_SCHEMA, "traceparent": TRACE_SCHEMA},
                body=(SnapshotForm, list[SnapshotForm], ColumnarForm),
                answer=(Decision, list[Decision]),
                details={404: (RejectedDetails,), 422: (RejectedDetails,)},
                example=EXAMPLE,
                begin=self._begin if tracer is None else None,
            ),
            "/v1/state": Path(
                "GET",
                self._state,
                "what each route last said of each instrument",
                parameters={"symbol": "only of this instrument", "route": "only of this route"},
                answer=(StateAnswer,),
            ),
            "/v1/signals": Path(
                "GET",
                self._stream,
                "signals as they leave, as server-sent events",
                (Problem.DRAINING,),
                parameters={"symbol": "only of this instrument", "route": "only of this route"},
                headers={LAST_ID.decode(): LAST_ID_SCHEMA},
                answer=(str,),
                content=(EVENT_STREAM.decode(),),
            ),
            "/v1/status": Path(
                "GET", self._status, "the routes, their tracks and the instruments on them", answer=(Status,)
            ),
            "/healthz": Path("GET", self._healthz, "200 while the process turns", probe=True),
            "/readyz": Path(
                "GET",
                self._readyz,
                "200 while the router should get traffic",
                (Problem.NOT_READY,),
                details={503: (NotReadyDetails, ProblemDetails)},
                probe=True,
            ),
            "/metrics": Path(
                "GET",
                self._metrics_page,
                "metrics in the Prometheus format",
                answer=(str,),
                content=("text/plain", "application/openmetrics-text"),
            ),
            "/v1/observe": Path(
                "POST",
                self._observe,
                "compare what a strategy outside the router did",
                OBSERVE_PROBLEMS,
                headers={BUDGET_HEADER: BUDGET_SCHEMA},
                body=(ObservationForm, list[ObservationForm]),
                answer=(ObserveAnswer,),
            ),
            "/v1/shadow": Path(
                "GET",
                self._shadow,
                "how shadows and baselines compare with the decisions",
                (Problem.UNKNOWN_ROUTE,),
                parameters={"route": "only of this route"},
                answer=(ShadowAnswer,),
            ),
        }
        if inference is not None:
            paths |= inference.paths
        rates = None
        if settings.requests_per_second:
            burst = settings.requests_burst or ceil(settings.requests_per_second)
            rates = CallerRates(settings.requests_per_second, burst)
        super().__init__("signalyard router", paths, registry, rates=rates)

    def find(self, path: str) -> tuple[str, Path | None]:
        place = self._inference.find(path) if self._inference is not None else None
        return super().find(path) if place is None else (place, self.paths[place])

    async def _predict(self, request: Request) -> Answer:
        left, batch = self._admitted(request)
        decisions: Sequence[Decision] = ()
        if batch.rows:
            deciding = self._router.decide(batch.rows, received=request.received, remaining=left)
            if self._tracer is None:
                decisions = await deciding
            else:
                decisions = await self._tracer.request(deciding, request.headers, REQUEST_ID.get())
        return self._predicted(request, batch, decisions)

    def _begin(self, request: Request) -> Answer | Later:
        """The same without a task."""
        left, batch = self._admitted(request)
        if not batch.rows:
            return self._predicted(request, batch, ())
        done = self._router.submit(batch.rows, received=request.received, remaining=left)
        return Later(done, partial(self._decided, request, batch))

    def _admitted(self, request: Request) -> tuple[int | None, Batch]:
        left = remaining(request.headers)
        self._router.admit(request.received, left)
        return left, self._reader.read(request.body)

    def _decided(self, request: Request, batch: Batch, done: Promise[list[Decision]]) -> Answer:
        return self._predicted(request, batch, done.result())

    def _predicted(self, request: Request, batch: Batch, decisions: Sequence[Decision]) -> Answer:
        answer = decisions_answer(decisions, batch.places, alone=batch.alone)
        self.metrics.predict_seconds.observe((self._clock.monotonic() - request.received) / 1e9)
        return answer

    async def _state(self, request: Request) -> Answer:
        asked = parameters(request, self.paths["/v1/state"].parameters)
        return json_answer(self._router.state(asked.get("symbol"), asked.get("route")))

    async def _stream(self, request: Request) -> Answer:
        asked = parameters(request, self.paths["/v1/signals"].parameters)
        assert self.connections is not None
        await self._signals.serve(self.connections, request, asked.get("symbol"), asked.get("route"))
        return Answer(200, EVENT_STREAM, b"")

    async def _observe(self, request: Request) -> Answer:
        remaining(request.headers)  # for what it says of the body
        observations, alone = self._observations.read(request.body)
        try:
            return json_answer(self._router.observe(observations))
        except SignalyardError as exc:
            raise (without_place(exc) if alone else exc) from exc

    async def _shadow(self, request: Request) -> Answer:
        asked = parameters(request, self.paths["/v1/shadow"].parameters)
        return json_answer(self._router.shadow(asked.get("route")))

    async def _status(self, request: Request) -> Answer:
        return json_answer(self._router.status())

    async def _healthz(self, request: Request) -> Answer:
        return json_answer({"status": "alive"})

    async def _readyz(self, request: Request) -> Answer:
        reasons = self._router.unready()
        return not_ready_answer(reasons) if reasons else json_answer({"status": "ready"})

    async def _metrics_page(self, request: Request) -> Answer:
        accept = b",".join([value for name, value in request.headers if name == b"accept"]).decode("latin-1")
        try:
            encode, content_type = choose_encoder(accept)
            page = encode(self._registry)
        except (TypeError, ValueError):  # it stumbles over versions and escapings that it does not know
            encode, content_type = choose_encoder("")
            page = encode(self._registry)
        return Answer(200, content_type.encode(), page)
