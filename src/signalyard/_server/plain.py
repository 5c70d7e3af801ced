"""A request in its plain form, read without a parser: nearly every client sends nothing else.

The form is a part of HTTP/1.1 of which nobody can think otherwise, whole and alone in one read. Whatever is not of it, wrong or only
rare, is httptools' to read. A client sends the same head again and again, and many the same lines, so each is looked at once; to
call back for every part of every request took a seventh of the time of an answer.
"""

import re
from functools import lru_cache
from typing import NamedTuple

import httptools

from signalyard._server.bounds import ConnectionSettings
from signalyard._server.request import Request, split_target

_MOST_HEAD = 4096
"""Bytes; the lines of longer ones would be too much to keep."""

_KNOWN_LINES = 1024
_KNOWN_HEADS = 256
_LINE_END = b"\r\n"
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length"
_FIRST = re.compile(rb"(GET|POST) (/[!-~]*) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([!-~][\t -~]*)")
_DIGITS = re.compile(rb"[0-9]{1,15}")
_RARE = frozenset((b"transfer-encoding", b"upgrade", b"expect", b"proxy-connection"))
"""Fields that change what follows them."""


class _Head(NamedTuple):
    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    length: int
    """Of the body."""


def read(data: bytes, settings: ConnectionSettings) -> Request | None:
    """The one request that ``data`` is; None where it is anything else, or too large."""
    end = data.find(_HEAD_END)
    if not 0 < end < _MOST_HEAD or end >= settings.max_header_bytes:
        return None
    head = _head(data[:end])
    if head is None:
        return None
    method, path, query, headers, length = head
    begin = end + 4
    if len(data) - begin != length or length > settings.max_body_bytes:
        return None
    return Request(method, path, query, headers, data[begin:])


@lru_cache(maxsize=_KNOWN_HEADS)
def _head(head: bytes) -> _Head | None:
    """What stands before the body, without the end of its last line."""
    lines = head.split(_LINE_END)
    first = _first(lines[0])
    if first is None:
        return None
    headers = []
    length = -1
    for line in lines[1:]:
        header = _header(line)
        if header is None:
            return None
        if header[0] == _LENGTH:
            if length >= 0:
                return None
            length = int(header[1])
        headers.append(header)
    return _Head(*first, tuple(headers), max(length, 0))


@lru_cache(maxsize=_KNOWN_LINES)
def _first(line: bytes) -> tuple[str, str, bytes] | None:
    """The method, the path and the query."""
    found = _FIRST.fullmatch(line)
    if found is None:
        return None
    try:
        return found[1].decode("ascii"), *split_target(found[2])
    except (httptools.HttpParserError, UnicodeDecodeError):
        return None


@lru_cache(maxsize=_KNOWN_LINES)
def _header(line: bytes) -> tuple[bytes, bytes] | None:
    """A field's name in lower case and its value."""
    found = _FIELD.fullmatch(line)
    if found is None or line[-1] in b" \t":
        return None
    name, value = found[1].lower(), found[2]
    if name in _RARE or (name == b"connection" and value.lower() != b"keep-alive"):
        return None
    if name == _LENGTH and _DIGITS.fullmatch(value) is None:
        return None
    return name, value
