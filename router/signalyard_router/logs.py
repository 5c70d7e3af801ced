"""The log: one line an event, for people or for machines.

Messages are written as ``event=name key=%s ...``. As text they are just that; as JSON the keys become fields. An exception
is told by its type and its way through the code. Its text is left out, and so are all but the first lines that libraries
write: both may quote what a caller sent, and features and secrets do not belong in a log.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import msgspec

from signalyard_router.flow.correlation import REQUEST_ID

Format = Literal["text", "json"]

_PAIR = re.compile(r"""(?:(\w+)=("[^"]*"|\S+)|(%s))(?:\s+|$)""")
_PLACE = re.compile(r"%[-+ #0]*\d*(?:\.\d+)?[sdgfrixX]")
_ESCAPES = {number: f"\\x{number:02x}" for number in (*range(32), 127, 0x85, 0x2028, 0x2029)} | {
    10: "\\n",
    13: "\\r",
    9: "\\t",
}
_JSON_ESCAPES = {number: f"\\u{number:04x}" for number in (127, 0x85, 0x2028, 0x2029)}
_SHOWN_FRAMES = 12


def configure(format_: Format, level: str, stream: TextIO | None = None) -> None:
    """Log everything from ``level`` up to ``stream``, standard error if not given, in place of what was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format_ == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class TextFormatter(logging.Formatter):
    """``time level logger event=... key=value``, and the request's id and the exception at the end, all in one line."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [self.formatTime(record), record.levelname, record.name, _message(record)]
        if request_id := REQUEST_ID.get():
            parts.append(f"request_id={request_id}")
        if exception := _exception(record):
            kind, way = exception
            parts.append(f'exception={kind} way="{way}"')
        return " ".join(parts).translate(_ESCAPES)


class JsonFormatter(logging.Formatter):
    """An object a line: ``ts`` (UTC, seconds), ``level``, ``logger``, ``event``, its fields, ``request_id``, ``exception``, ``way``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"ts": record.created, "level": record.levelname.lower(), "logger": record.name}
        for name, value in _fields(record).items():
            line.setdefault(name, value)
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        if exception := _exception(record):
            line["exception"], line["way"] = exception
        return msgspec.json.encode(line).decode().translate(_JSON_ESCAPES)


def _message(record: logging.LogRecord) -> str:
    text = record.getMessage()
    return text if record.name.startswith("signalyard") else text.split("\n", 1)[0]


def _exception(record: logging.LogRecord) -> tuple[str, str] | None:
    """Its type, with those of its causes, and the way through the code, outermost frame first."""
    exc = record.exc_info[1] if record.exc_info else None
    if exc is None:
        return None
    frames = traceback.extract_tb(exc.__traceback__)[-_SHOWN_FRAMES:]
    way = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return " from ".join(type(each).__name__ for each in _causes(exc)), way


def _causes(exc: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    following: BaseException | None = exc
    while following is not None and following not in seen:
        seen.append(following)
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)
    yield from seen


# Fields ------------------------------------------------------------------------------------------------------------------


class _Field(NamedTuple):
    """A key of a message's template, the template of its value, and how many arguments that takes.

    Without a key the argument is pairs itself."""

    name: str
    template: str
    arguments: int


@lru_cache(maxsize=512)
def _template(text: str) -> tuple[_Field, ...] | None:
    """The fields of a template, or None where it is not written as pairs."""
    fields: list[_Field] = []
    end = 0
    for match in _PAIR.finditer(text):
        if match.start() != end:
            return None
        end = match.end()
        value = (match[2] or match[3]).removeprefix('"').removesuffix('"')
        fields.append(_Field(match[1] or "", value, len(_PLACE.findall(value))))
    return tuple(fields) if fields and end == len(text) else None


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """The event's fields; a message that is not written as pairs is the field ``message``."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    fields = _template(record.msg) if isinstance(record.msg, str) else None
    if fields is None or sum(field.arguments for field in fields) != len(arguments):
        return {"event": "message", "message": _message(record)}
    found: dict[str, Any] = {}
    rest = iter(arguments)
    for field in fields:
        taken = tuple(next(rest) for _ in range(field.arguments))
        if not field.name:
            found |= {pair[1]: pair[2] for pair in _PAIR.finditer(str(taken[0])) if pair[1]}
        elif field.arguments == 1 and _PLACE.fullmatch(field.template) and isinstance(taken[0], int | float | None):
            found[field.name] = taken[0]
        else:
            found[field.name] = _plain(field.template % taken)
    return found


def _plain(text: str) -> str:
    """Text that was quoted as JSON for the sake of one line, as it was."""
    if not text.startswith('"'):
        return text
    try:
        return msgspec.json.decode(text, type=str)
    except msgspec.DecodeError:
        return text
