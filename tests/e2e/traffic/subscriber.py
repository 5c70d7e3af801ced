"""A reader of the signals that left, beside the client that asked for them."""

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_PATIENCE = 30.0


class Subscriber:
    """``command`` prints the newest record of a router's journal and those that follow, one a line, until it is ended: that is when
    this is left."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._log = log

    def __enter__(self) -> "Subscriber":
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, env=self._environment, start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise

    def follows(self) -> bool:
        """Whether it has begun, and so misses nothing that is written from now on."""
        return b"\n" in self._log.read_bytes()

    def signals(self) -> list[dict[str, Any]]:
        """The records of signals, as they came."""
        whole = self._log.read_bytes()
        records = [json.loads(line) for line in whole[: whole.rfind(b"\n") + 1].splitlines()]
        return [record for record in records if record["kind"] == "decision" and record["outcome"] == "emitted"]

    def await_signals(self, names: set[str], timeout: float = _PATIENCE) -> None:
        """Wait until all of them came. Raises TimeoutError."""
        until = time.monotonic() + timeout
        while missing := names - {signal["signal_id"] for signal in self.signals()}:
            if time.monotonic() > until:
                raise TimeoutError(f"{len(missing)} signals did not come, such as {min(missing)}")
            time.sleep(0.1)
