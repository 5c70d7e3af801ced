"""The processes that are measured: started on a core, waited for, looked at, ended by their own ids."""

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

_READY_SECONDS = 90.0
_STOP_SECONDS = 15.0


class ServerError(Exception):
    """A server did not start."""


class Scheduled(NamedTuple):
    """What the kernel's scheduler counts of a thread: nanoseconds on a core, and ready to run but waiting for one."""

    ran: int
    waited: int

    @classmethod
    def of(cls, pid: int | str) -> "Scheduled":
        """A process's main thread; "self" is this one's."""
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
        return cls(int(ran), int(waited))


def stolen(core: int) -> float:
    """Seconds that the hypervisor has kept a core from this machine."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    return int(line.split()[8]) / os.sysconf("SC_CLK_TCK")


class Process:
    """A process pinned to one core. What it says goes to ``log``, which is also where to look when it does not start."""

    def __init__(
        self, command: Sequence[object], *, core: int, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self._log = log
        self.core = core
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )
        self.port = 0

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's id; taskset becomes the command, so it is the server's own."""
        return self._process.pid

    def await_port(self, pattern: str) -> None:
        """Wait until it has said what matches; the first group is its port. Raises ServerError."""
        for _ in self._patience():
            found = re.search(pattern, self._log.read_text(errors="replace"))
            if found is not None:
                self.port = int(found[1])
                return
        raise self._failure()

    def await_ok(self, port: int, path: str) -> None:
        """Wait until ``path`` answers 200. Raises ServerError."""
        for _ in self._patience():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            try:
                connection.request("GET", path)
                if connection.getresponse().status == 200:
                    self.port = port
                    return
            except OSError:
                pass
            finally:
                connection.close()
        raise self._failure()

    def ask(self, method: str, path: str) -> bytes:
        """The answer to a request without a body, which must be 200. Raises ServerError."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_READY_SECONDS)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise ServerError(f"{path}: {answer.status} {body.decode(errors='replace')}")
            return body
        finally:
            connection.close()

    def cpu(self) -> int:
        """Nanoseconds that its threads have been on a core."""
        total = 0
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total

    def scheduled(self) -> "Scheduled":
        """Of its main thread, which is the one that answers."""
        return Scheduled.of(self.pid)

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _patience(self) -> Iterator[None]:
        until = time.monotonic() + _READY_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            yield
            time.sleep(0.05)

    def _failure(self) -> ServerError:
        text = self._log.read_text(errors="replace")[-2000:]
        return ServerError(f"{self._process.args!r} (exit status {self._process.poll()}) is not ready:\n{text}")


@contextmanager
def kept_awake(cores: Iterable[int], work: Path) -> Iterator[None]:
    """Let no core sleep, by a process on each that runs where nothing else would: as a kernel does by idle=poll, without being started anew.

    A core that sleeps wakes late, by 20 to 200 us on a virtual machine. Whoever trades on microseconds forbids it; on others it is part of
    what a request takes.
    """
    with ExitStack() as stack:
        for core in cores:
            command = ["chrt", "--idle", "0", sys.executable, "-c", "while True: pass"]
            stack.enter_context(Process(command, core=core, log=work / f"awake-{core}.log"))
        yield


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on at this moment, for servers that cannot be told to take any."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports
