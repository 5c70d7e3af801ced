"""What goes wrong between the router and a model server, and which problem each of it is.

    WireError
    ├── ExpiredError       the time of the call ran out, wherever it was
    ├── ConnectError       no connection could be opened
    ├── EndedError         the connection ended before the whole answer was there
    ├── UnreadableError    what came is no answer: not HTTP, too large, or not text
    └── StatusError        a whole answer came, and its status is not 200

These stay inside the adapter; :func:`problem_of` is the only place where they become problems.
"""

import msgspec

from signalyard import oip
from signalyard.problems import ModelError, Problem

_SHOWN = 200
_error_decoder = msgspec.json.Decoder(oip.ErrorBody)


class WireError(Exception):
    """The root of what the connections and pools raise."""


class ExpiredError(WireError):
    """The time of the call ran out."""


class ConnectError(WireError):
    """No connection could be opened."""


class EndedError(WireError):
    """The connection ended before the whole answer was there; ``answering`` says whether a part of it was."""

    def __init__(self, message: str, *, answering: bool) -> None:
        super().__init__(message)
        self.answering = answering


class UnreadableError(WireError):
    """What came is no answer."""


class StatusError(WireError):
    """A whole answer came, and its status is not 200."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.body = body


_BY_STATUS: dict[int, Problem] = {
    404: Problem.MODEL_UNKNOWN,
    429: Problem.MODEL_OVERLOADED,
    503: Problem.MODEL_OVERLOADED,
    504: Problem.MODEL_TIMEOUT,
}


def problem_of(failure: WireError) -> ModelError:
    """The problem that a failure of the wire is."""
    match failure:
        case ExpiredError():
            return ModelError(Problem.MODEL_TIMEOUT, str(failure))
        case StatusError(status=status, body=body):
            code = _BY_STATUS.get(status, Problem.MODEL_FAILED)
            return ModelError(code, f"status {status}: {_text(body)}".removesuffix(": "))
        case UnreadableError() | EndedError(answering=True):
            return ModelError(Problem.MODEL_ANSWER_MALFORMED, str(failure))
        case _:
            return ModelError(Problem.MODEL_UNREACHABLE, str(failure))


def _text(body: bytes) -> str:
    """The first printable characters of an error's text; a server's answer goes into logs and records, so nothing else."""
    try:
        text = _error_decoder.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # four bytes make a character at most, and white space and control characters may be plenty
        text = body[: 16 * _SHOWN].decode(errors="replace")
    printable = "".join(character if character.isprintable() else " " for character in text[: 16 * _SHOWN])
    return " ".join(printable.split())[:_SHOWN]
