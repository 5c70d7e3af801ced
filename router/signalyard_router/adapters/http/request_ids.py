"""The id of a request: the caller's, where it gives a sane one, else the router's own."""

import re
from collections.abc import Iterable
from itertools import count

from signalyard._server.request import ID_HEADER

_SANE = re.compile(rb"[!-~]{1,64}")
"""Printable and without spaces: it goes into log lines and records as it is."""


class RequestIds:
    """Gives every request its id. ``prefix`` tells this process's own ids from those of every other one."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._numbers = count(1)

    def of(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """The id of the request with these headers."""
        for name, value in headers:
            if name == ID_HEADER:
                if _SANE.fullmatch(value):
                    return value.decode("ascii")
                break
        return f"{self._prefix}-{next(self._numbers)}"
