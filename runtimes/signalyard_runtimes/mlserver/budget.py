"""How long the caller of the current request still waits: noted where the request arrives, asked where it would be scored."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter

import msgspec

from signalyard.problems import Problem, error
from signalyard.wire import BUDGET_HEADER

_MOST_DIGITS = 15


class Call(msgspec.Struct, frozen=True, gc=False):
    """One request; both times in seconds of ``perf_counter``, ``expires`` None where the caller set no limit."""

    arrived: float
    expires: float | None = None

    def check(self) -> None:
        """Raises RouterError (deadline_exceeded) where nobody waits for the answer any more."""
        if self.expires is not None:
            late = perf_counter() - self.expires
            if late >= 0:
                raise error(
                    Problem.DEADLINE_EXCEEDED, f"dropped unscored: the budget had run out {late * 1e6:.0f} us before"
                )


_current: ContextVar[Call | None] = ContextVar("signalyard_call", default=None)


def current() -> Call:
    """The call that this task serves; one that arrives now, where nobody has noted it."""
    return _current.get() or Call(perf_counter())


@contextmanager
def serving(seconds: float | None) -> Iterator[None]:
    """Note that a request has arrived, and how many seconds its caller waits."""
    now = perf_counter()
    token = _current.set(Call(now, None if seconds is None else now + seconds))
    try:
        yield
    finally:
        _current.reset(token)


def parse(value: bytes) -> float:
    """The budget header's value in seconds. Raises CallerError (invalid_budget)."""
    if not value.isdigit() or len(value) > _MOST_DIGITS or int(value) == 0:
        shown = value[:40].decode("latin-1")
        raise error(
            Problem.INVALID_BUDGET, f"{BUDGET_HEADER} must be a positive whole number of microseconds, not {shown!r}"
        )
    return int(value) / 1e6
