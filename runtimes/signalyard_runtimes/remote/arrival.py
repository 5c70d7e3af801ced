"""Waiting for a library that blocks, no longer than we mean to.

Libraries time single socket operations; a server that gives one byte every few seconds holds them for hours. So theirs is a
thread of its own, and who waits for it goes when his time is over. The thread is left to its own time-outs.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from signalyard.problems import Problem, error
from signalyard_runtimes.remote.patience import Patience

_T = TypeVar("_T")
_AHEAD = 4
_TICK_SECONDS = 0.5


class _End:
    """Nothing follows; ``exc`` where it ended by an exception."""

    def __init__(self, exc: BaseException | None = None) -> None:
        self.exc = exc


def arriving(source: Callable[[], Iterable[_T]], patience: Patience, tick: Callable[[], None]) -> Iterator[_T]:
    """What ``source`` gives, called and read on a thread of its own; ``tick`` is called about twice a second while we wait.

    Raises what it raises; ModelError: bundle_transfer_timeout, bundle_store_unreachable where nothing comes for ``patience.stall_seconds``.
    """
    arrived: queue.Queue[_T | _End] = queue.Queue(_AHEAD)
    left = threading.Event()

    def run() -> None:
        last = _End()
        try:
            for item in source():
                while not left.is_set():
                    try:
                        arrived.put(item, timeout=_TICK_SECONDS)
                        break
                    except queue.Full:
                        continue
                if left.is_set():
                    return
        except BaseException as exc:  # noqa: BLE001 - it is raised again where it is waited for
            last = _End(exc)
        while not left.is_set():
            try:
                arrived.put(last, timeout=_TICK_SECONDS)
                return
            except queue.Full:
                continue

    threading.Thread(target=run, name="bundle-transfer", daemon=True).start()
    try:
        while True:
            item = _take(arrived, patience, tick)
            if isinstance(item, _End):
                if item.exc is not None:
                    raise item.exc
                return
            yield item
    finally:
        left.set()


def answer(call: Callable[[], _T], patience: Patience, tick: Callable[[], None]) -> _T:
    """What one call gives. Raises as :func:`arriving` does."""
    return next(iter(arriving(lambda: [call()], patience, tick)))


def _take(arrived: "queue.Queue[_T | _End]", patience: Patience, tick: Callable[[], None]) -> "_T | _End":
    waited = 0.0
    while True:
        seconds = min(_TICK_SECONDS, patience.remaining, patience.stall_seconds - waited)
        try:
            return arrived.get(timeout=seconds)
        except queue.Empty:
            tick()
        waited += seconds
        if waited >= patience.stall_seconds:
            raise error(Problem.BUNDLE_STORE_UNREACHABLE, f"nothing arrived for {patience.stall_seconds:g} s")
