"""What a request says in its headers."""

import re
from collections.abc import Iterable

from signalyard.problems import Problem, error
from signalyard.wire import BUDGET_HEADER
from signalyard_router.wire.tensors_json import BINARY_HEADER

MAX_BUDGET_US = 3_600_000_000
"""The largest budget a caller may state: an hour, in microseconds."""

_BUDGET = BUDGET_HEADER.encode()
_JSON_BYTES = BINARY_HEADER.encode()
_DIGITS = re.compile(rb"[0-9]{1,10}")
_JSON = b"application/json"


def remaining(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """How long the caller still waits, in nanoseconds, or None where it does not say.

    Raises CallerError: unsupported_media_type where the body is said to be anything but plain JSON, invalid_budget.
    """
    budget: int | None = None
    for name, value in headers:
        if name == b"content-type":
            if value != _JSON and value.partition(b";")[0].strip().lower() != _JSON:
                raise error(
                    Problem.UNSUPPORTED_MEDIA_TYPE,
                    f"the body must be application/json, it is said to be {_shown(value)}",
                )
        elif name == b"content-encoding":
            if value.lower() != b"identity":
                raise error(
                    Problem.UNSUPPORTED_MEDIA_TYPE, f"the body must not be encoded, it is said to be {_shown(value)}"
                )
        elif name == _BUDGET:
            budget = _nanoseconds(value, budget)
    return budget


def of_inference(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int | None, int | None]:
    """The same of an inference call, whatever type its body is said to have, and how many bytes of the body are JSON, None for all.

    Raises CallerError: unsupported_media_type where the body is encoded, invalid_budget, invalid_inference.
    """
    budget: int | None = None
    json_bytes: int | None = None
    for name, value in headers:
        if name == _BUDGET:
            budget = _nanoseconds(value, budget)
        elif name == _JSON_BYTES:
            if not _DIGITS.fullmatch(value):
                text = f"{BINARY_HEADER} is the number of bytes of JSON in the body, not {_shown(value)}"
                raise error(Problem.INVALID_INFERENCE, text)
            json_bytes = int(value)
        elif name == b"content-encoding" and value.lower() != b"identity":
            text = f"the body must not be encoded, it is said to be {_shown(value)}"
            raise error(Problem.UNSUPPORTED_MEDIA_TYPE, text)
    return budget, json_bytes


def _nanoseconds(value: bytes, before: int | None) -> int:
    """The budget that a header says; ``before`` is what another one said."""
    microseconds = int(value) if _DIGITS.fullmatch(value) else 0
    if not 0 < microseconds <= MAX_BUDGET_US or before is not None:
        raise error(
            Problem.INVALID_BUDGET,
            f"{BUDGET_HEADER} is one whole number of microseconds from 1 to {MAX_BUDGET_US}, not "
            + (_shown(value) if before is None else "two"),
        )
    return microseconds * 1_000


def _shown(value: bytes) -> str:
    return repr(value[:60].decode("latin-1"))
