"""Namespaces of the node's own: network, mounts, processes.

All that the node starts is in one process namespace, so the kernel ends all of it when its first process is killed; its mounts,
interfaces, routes and firewall rules are in namespaces that vanish with the last process. So there is no list of things to undo that
could be incomplete: what must be remembered is one process, and what remains are files and control groups under known names.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.commands import CommandError, run

_PATIENCE = 30.0
ISOLATED = (
    *("unshare", "--mount", "--propagation", "private"),
    *("--pid", "--fork", "--kill-child", "--mount-proc"),
)
"""Before a command: its mounts and processes are its own, and end with it."""


@dataclass(frozen=True)
class Namespaces:
    """``unshare`` holds ``first``, which is process 1 inside; both ids are those outside. ``born`` tells them from later processes that
    were given the same id (clock ticks since the machine's start). ``owner`` is the run that they end with; 0: none."""

    unshare: int
    first: int
    born: int
    owner: int = 0

    @classmethod
    def make(cls, record: Path, *, tied: bool) -> "Namespaces":
        """Make them, and write them down in ``record`` before anything else is started in them. Raises CommandError.

        ``tied``: they end with this process, even if it is killed.
        """
        record.parent.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            [
                *(("setpriv", "--pdeathsig", "KILL") if tied else ()),
                *ISOLATED,
                "--net",
                sys.executable,
                "-I",
                str(Path(__file__).with_name("init.py")),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        if process.stdout.readline() != "here\n":
            raise CommandError(f"no namespaces can be made here: {process.stderr.read().strip()}")
        (first,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        _held.append(process)
        made = cls(process.pid, first, _born(process.pid), os.getpid() if tied else 0)
        record.write_text(json.dumps(made.__dict__))
        process.stdin.write("go\n")
        process.stdin.close()
        process.stdout.close()
        process.stderr.close()
        return made

    @classmethod
    def read(cls, record: Path) -> "Namespaces | None":
        """Those of ``record``, if they are still there."""
        try:
            found = cls(**json.loads(record.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return found if found.alive() else None

    def alive(self) -> bool:
        """Whether they are still held."""
        return _born(self.unshare) == self.born

    def network(self, command: Sequence[object]) -> list[str]:
        """The command that runs ``command`` in the node's network, with this machine's files and processes."""
        # `ip netns exec` would mount a new /sys, in which the control groups are missing.
        return ["nsenter", f"--target={self.first}", "--net", "--", *map(str, command)]

    def all(self, command: Sequence[object]) -> list[str]:
        """The command that runs ``command`` in all of the namespaces."""
        return ["nsenter", f"--target={self.first}", "--net", "--mount", "--pid", "--", *map(str, command)]

    def network_number(self) -> int:
        """The inode by which the kernel knows the network."""
        return Path(f"/proc/{self.first}/ns/net").stat().st_ino

    def run(self, command: Sequence[object], timeout: float = 30.0, stdin: str | None = None) -> str:
        """Run ``command`` in all of them to its end. Raises CommandError."""
        return run(self.all(command), timeout=timeout, stdin=stdin)

    def end(self) -> None:
        """End every process in them and wait until they are gone. Raises CommandError."""
        if not self.alive():
            return
        os.kill(self.unshare, signal.SIGKILL)
        until = time.monotonic() + _PATIENCE
        # The first process is gone only once all others of its namespace are.
        while self.alive() or Path(f"/proc/{self.first}").exists():
            _reap(self.unshare)
            if time.monotonic() > until:
                raise CommandError(f"the node's processes (first: {self.first}) did not end within {_PATIENCE:g} s")
            time.sleep(0.02)


_held: list[subprocess.Popen[str]] = []
# Python warns of a process that is forgotten while it runs.


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # another run has started it
        os.waitpid(pid, os.WNOHANG)


def _born(pid: int) -> int:
    """0 where there is no such process, or only what it left for its parent to read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])
