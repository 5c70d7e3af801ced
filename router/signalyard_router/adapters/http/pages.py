"""A small table of paths behind raw ASGI: what the router's app and the admin's have in common.

It expects what `protocol` gives it: ``scope["state"]["received"]``, the monotonic time at which the request was fully read,
and a body that comes in one piece.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from prometheus_client import CollectorRegistry

from signalyard.problems import Problem, SignalyardError, describe, error
from signalyard_router.adapters.http.answers import Answer, json_answer, problem_answer
from signalyard_router.adapters.http.metrics import OTHER, HttpMetrics

_log = logging.getLogger("signalyard.http")

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Handler = Callable[[Scope, bytes], Awaitable[Answer]]

_MAX_PARAMETERS = 8


class Path(NamedTuple):
    """What is at one path."""

    method: str
    handler: Handler
    summary: str
    statuses: Sequence[int] = (200,)
    parameters: Sequence[str] = ()


class Pages:
    """An ASGI app. Every request gets an answer: what is not foreseen becomes the problem ``internal``, and is logged."""

    def __init__(
        self, service: str, paths: Mapping[str, Path], registry: CollectorRegistry, prefix: str = "signalyard_http"
    ) -> None:
        self._service = service
        self._paths = {"/": Path("GET", self._index, "this list"), **paths}
        always = (400, 401, 405, 500)
        self.metrics = HttpMetrics(
            registry,
            [*((path, sorted({*known.statuses, *always})) for path, known in self._paths.items()), (OTHER, (404,))],
            prefix,
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
                    parameters(scope, ())
                answer = await self.handle(known, scope, message["body"])
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

    async def handle(self, known: Path, scope: Scope, body: bytes) -> Answer:
        """Answer a request of a known path and method."""
        return await known.handler(scope, body)

    async def _index(self, scope: Scope, body: bytes) -> Answer:
        return json_answer(
            {
                "service": self._service,
                "paths": {f"{known.method} {path}": known.summary for path, known in self._paths.items()},
            }
        )


def parameters(scope: Scope, known: Sequence[str]) -> dict[str, str]:
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
