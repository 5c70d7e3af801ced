"""The demonstration's child processes: each is started, waited for, and reaped by its own id, however the run ends."""

import atexit
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

HOST = "127.0.0.1"


class ProcessError(Exception):
    """A child did not do its part; ``log`` is the file with what it said."""

    def __init__(self, text: str, log: Path | None = None) -> None:
        super().__init__(text)
        self.log = log


class InterruptError(KeyboardInterrupt):
    """The run was told to end; no ``except Exception`` on the way stops it."""


class Child:
    """One process. It has a session of its own, so that a Ctrl-C in the terminal reaches the demonstration alone, which then
    ends its children in order."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.command = list(command)
        self.log = log
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, timeout: float) -> int:
        """Wait for the end and give the exit code. Raises ProcessError."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired as exc:
            raise ProcessError(f"{self.name} did not end within {timeout:g} s", self.log) from exc


class Children:
    """All children of a run. Leaving it ends whatever still runs: first politely, then not."""

    def __init__(self, grace: float = 5.0) -> None:
        self._grace = grace
        self._children: list[Child] = []
        self._deferred = 0
        self._pending = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Children":
        atexit.register(self.stop_all)  # should an interrupt come just as __exit__ begins
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        # from here on nothing may break off the reaping
        self._deferred += 1
        self.stop_all()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        atexit.unregister(self.stop_all)

    def start(self, name: str, command: Sequence[str], log: Path) -> Child:
        """Start a process; its output is appended to ``log``. Raises ProcessError where it cannot be started."""
        with self._uninterrupted():
            try:
                child = Child(name, command, log)
            except OSError as exc:
                raise ProcessError(f"{name}: {command[0]} cannot be started: {exc}") from exc
            self._children.append(child)
        return child

    def stop_all(self) -> None:
        """End and reap every child."""
        running = [child for child in self._children if child.exit_code is None]
        for child in running:
            child.send(signal.SIGCONT)  # a frozen process takes no polite word
            child.send(signal.SIGTERM)
        until = time.monotonic() + self._grace
        for child in running:
            with contextlib.suppress(ProcessError):
                child.wait(max(0.0, until - time.monotonic()))
        for child in running:
            child.send(signal.SIGKILL)
        for child in running:
            child.wait(30.0)
        self._children.clear()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._deferred:
            self._pending = True
        else:
            raise InterruptError(signal.Signals(number).name)

    @contextlib.contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """Between the birth of a child and its entry in the list no interrupt may come."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
        if self._pending and not self._deferred:
            self._pending = False
            raise InterruptError


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind((HOST, 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def http_get(port: int, path: str, timeout: float = 2.0) -> tuple[int, bytes]:
    """Status and body of a GET on the loopback interface. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def wait_ready(child: Child, port: int, path: str, timeout: float, tick: Callable[[], None] = lambda: None) -> None:
    """Return once ``path`` answers 200. ``tick`` is called about twenty times a second.

    Raises ProcessError where the child ends first or the time runs out.
    """
    until = time.monotonic() + timeout
    last = "no answer"
    while time.monotonic() < until:
        tick()
        if child.exit_code is not None:
            raise ProcessError(f"{child.name} ended with exit code {child.exit_code} before it was ready", child.log)
        try:
            status, _ = http_get(port, path)
        except (OSError, http.client.HTTPException) as exc:
            last = repr(exc)
        else:
            if status == 200:
                return
            last = f"HTTP {status}"
        time.sleep(0.05)
    raise ProcessError(f"{child.name} was not ready within {timeout:g} s ({path}: {last})", child.log)


def tail(log: Path, lines: int = 25) -> str:
    """The last lines of a log file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16_384))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
