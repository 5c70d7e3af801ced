"""What is in a message. Pure: frames in, frames out.

A request is ``[version, kind, id, budget, body]`` behind the identity that a ROUTER socket puts before it, its answer ``[version, kind,
id, body]``. The id is the asker's, any bytes up to 64; bodies are the JSON of the REST interface; the budget is digits, microseconds,
or empty. What a publisher sends is ``[topic, version, kind, body]``, in both directions.
"""

import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import msgspec

from signalyard.problems import Problem, SignalyardError, error
from signalyard.wire import Signal

VERSION = b"signalyard/1"

PREDICT, STATE, BEAT, BYE = b"predict", b"state", b"beat", b"bye"
ANSWER, PROBLEM = b"answer", b"problem"
SNAPSHOT, SIGNAL, LAST = b"snapshot", b"signal", b"last"

BEAT_TOPIC = b"~beat"
"""The topic of a publisher's signs of life; no instrument begins like that."""

MAX_ID = 64
MAX_BUDGET_US = 3_600_000_000
_BUDGET = re.compile(rb"[0-9]{1,10}")

_encode = msgspec.json.Encoder().encode


class Flaw(Enum):
    """Why a message is not taken, as it is counted."""

    MALFORMED = "malformed"
    VERSION = "version"
    OVERSIZE = "oversize"


class Request(NamedTuple):
    """A request that has the right form. ``budget`` is nanoseconds."""

    kind: bytes
    id: bytes
    budget: int | None
    body: bytes


class Refused(NamedTuple):
    """A message that has not: why, what its sender is told, and under which id."""

    flaw: Flaw
    problem: SignalyardError
    id: bytes


def read_request(frames: Sequence[bytes], max_body: int) -> Request | Refused:
    """A peer's message, without its identity."""
    id_ = frames[2] if len(frames) > 2 and len(frames[2]) <= MAX_ID else b""
    if frames and frames[0] != VERSION:
        text = f"it is of version {_shown(frames[0])}, and this is {VERSION.decode()}"
        return Refused(Flaw.VERSION, error(Problem.INVALID_REQUEST, text, "/0"), id_)
    if len(frames) != 5:
        text = f"a request is version, kind, id, budget, body; it has {len(frames)} frames"
        return Refused(Flaw.MALFORMED, error(Problem.INVALID_REQUEST, text), id_)
    _, kind, given, budget, body = frames
    if len(given) > MAX_ID:
        text = f"an id has at most {MAX_ID} bytes, it has {len(given)}"
        return Refused(Flaw.MALFORMED, error(Problem.INVALID_REQUEST, text, "/2"), id_)
    if kind not in (PREDICT, STATE, BEAT):
        text = f"a request is predict, state or beat, not {_shown(kind)}"
        return Refused(Flaw.MALFORMED, error(Problem.INVALID_REQUEST, text, "/1"), id_)
    if len(body) > max_body:
        text = f"it is {len(body)} bytes long, at most {max_body} are read"
        return Refused(Flaw.OVERSIZE, error(Problem.BODY_TOO_LARGE, text, "/4"), id_)
    if not budget:
        return Request(kind, given, None, body)
    microseconds = int(budget) if _BUDGET.fullmatch(budget) else 0
    if not 0 < microseconds <= MAX_BUDGET_US:
        text = f"a budget is a whole number of microseconds from 1 to {MAX_BUDGET_US}, or empty, not {_shown(budget)}"
        return Refused(Flaw.MALFORMED, error(Problem.INVALID_BUDGET, text, "/3"), id_)
    return Request(kind, given, microseconds * 1_000, body)


def read_published(frames: Sequence[bytes], max_body: int) -> bytes | Flaw:
    """The body of a snapshot that a publisher sent."""
    if len(frames) != 4:
        return Flaw.MALFORMED
    _, version, kind, body = frames
    if version != VERSION:
        return Flaw.VERSION
    if kind != SNAPSHOT:
        return Flaw.MALFORMED
    return Flaw.OVERSIZE if len(body) > max_body else body


def answer(id_: bytes, body: bytes) -> list[bytes]:
    """The answer to a request."""
    return [VERSION, ANSWER, id_, body]


def problem(id_: bytes, exc: SignalyardError) -> list[bytes]:
    """What a request is answered with instead; the body is a problem."""
    return [VERSION, PROBLEM, id_, _encode(exc.details)]


def beat(id_: bytes) -> list[bytes]:
    """A sign of life in return for one."""
    return [VERSION, BEAT, id_, b""]


def bye() -> list[bytes]:
    """The router stops: what it read is answered, and all else is to be asked again on another connection."""
    return [VERSION, BYE, b"", b""]


def topic(signal: Signal) -> bytes:
    """What a subscriber filters by: the instrument, a slash, the route. With the slash no instrument is the beginning of another one."""
    return f"{signal.symbol}/{signal.route}".encode()


def published(signal: Signal) -> list[bytes]:
    """A signal as it is published."""
    return [topic(signal), VERSION, SIGNAL, _encode(signal)]


def last_values(subscription: bytes, signals: Sequence[Signal]) -> list[bytes]:
    """What is published when somebody subscribes: the last signals under what it subscribed to, perhaps none. From then on it misses
    nothing; others under whose subscription it falls get it too, and have them already."""
    return [subscription, VERSION, LAST, _encode(signals)]


def published_beat() -> list[bytes]:
    """A publisher's sign of life."""
    return [BEAT_TOPIC, VERSION, BEAT, b""]


def _shown(frame: bytes) -> str:
    return repr(frame[:40].decode("latin-1"))
