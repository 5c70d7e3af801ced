"""Long-running programs inside the node's namespaces: started, looked at, killed by name."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.commands import CommandError
from cluster.namespaces import Namespaces
from cluster.progress import step


@dataclass(frozen=True)
class Service:
    """A program with its arguments. Its log and the file with its id (as the node sees it) bear its ``name``."""

    name: str
    command: Sequence[object]
    env: Mapping[str, str] = field(default_factory=dict)


class Services:
    """The services of one node. ``pids`` holds one file a service, so that another process can kill what this one started."""

    def __init__(self, namespaces: Namespaces, pids: Path, logs: Path) -> None:
        self._namespaces = namespaces
        self._pids = pids
        self._logs = logs
        pids.mkdir(parents=True, exist_ok=True)
        logs.mkdir(parents=True, exist_ok=True)

    def start(self, service: Service) -> None:
        """Start it; it is not waited for."""
        pid = self._pids / service.name
        pid.unlink(missing_ok=True)
        shell = ["sh", "-c", 'echo $$ > "$0.new" && mv "$0.new" "$0" && exec "$@"', pid, *service.command]
        with self.log(service.name).open("ab") as sink:
            # It is nobody's child: it may outlive us, and ends with the namespaces.
            subprocess.run(
                ["setsid", "--fork", *self._namespaces.all(shell)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**os.environ, **service.env},
                check=True,
                timeout=30,
            )

    def log(self, name: str) -> Path:
        """The file with what it said."""
        return self._logs / f"{name}.log"

    def running(self, name: str) -> bool:
        """Whether it was started and is still there."""
        try:
            pid = int((self._pids / name).read_text())
        except FileNotFoundError:
            return False
        try:
            state = self._namespaces.run(["cat", f"/proc/{pid}/stat"])
        except CommandError:
            return False
        return state.rpartition(")")[2].split()[0] != "Z"

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal. Raises CommandError if it is not there."""
        self._namespaces.run(["kill", f"-{int(number)}", (self._pids / name).read_text().strip()])

    def stop(self, name: str, timeout: float = 20.0) -> None:
        """SIGTERM, then SIGKILL after ``timeout`` seconds; back when it is gone."""
        if not self.running(name):
            return
        self.kill(name, signal.SIGTERM)
        until = time.monotonic() + timeout
        while self.running(name):
            if time.monotonic() > until:
                self.kill(name)
                until = time.monotonic() + timeout
            time.sleep(0.1)

    def wait(self, name: str, what: str, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until ``ready``. Raises CommandError, with the end of the log of ``name``, when that does not come."""
        until = time.monotonic() + timeout
        with step(what):
            while not ready():
                if time.monotonic() > until:
                    said = self.log(name).read_text(errors="replace")[-3000:]
                    raise CommandError(f"{what}: not within {timeout:g} s; {name} said:\n{said}")
                time.sleep(0.2)
