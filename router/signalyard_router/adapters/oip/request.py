"""Requests to a model server as bytes, prepared as far as a target determines them."""

from urllib.parse import quote

from signalyard.wire import BUDGET_HEADER
from signalyard_router.rules.route import Target

_BUDGET = f"{BUDGET_HEADER}: ".encode()


def endpoint_of(target: Target) -> str:
    """The target's endpoint as ``host:port``, an IPv6 address in brackets."""
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{target.port}"


def infer_head(target: Target) -> bytes:
    """The head of every inference request to ``target``, as far as the length of the body."""
    lines = _lines("POST", target, "/infer")
    return f"{lines}content-type: application/json\r\ncontent-length: ".encode()


def infer_request(head: bytes, body: bytes) -> bytes:
    """An inference request without its budget, which :func:`at_budget` adds when it is sent."""
    return b"%b%d\r\n" % (head, len(body))


def metadata_request(target: Target) -> bytes:
    """A request for the metadata of the target's version, without its budget."""
    return _lines("GET", target, "").encode()


def at_budget(head: bytes, microseconds: int, body: bytes) -> bytes:
    """The whole request: ``head`` with the time that remains of the call, then ``body``, for one write."""
    return b"%b%b%d\r\n\r\n%b" % (head, _BUDGET, microseconds, body)


def _lines(method: str, target: Target, verb: str) -> str:
    # quoted, so that no name in a document can end a line of the request
    path = f"/v2/models/{quote(target.model, safe='')}/versions/{quote(target.version, safe='')}{verb}"
    host = quote(endpoint_of(target), safe=":[]")
    return f"{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: keep-alive\r\naccept: application/json\r\n"
