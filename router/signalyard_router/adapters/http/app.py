"""The REST app: predictions, state, status, health, metrics."""

from collections.abc import Sequence
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from signalyard.problems import SignalyardError
from signalyard.wire import Decision, Observation, ObserveAnswer, StateAnswer
from signalyard_router.adapters.http.answers import Answer, decisions_answer, json_answer, not_ready_answer
from signalyard_router.adapters.http.headers import remaining
from signalyard_router.adapters.http.observe import ObserveReader, without_place
from signalyard_router.adapters.http.pages import Pages, Path, Scope, parameters
from signalyard_router.adapters.http.predict import PredictReader
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.adapters.http.statuses import STATUSES
from signalyard_router.ports import Clock
from signalyard_router.rules.rows import BadRow, Row


class Decider(Protocol):
    """The router, as the app sees it."""

    async def decide(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> list[Decision]:
        """A decision for every row on every route that it goes to. Raises RouterError."""
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


class App(Pages):
    """The router's REST face."""

    def __init__(self, router: Decider, clock: Clock, settings: HttpSettings, registry: CollectorRegistry) -> None:
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
                sorted({200, *STATUSES.values()}),
            ),
            "/v1/state": Path(
                "GET", self._state, "what each route last said of each instrument", parameters=("symbol", "route")
            ),
            "/v1/observe": Path(
                "POST", self._observe, "compare what a strategy outside the router did", (200, 400, 404, 413, 415, 422)
            ),
            "/v1/shadow": Path(
                "GET",
                self._shadow,
                "how shadows and baselines compare with the decisions",
                (200, 404),
                parameters=("route",),
            ),
            "/v1/status": Path("GET", self._status, "the routes, their tracks and the instruments on them"),
            "/healthz": Path("GET", self._healthz, "200 while the process turns"),
            "/readyz": Path("GET", self._readyz, "200 while the router should get traffic", (200, 503)),
            "/metrics": Path("GET", self._metrics_page, "metrics in the Prometheus format"),
        }
        super().__init__("signalyard router", paths, registry)

    async def _predict(self, scope: Scope, body: bytes) -> Answer:
        received: int = scope["state"]["received"]
        left = remaining(scope["headers"])
        batch = self._reader.read(body)
        if batch.rows:
            decisions = await self._router.decide(batch.rows, received=received, remaining=left)
        else:
            decisions = []
        answer = decisions_answer(decisions, batch.places, alone=batch.alone)
        self.metrics.predict_seconds.observe((self._clock.monotonic() - received) / 1e9)
        return answer

    async def _state(self, scope: Scope, body: bytes) -> Answer:
        asked = parameters(scope, self._paths["/v1/state"].parameters)
        return json_answer(self._router.state(asked.get("symbol"), asked.get("route")))

    async def _observe(self, scope: Scope, body: bytes) -> Answer:
        remaining(scope["headers"])  # for what it says of the body
        observations, alone = self._observations.read(body)
        try:
            return json_answer(self._router.observe(observations))
        except SignalyardError as exc:
            raise (without_place(exc) if alone else exc) from exc

    async def _shadow(self, scope: Scope, body: bytes) -> Answer:
        asked = parameters(scope, self._paths["/v1/shadow"].parameters)
        return json_answer(self._router.shadow(asked.get("route")))

    async def _status(self, scope: Scope, body: bytes) -> Answer:
        return json_answer(self._router.status())

    async def _healthz(self, scope: Scope, body: bytes) -> Answer:
        return json_answer({"status": "alive"})

    async def _readyz(self, scope: Scope, body: bytes) -> Answer:
        reasons = self._router.unready()
        return not_ready_answer(reasons) if reasons else json_answer({"status": "ready"})

    async def _metrics_page(self, scope: Scope, body: bytes) -> Answer:
        accept = b",".join([value for name, value in scope["headers"] if name == b"accept"]).decode("latin-1")
        try:
            encode, content_type = choose_encoder(accept)
            page = encode(self._registry)
        except (TypeError, ValueError):  # it stumbles over versions and escapings that it does not know
            encode, content_type = choose_encoder("")
            page = encode(self._registry)
        return Answer(200, content_type.encode(), page)
