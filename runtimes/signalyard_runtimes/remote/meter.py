"""Showing how far a transfer is: a bar on a terminal, else a line now and then; nothing for what takes under two seconds."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

_QUIET_SECONDS = 2.0
_LINE_SECONDS = 10.0


class Meter:
    """A context around one transfer; ``what`` says which. It writes to ``stream``, which is not that of the answer."""

    def __init__(self, what: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._stream = stream
        self._clock = clock
        self._terminal = stream.isatty()
        self._show_at = clock() + _QUIET_SECONDS
        self._bar: _Bar | None = None
        self._done = 0
        self._size: int | None = None

    def __enter__(self) -> "Meter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def at(self, done: int, size: int | None = None) -> None:
        """So many bytes are there, of ``size`` if that is known."""
        self._done = done
        self._size = size if size is not None else self._size
        self.tick()

    def tick(self) -> None:
        """Time has passed."""
        if self._bar is not None:
            self._bar.show(self._done, self._size)
        elif self._clock() >= self._show_at:
            if self._terminal:
                self._bar = _Bar(self._what, self._stream)
                self._bar.show(self._done, self._size)
            else:
                self._show_at = self._clock() + _LINE_SECONDS
                of = "" if self._size is None else f" of {megabytes(self._size)}"
                self.say(f"{self._what}: {megabytes(self._done)}{of}")

    def say(self, line: str) -> None:
        """A line beside the bar."""
        if self._bar is None:
            print(line, file=self._stream, flush=True)
        else:
            self._bar.say(line)


class _Bar:
    """rich, imported only where there is a terminal and something to wait for."""

    def __init__(self, what: str, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self._progress.add_task(what, total=None)
        self._progress.start()

    def show(self, done: int, size: int | None) -> None:
        self._progress.update(self._task, completed=done, total=size)

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:.1f} MB"
