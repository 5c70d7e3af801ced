"""An ASGI app, asked for the whole answer to a whole request."""

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any

from signalyard._server.answer import Answer
from signalyard._server.request import Request
from signalyard_runtimes.mlserver.rest import App

_log = logging.getLogger("signalyard.serve")


async def call(app: App, request: Request) -> Answer:
    """What ``app`` answers, once it has answered all of it. Raises what the app raises before its answer is whole."""
    given = {"type": "http.request", "body": request.body, "more_body": False}
    asked_again = False
    begun: MutableMapping[str, Any] | None = None
    parts: list[bytes] = []
    whole = False

    async def receive() -> MutableMapping[str, Any]:
        nonlocal asked_again
        if asked_again:  # who asks on wants to hear of the client's going, which nobody waits for here
            await asyncio.Event().wait()
        asked_again = True
        return given

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal begun, whole
        if message["type"] == "http.response.start":
            begun = message
        else:
            parts.append(message.get("body", b""))
            whole = not message.get("more_body", False)

    try:
        await app(_scope(request), receive, send)
    except Exception:
        # Starlette answers an unforeseen error, and raises it on for the server to log.
        if not whole:
            raise
        _log.exception("the application failed at %s", request.path)
    if begun is None or not whole:
        raise RuntimeError(f"the application gave no whole answer at {request.path}")
    content_type, headers = b"", []
    for header, value in begun["headers"]:
        name = header.lower()  # prometheus_client's have capitals
        if name == b"content-type":
            content_type = value
        elif name != b"content-length":
            headers.append((name, value))
    return Answer(begun["status"], content_type or b"application/octet-stream", b"".join(parts), headers)


def _scope(request: Request) -> MutableMapping[str, Any]:
    return {
        "type": "http",
        # From this version on a stream is not watched for the client's going.
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "method": request.method,
        "path": request.path,
        "raw_path": request.path.encode(),
        "query_string": request.query,
        "root_path": "",
        "headers": request.headers,
        "client": (request.client, 0),
        "server": None,
    }
