"""The REST app: raw ASGI over a small table of paths.

It expects what `protocol` gives it: ``scope["state"]["received"]``, the monotonic time at which the request was fully read,
and a body that comes in one piece.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qsl

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from signalyard.problems import Problem, SignalyardError, describe, error
from signalyard.wire import Decision, StateAnswer
from signalyard_router.adapters.http.answers import (
    Answer,
    decisions_answer,
    json_answer,
    not_ready_answer,
    problem_answer,
)
from signalyard_router.adapters.http.headers import remaining
from signalyard_router.adapters.http.metrics import OTHER, HttpMetrics
from signalyard_router.adapters.http.predict import PredictReader
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.adapters.http.statuses import STATUSES
from signalyard_router.ports import Clock
from signalyard_router.rules.rows import BadRow, Row

_log = logging.getLogger("signalyard.http")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Handler = Callable[[Scope, bytes], Awaitable[Answer]]

_MAX_PARAMETERS = 8


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

    def status(self) -> Any:
        """The router as it stands; JSON can be made of it."""
        ...

    def unready(self) -> list[str]:
        """Why the router should get no traffic; empty when it should."""
        ...


class Path(NamedTuple):
    """What is at one path."""

    method: str
    handler: Handler
    summary: str
    statuses: Sequence[int] = (200,)
    parameters: Sequence[str] = ()


class App:
    """The ASGI app. Every request gets an answer: what is not foreseen becomes the problem ``internal``, and is logged."""

    def __init__(self, router: Decider, clock: Clock, settings: HttpSettings, registry: CollectorRegistry) -> None:
        self._router = router
        self._clock = clock
        self._registry = registry
        self._reader = PredictReader(settings.max_rows)
        self._paths = {
            "/": Path("GET", self._index, "this list"),
            "/v1/predict": Path(
                "POST",
                self._predict,
                "decide on one snapshot, a list, or columns and rows",
                sorted({200, *STATUSES.values()}),
            ),
            "/v1/state": Path(
                "GET", self._state, "what each route last said of each instrument", parameters=("symbol", "route")
            ),
            "/v1/status": Path("GET", self._status, "the routes, their tracks and the instruments on them"),
            "/healthz": Path("GET", self._healthz, "200 while the process turns"),
            "/readyz": Path("GET", self._readyz, "200 while the router should get traffic", (200, 503)),
            "/metrics": Path("GET", self._metrics_page, "metrics in the Prometheus format"),
        }
        always = (400, 405, 500)
        self.metrics = HttpMetrics(
            registry,
            [
                *((path, sorted({*known.statuses, *always})) for path, known in self._paths.items()),
                (OTHER, (404,)),
            ],
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        known = self._paths.get(path)
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        try:
            if known is None:
                raise error(Problem.NOT_FOUND, "GET / lists what there is")
            if scope["method"] != known.method:
                details = describe(Problem.METHOD_NOT_ALLOWED, f"it takes {known.method}")
                answer = problem_answer(details, headers=((b"allow", known.method.encode()),))
            else:
                if scope["query_string"] and not known.parameters:
                    _parameters(scope, ())
                answer = await known.handler(scope, message["body"])
        except SignalyardError as exc:
            answer = problem_answer(exc.details)
        except asyncio.CancelledError:
            # only the server's shutdown cancels a request, and it waits for the answer
            answer = problem_answer(describe(Problem.DRAINING, "the router stopped before there was a decision"))
        except Exception:  # noqa: BLE001 -- the last line: logged, counted, and answered without its text
            _log.exception("event=internal_error path=%s", path if known else OTHER)
            answer = problem_answer(describe(Problem.INTERNAL))
        self.metrics.answered(path if known else OTHER, answer.status)
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers()})
        await send({"type": "http.response.body", "body": answer.body})

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
        asked = _parameters(scope, self._paths["/v1/state"].parameters)
        return json_answer(self._router.state(asked.get("symbol"), asked.get("route")))

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

    async def _index(self, scope: Scope, body: bytes) -> Answer:
        return json_answer(
            {
                "service": "signalyard router",
                "paths": {f"{known.method} {path}": known.summary for path, known in self._paths.items()},
            }
        )


def _parameters(scope: Scope, known: Sequence[str]) -> dict[str, str]:
    """The query's parameters. Raises CallerError where one is unknown or there twice: it was meant to change the answer."""
    text = scope["query_string"].decode("latin-1")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
    except ValueError as exc:
        raise error(Problem.INVALID_REQUEST, f"the query has more than {_MAX_PARAMETERS} parameters") from exc
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            taken = f"those are {', '.join(known)}" if known else "there are none"
            raise error(Problem.INVALID_REQUEST, f"{name[:60]!r} is not a query parameter of this path; {taken}")
        if name in found:
            raise error(Problem.INVALID_REQUEST, f"the query parameter {name!r} is given twice")
        found[name] = value
    return found
