"""Commands that are run to their end."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


class CommandError(Exception):
    """A command failed, or took too long; the text has what it said last."""


def run(
    command: Sequence[object],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str | None = None,
) -> str:
    """Its standard output. ``timeout`` is in seconds. Raises CommandError."""
    argv = [str(part) for part in command]
    try:
        done = subprocess.run(argv, timeout=timeout, env=env, cwd=cwd, input=stdin, text=True, capture_output=True)
    except subprocess.TimeoutExpired as exc:
        raise CommandError(f"{' '.join(argv)} did not end within {timeout:g} s") from exc
    except FileNotFoundError as exc:
        raise CommandError(f"{argv[0]} is not there") from exc
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise CommandError(f"{' '.join(argv)} failed with {done.returncode}:\n{said}")
    return done.stdout
