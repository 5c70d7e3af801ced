"""The entries of the stream, as a router reads and writes them. Pure."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from signalyard._redis.connection import Command
from signalyard._redis.keys import VERSION, Keys
from signalyard.problems import Problem, ProblemDetails, error

_SANE = re.compile(rb"[!-~]{1,64}")
"""A correlation id: it goes into log lines and records as it is."""
_REPLY = re.compile(rb"[!-~]{1,256}")
_MOST_BUDGET_US = 3_600_000_000
_SHOWN_BYTES = 64 * 1024
"""How much of a body is kept of an entry that was set aside."""


class Kind(StrEnum):
    """What an entry asks for."""

    PREDICT = "predict"
    STATE = "state"


class Entry(NamedTuple):
    """An entry as it was delivered; ``fields`` is None where the stream has it no longer. ``deliveries`` counts this one."""

    id: bytes
    fields: Mapping[bytes, bytes] | None
    deliveries: int = 1


class Request(msgspec.Struct, frozen=True, gc=False):
    """What an entry says. ``remaining``: how many nanoseconds the caller waits from the moment its turn comes, None where it does not
    say; ``reply``: the stream for the answer, None where nobody waits for one."""

    kind: Kind
    body: bytes
    id: str
    reply: bytes | None
    remaining: int | None


def read_request(entry: Entry, keys: Keys, max_body: int) -> Request:
    """What an entry asks for. Raises CallerError: invalid_request, with a pointer to the field; body_too_large."""
    fields = entry.fields or {}
    version = fields.get(b"v")
    if version != VERSION:
        given = "missing" if version is None else f"{_shown(version)}"
        raise error(Problem.INVALID_REQUEST, f"the field v is {given}, and this router reads version 1", "/v")
    body = fields.get(b"body")
    if body is None:
        raise error(
            Problem.INVALID_REQUEST, "the field body is missing: the JSON of a snapshot, or of several", "/body"
        )
    if len(body) > max_body:
        raise error(Problem.BODY_TOO_LARGE, f"the body has {len(body)} bytes, at most {max_body} are taken", "/body")
    try:
        kind = Kind(fields.get(b"kind", b"predict").decode())
    except ValueError as exc:
        text = f"the field kind is predict or state, not {_shown(fields[b'kind'])}"
        raise error(Problem.INVALID_REQUEST, text, "/kind") from exc
    return Request(kind, body, _id(entry, fields), reply_key(entry, keys), _remaining(fields))


def reply_key(entry: Entry, keys: Keys) -> bytes | None:
    """The stream that an entry wants its reply on. Raises CallerError (invalid_request) where it is none for replies."""
    reply = (entry.fields or {}).get(b"reply")
    if reply is None:
        return None
    if not reply.startswith(keys.replies.encode()) or not _REPLY.fullmatch(reply):
        text = f"the field reply is a key that begins with {keys.replies}, of at most 256 printable characters, not {_shown(reply)}"
        raise error(Problem.INVALID_REQUEST, text, "/reply")
    return reply


def answer(key: bytes, request_id: bytes, field: str, body: bytes, most: int) -> Command:
    """The command that writes a reply: ``field`` is ``body``, or ``problem``."""
    return ("XADD", key, "MAXLEN", "~", most, "*", "v", VERSION, "id", request_id, field, body)


def set_aside(entry: Entry, problem: ProblemDetails, keys: Keys, most: int) -> Command:
    """The command that keeps an entry for people, with the reason; of a large body only its beginning."""
    fields = entry.fields or {}
    kept: list[str | bytes | int] = ["XADD", keys.rejected, "MAXLEN", "~", most, "*"]
    kept += ["entry", entry.id, "reason", str(problem.code), "detail", problem.detail, "pointer", problem.pointer]
    kept += ["deliveries", entry.deliveries]
    for name in (b"v", b"kind", b"id", b"reply", b"budget_us", b"body"):
        if name in fields:
            kept += [name, fields[name][:_SHOWN_BYTES]]
    return tuple(kept)


def entries(answer: Any, deliveries: Mapping[bytes, int] | None = None) -> list[Entry]:
    """The entries of one stream in the answer to XREADGROUP or XREAD, or of XAUTOCLAIM's; none where it is nil."""
    found = answer[0][1] if answer else []
    return [made(item, deliveries) for item in found]


def made(item: Sequence[Any], deliveries: Mapping[bytes, int] | None = None) -> Entry:
    """One entry of such a list."""
    number, flat = item
    fields = None if flat is None else dict(zip(flat[::2], flat[1::2], strict=True))
    return Entry(number, fields, 1 if deliveries is None else deliveries.get(number, 1))


def _id(entry: Entry, fields: Mapping[bytes, bytes]) -> str:
    given = fields.get(b"id")
    return (entry.id if given is None or not _SANE.fullmatch(given) else given).decode("ascii")


def _remaining(fields: Mapping[bytes, bytes]) -> int | None:
    given = fields.get(b"budget_us")
    if given is None:
        return None
    if not given.isdigit() or len(given) > 10 or not 0 < int(given) <= _MOST_BUDGET_US:
        text = f"the field budget_us is a whole number of microseconds from 1 to {_MOST_BUDGET_US}, not {_shown(given)}"
        raise error(Problem.INVALID_BUDGET, text, "/budget_us")
    return int(given) * 1_000


def _shown(raw: bytes) -> str:
    return repr(raw[:60].decode(errors="replace"))
