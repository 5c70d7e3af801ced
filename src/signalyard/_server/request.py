"""A request that was read whole."""

from collections.abc import Sequence
from functools import lru_cache
from urllib.parse import unquote

import httptools

ID_HEADER = b"x-request-id"
"""Carries a request's id, both ways."""


class Request:
    """One request. ``received`` is the monotonic time of its last byte, nanoseconds; ``client`` the address that it came from.

    ``path`` is decoded, ``query`` is not; the names of ``headers`` are in lower case. ``id`` is set by whoever answers, ``who`` where
    a token proved it.
    """

    __slots__ = ("body", "client", "headers", "id", "keep_alive", "method", "path", "query", "received", "who")

    def __init__(
        self,
        method: str,
        path: str,
        query: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        received: int = 0,
        client: str = "",
        *,
        keep_alive: bool = True,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.received = received
        self.client = client
        self.keep_alive = keep_alive
        self.id = ""
        self.who: str | None = None


_MOST_REMEMBERED = 1024
"""Bytes, and targets; long ones, of which there is no end, are parsed each time."""


def split_target(url: bytes) -> tuple[str, bytes]:
    """The path, decoded, and the query of a request's target. Raises httptools' HttpParserError, UnicodeDecodeError."""
    return _remembered(url) if len(url) <= _MOST_REMEMBERED else _split(url)


def _split(url: bytes) -> tuple[str, bytes]:
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return (unquote(path) if "%" in path else path), parsed.query or b""


_remembered = lru_cache(maxsize=_MOST_REMEMBERED)(_split)
