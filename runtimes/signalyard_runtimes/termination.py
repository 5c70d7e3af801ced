"""Why a container ended, in the one line that Kubernetes shows: its termination message."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from signalyard.problems import Problem, SignalyardError

VARIABLE = "SIGNALYARD_TERMINATION_LOG"
"""The variable that names the file; Kubernetes's own default is taken where there is none."""

_DEFAULT = Path("/dev/termination-log")
_LONGEST = 4096  # bytes; Kubernetes shows no more


@contextmanager
def reporting(environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Leave an error raised inside as the termination message, and let it go on."""
    try:
        yield
    except SignalyardError as exc:
        _leave(str(exc), environ)
        raise
    except Exception as exc:
        # Its text may hold anything; the log has it.
        _leave(f"{Problem.INTERNAL}: {type(exc).__name__}", environ)
        raise


def _leave(text: str, environ: Mapping[str, str]) -> None:
    named = environ.get(VARIABLE)
    file = Path(named) if named else _DEFAULT
    if not named and not file.exists():
        return
    line = " ".join(text.split()).encode()[:_LONGEST]
    try:
        file.write_bytes(line)
    except OSError as exc:
        # The error itself is on its way to the log; that it could not be left here belongs beside it.
        print(f"signalyard: {file} cannot be written: {exc.strerror}", file=sys.stderr)
