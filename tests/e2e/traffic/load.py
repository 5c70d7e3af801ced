"""The client at work beside a scenario."""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from traffic.account import ALLOWANCE, Account, account

CLIENT = Path(__file__).with_name("client.py")
_PATIENCE = 30.0


class Load:
    """A client process, from entering to leaving. Then ``account`` says what became of its requests. Entered again, it is the same
    strategy come back.

    ``script`` gives the command that runs a Python script where the router's address is good, under ``environment``; ``client`` is the
    client's, which takes url, rate and deadline, says a JSON line for each request, and ends with its input. ``deadline`` is in seconds.
    """

    def __init__(
        self,
        script: Callable[..., list[str]],
        url: str,
        log: Path,
        environment: Mapping[str, str],
        *,
        rate: float = 50.0,
        deadline: float = 0.1,
        options: Iterable[str] = (),
        client: Path = CLIENT,
    ) -> None:
        self._command = script(client, f"--url={url}", f"--rate={rate}", f"--deadline={deadline}", *options)
        self._environment = dict(environment)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        self._log = log
        self._deadline = deadline
        self._began = 0.0
        self._read = 0
        self._lines: list[dict[str, Any]] = []
        self.seconds = 0.0

    def __enter__(self) -> "Load":
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=out, env=self._environment, start_new_session=True
            )
        # A strategy has a machine of its own; this one shares two processors with a cluster, and is to be woken when it is due.
        with contextlib.suppress(OSError):  # not every kernel groups processes by session, and not everybody may
            Path(f"/proc/{self._process.pid}/autogroup").write_text("-10")
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let it finish what it has begun. Raises RuntimeError where it failed."""
        if self._process.stdin is None or self._process.stdin.closed:
            return
        self._process.stdin.close()
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        self.seconds += time.monotonic() - self._began
        if code != 0:
            raise RuntimeError(f"the client ended with {code}: {' '.join(self._command)}")

    def lines(self) -> list[dict[str, Any]]:
        """What it has said so far, oldest first; the last line may still be on its way."""
        with self._log.open("rb") as log:
            # Each is read once: whoever waits looks often, on the machine that is under test.
            log.seek(self._read)
            more = log.read()
        whole = more[: more.rfind(b"\n") + 1]
        self._read += len(whole)
        self._lines += map(json.loads, whole.splitlines())
        return list(self._lines)

    def await_lines(self, enough: Callable[[list[dict[str, Any]]], bool], timeout: float = _PATIENCE) -> None:
        """Wait until what it has said is ``enough``. Raises TimeoutError."""
        until = time.monotonic() + timeout
        while not enough(self.lines()):
            if time.monotonic() > until:
                raise TimeoutError(
                    f"the client's answers did not become what was awaited; the last: {self.lines()[-1:]}"
                )
            time.sleep(0.1)

    def await_more(self, count: int, timeout: float = _PATIENCE) -> None:
        """Wait for ``count`` more answers. Raises TimeoutError."""
        have = len(self.lines())
        self.await_lines(lambda lines: len(lines) >= have + count, timeout)

    def account(
        self, *, window: float = 0.0, journal: Iterable[Mapping[str, Any]] = (), allowance: float = ALLOWANCE
    ) -> Account:
        """Of all that it has said; after leaving, of all there is. ``window`` in seconds, the route's."""
        return account(self.lines(), deadline=self._deadline, window=window, journal=journal, allowance=allowance)
