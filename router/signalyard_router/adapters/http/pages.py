"""A small table of paths: what the router's app and the admin's have in common."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from math import ceil
from typing import Any
from urllib.parse import parse_qsl

from prometheus_client import CollectorRegistry

from signalyard._server.answer import Answer
from signalyard._server.connection import Connections, Doing, Later
from signalyard._server.request import Request
from signalyard.problems import Problem, ProblemDetails, SignalyardError, describe, error
from signalyard_router.adapters.http.answers import json_answer, oip_answer, problem_answer
from signalyard_router.adapters.http.docs import render
from signalyard_router.adapters.http.metrics import OTHER, HttpMetrics
from signalyard_router.adapters.http.openapi import specification
from signalyard_router.adapters.http.paths import Path
from signalyard_router.adapters.http.request_ids import RequestIds
from signalyard_router.flow.correlation import REQUEST_ID
from signalyard_router.rules.admission import CallerRates

__all__ = ["Pages", "Path", "Request", "parameters"]

_log = logging.getLogger("signalyard.http")

_MAX_PARAMETERS = 8

DOCS_HEADERS = ((b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),)
"""The page needs nothing from anywhere, and is allowed nothing."""


class Pages:
    """Answers requests. Every one gets an answer: what is not foreseen becomes the problem ``internal``, and is logged."""

    always: Sequence[Problem] = ()
    """What every path of this app may answer besides `EVERYWHERE`."""

    def __init__(
        self,
        service: str,
        paths: Mapping[str, Path],
        registry: CollectorRegistry,
        prefix: str = "signalyard_http",
        rates: CallerRates | None = None,
    ) -> None:
        self.service = service
        self.ids = RequestIds()
        self.connections: Connections | None = None
        self._rates = rates
        self.paths = {
            "/": Path("GET", self._index, "this list"),
            "/v1/openapi.json": Path("GET", self._openapi, "this description, as OpenAPI 3.1"),
            "/v1/docs": Path("GET", self._docs, "this description, to read", answer=(str,), content=("text/html",)),
            **paths,
        }
        self.metrics = HttpMetrics(
            registry,
            [
                *((path, (200, 405, *self.codes(known))) for path, known in self.paths.items()),
                (OTHER, (404, *((429,) if rates else ()))),
            ],
            prefix,
        )
        self._described: dict[str, Any] | None = None

    def codes(self, known: Path) -> dict[int, list[Problem]]:
        """The problems that a path of this app may answer with, by their status."""
        capped = () if self._rates is None or known.probe else (Problem.TOO_MANY_REQUESTS,)
        return known.codes(*self.always, *capped)

    async def answer(self, request: Request) -> Answer:
        """The answer to a request, whatever happens, and the request's id in it."""
        path = request.path
        known = self.paths.get(path)
        if known is None:
            path, known = self.find(path)
        request.id = self.ids.of(request.headers)
        REQUEST_ID.set(request.id)
        try:
            if self._rates is not None and (seconds := self._owed(self._rates, known, request)):
                text = f"it may send its next request in {seconds} s"
                details = describe(Problem.TOO_MANY_REQUESTS, text)
                answer = _refusal(known, details, ((b"retry-after", b"%d" % seconds),))
            elif known is None:
                raise error(Problem.NOT_FOUND, "GET / lists what there is")
            elif request.method != known.method:
                details = describe(Problem.METHOD_NOT_ALLOWED, f"it takes {known.method}")
                answer = _refusal(known, details, ((b"allow", known.method.encode()),))
            else:
                answer = await self.handle(known, request)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 -- whatever it is, it is answered
            answer = _failed(path if known else OTHER, known, exc)
        self.metrics.answered(path if known else OTHER, answer.status)
        return answer

    def begin(self, request: Request) -> Answer | Later | None:
        """Begin an answer where the path has a way that needs no task; else None, and nothing has been done for it."""
        known = self.paths.get(request.path)
        if (
            known is None
            or known.begin is None
            or self._rates is not None
            or request.query
            or request.method != known.method
        ):
            return None
        request.id = self.ids.of(request.headers)
        token = REQUEST_ID.set(request.id)
        answer: Answer | Later
        try:
            answer = known.begin(request)
            if isinstance(answer, Later):
                return Later(answer.done, partial(self._made, request.path, known, answer.made))
        except Exception as exc:  # noqa: BLE001 -- as in `answer`
            answer = _failed(request.path, known, exc)
        finally:
            REQUEST_ID.reset(token)
        self.metrics.answered(request.path, answer.status)
        return answer

    def _made(self, path: str, known: Path, make: Callable[[Any], Answer], done: Doing) -> Answer:
        try:
            answer = make(done)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 -- as in `answer`
            answer = _failed(path, known, exc)
        self.metrics.answered(path, answer.status)
        return answer

    def refusal(self, problem: Problem, detail: str, status: int | None) -> Answer:
        """The answer to what the connection refused before it was a request."""
        return problem_answer(describe(problem, detail), status)

    def find(self, path: str) -> tuple[str, Path | None]:
        """What is at a path that is not in `paths` by itself, and the name under which it is counted."""
        return OTHER, None

    async def handle(self, known: Path, request: Request) -> Answer:
        """Answer a request of a known path and method."""
        if request.query and not known.parameters:
            parameters(request, ())
        return await known.handler(request)

    @staticmethod
    def _owed(rates: CallerRates, known: Path | None, request: Request) -> int:
        """0 where the caller may send this request, else the whole seconds after which it may send another one."""
        if known is not None and known.probe:
            return 0
        return ceil(rates.wait(request.client, request.received) / 1e9)

    def description(self) -> dict[str, Any]:
        """The OpenAPI document of what is served, made once."""
        if self._described is None:
            self._described = specification(
                self.service, {path: (known, self.codes(known)) for path, known in self.paths.items()}, self.secured
            )
        return self._described

    @property
    def secured(self) -> bool:
        """Whether every request needs a bearer token."""
        return False

    async def _openapi(self, request: Request) -> Answer:
        return json_answer(self.description())

    async def _docs(self, request: Request) -> Answer:
        page = render(self.description())
        return Answer(200, b"text/html; charset=utf-8", page.encode(), DOCS_HEADERS)

    async def _index(self, request: Request) -> Answer:
        return json_answer(
            {
                "service": self.service,
                "paths": {f"{known.method} {path}": known.summary for path, known in self.paths.items()},
            }
        )


def _failed(path: str, known: Path | None, exc: BaseException) -> Answer:
    """The answer where there is none."""
    if isinstance(exc, SignalyardError):
        return _refusal(known, exc.details)
    if isinstance(exc, asyncio.CancelledError):
        # only the server's shutdown cancels a request, and it waits for the answer
        return _refusal(known, describe(Problem.DRAINING, "the router stopped before there was an answer"))
    # the last line: logged, counted, and answered without its text
    _log.error("event=internal_error path=%s", path, exc_info=exc)
    return _refusal(known, describe(Problem.INTERNAL))


def _refusal(known: Path | None, details: ProblemDetails, headers: Sequence[tuple[bytes, bytes]] = ()) -> Answer:
    """A problem in the form of its path."""
    if known is not None and known.oip:
        return oip_answer(details, headers)
    return problem_answer(details, headers=headers)


def parameters(request: Request, known: Collection[str]) -> dict[str, str]:
    """The query's parameters. Raises CallerError where one is unknown or there twice: it was meant to change the answer."""
    text = request.query.decode("latin-1")
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
