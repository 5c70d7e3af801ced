"""What is going on, on stderr: a step that takes over two seconds says so while it runs, and how long it took."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

_QUIET_SECONDS = 2.0


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Print ``what`` once it has taken two seconds, and the whole time at its end."""
    began = time.monotonic()
    timer = threading.Timer(_QUIET_SECONDS, _say, [f"{what} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        took = time.monotonic() - began
        if took >= _QUIET_SECONDS:
            _say(f"{what}: {took:.0f} s")


def _say(text: str) -> None:
    print(f"cluster: {text}", file=sys.stderr, flush=True)
