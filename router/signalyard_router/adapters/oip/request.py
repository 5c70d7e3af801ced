"""Requests to a model server as bytes, prepared as far as a model, its version and an endpoint determine them."""

from urllib.parse import quote

from signalyard.wire import BUDGET_HEADER
from signalyard_router.rules.route import Endpoint

_BUDGET = f"{BUDGET_HEADER}: ".encode()


def infer_head(model: str, version: str, endpoint: Endpoint) -> bytes:
    """The head of every inference request to a version at an endpoint, as far as the length of the body."""
    lines = _lines("POST", model, version, "/infer", endpoint)
    return f"{lines}content-type: application/json\r\ncontent-length: ".encode()


def infer_request(head: bytes, body: bytes) -> bytes:
    """An inference request without its budget, which :func:`at_budget` adds when it is sent."""
    return b"%b%d\r\n" % (head, len(body))


def metadata_request(model: str, version: str | None, endpoint: Endpoint) -> bytes:
    """A request for the metadata of a version, or of whichever the server would use, without its budget."""
    return _lines("GET", model, version, "", endpoint).encode()


def at_budget(head: bytes, microseconds: int, body: bytes) -> bytes:
    """The whole request: ``head`` with the time that remains of the call, then ``body``, for one write."""
    return b"%b%b%d\r\n\r\n%b" % (head, _BUDGET, microseconds, body)


def _lines(method: str, model: str, version: str | None, verb: str, endpoint: Endpoint) -> str:
    # quoted, so that no name in a document can end a line of the request
    path = f"/v2/models/{quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{quote(version, safe='')}"
    host = quote(str(endpoint), safe=":[]")
    return f"{method} {path}{verb} HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\naccept: application/json\r\n"
