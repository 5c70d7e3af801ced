"""MLServer's REST app with our edge around it: readiness, the caller's budget, and one form for every error."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from mlserver.handlers import DataPlane, ModelRepositoryHandlers
from mlserver.rest.app import create_app
from mlserver.settings import Settings
from starlette.exceptions import HTTPException
from starlette.routing import Route

from signalyard.oip import ErrorBody
from signalyard.problems import Problem, SignalyardError, error, escape_pointer
from signalyard.wire import BUDGET_HEADER
from signalyard_runtimes.mlserver import budget
from signalyard_runtimes.mlserver.changing import Changing, check, version_in
from signalyard_runtimes.mlserver.errors import status, to_mlserver
from signalyard_runtimes.mlserver.readiness import Readiness

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_BUDGET_HEADER = BUDGET_HEADER.encode()

INTERNAL = f"{Problem.INTERNAL}: the server failed in a way that it should not; its log says more"
"""What a caller is told of an error that nobody foresaw."""


def rest_app(
    settings: Settings,
    data_plane: DataPlane,
    handlers: ModelRepositoryHandlers,
    readiness: Readiness,
    changing: Changing = Changing.OFF,
) -> App:
    """What the HTTP server runs."""
    app: FastAPI = create_app(settings, data_plane, handlers)
    # Before MLServer's own, which read no body and so know no version.
    for verb, change in (("load", handlers.load), ("unload", handlers.unload)):
        path = f"/v2/repository/models/{{model_name}}/{verb}"
        app.router.routes.insert(0, Route(path, _change(change, changing), methods=["POST"]))
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _internal)
    return _edge(app, readiness)


def _edge(app: App, readiness: Readiness) -> App:
    async def edge(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            if not readiness.open and scope["path"].endswith("/ready"):
                raise error(Problem.NOT_READY, readiness.reason)
            seconds = next((budget.parse(value) for name, value in scope["headers"] if name == _BUDGET_HEADER), None)
        except SignalyardError as exc:
            await _send_error(send, status(exc.problem), str(exc))
            return
        with budget.serving(seconds):
            await app(scope, receive, send)

    return edge


def _change(change: Callable[..., Awaitable[bool]], changing: Changing) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            check(changing, request.client.host if request.client else "")
            version = version_in(await request.body())
        except SignalyardError as exc:
            raise to_mlserver(exc) from exc
        await change(request.path_params["model_name"], version)
        return Response(status_code=200)

    return endpoint


async def _send_error(send: Send, code: int, text: str) -> None:
    body = _body(text)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _body(text: str) -> bytes:
    return msgspec.json.encode(ErrorBody(error=text))


def _answer(code: int, text: str) -> Response:
    return Response(_body(text), status_code=code, media_type="application/json")


async def _invalid(_: Request, exc: Exception) -> Response:
    """What pydantic found, in one line that names the first place."""
    assert isinstance(exc, RequestValidationError)
    found = exc.errors()[0]
    if found["type"] == "json_invalid":
        return _answer(status(Problem.MALFORMED_BODY), str(error(Problem.MALFORMED_BODY, found["ctx"]["error"])))
    # pydantic counts the body itself as the first step
    pointer = "".join(f"/{escape_pointer(step)}" for step in found["loc"][1:])
    return _answer(status(Problem.INVALID_SNAPSHOT), str(error(Problem.INVALID_SNAPSHOT, found["msg"], pointer)))


async def _http(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return _answer(exc.status_code, exc.detail)


async def _internal(_: Request, exc: Exception) -> Response:
    """The traceback goes to the log, which Starlette sees to, and never to the client."""
    return _answer(500, INTERNAL)
