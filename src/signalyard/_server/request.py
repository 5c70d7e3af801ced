"""A request that was read whole."""

from collections.abc import Sequence
from urllib.parse import unquote

import httptools
import msgspec

from signalyard._remembering import remembered

ID_HEADER = b"x-request-id"
"""Carries a request's id, both ways."""


class Request(msgspec.Struct, eq=False, gc=False):
    """One request. ``received`` is the monotonic time of its last byte, nanoseconds; ``client`` the address that it came from.

    ``path`` is decoded, ``query`` is not; the names of ``headers`` are in lower case. ``id`` is set by whoever answers, ``who`` where
    a token proved it.
    """

    method: str
    path: str
    query: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes = b""
    received: int = 0
    client: str = ""
    keep_alive: bool = True
    id: str = ""
    who: str | None = None


@remembered(longest=1024, most=1024)
def split_target(url: bytes) -> tuple[str, bytes]:
    """The path, decoded, and the query of a request's target. Raises httptools' HttpParserError, UnicodeDecodeError."""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return (unquote(path) if "%" in path else path), parsed.query or b""
