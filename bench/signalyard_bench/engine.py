"""The engine alone, in a process of its own on the servers' core: scores the rows of their requests when it is told to.

    python -m signalyard_bench.engine MODEL --rows 1000

It prints ``ready PORT``. For each byte on its one connection it answers with how long one call took.
"""

import argparse
import socket
import struct
import sys
import time
from pathlib import Path
from typing import NamedTuple

import lightgbm
import numpy as np

from signalyard_bench.bodies import batches
from signalyard_bench.peer import FEATURES
from signalyard_bench.servers import Process

_ASKED = b"?"
_TIMES = struct.Struct("<2Q")
_PATIENCE_SECONDS = 60.0


class Times(NamedTuple):
    """Of one call, in milliseconds: from its begin to its end, and of these on the core."""

    elapsed: float
    cpu: float


class Engine:
    """The process, asked."""

    def __init__(self, work: Path, model: Path, rows: int, core: int) -> None:
        command = [sys.executable, "-m", "signalyard_bench.engine", model, "--rows", rows]
        self._process = Process(command, core=core, log=work / "engine.log")

    def __enter__(self) -> "Engine":
        self._process.await_port(r"ready (\d+)")
        self._connection = socket.create_connection(("127.0.0.1", self._process.port), _PATIENCE_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.stop()

    def score(self) -> Times:
        """Score the rows once. Raises OSError."""
        self._connection.sendall(_ASKED)
        answer = b""
        while len(answer) < _TIMES.size:
            part = self._connection.recv(_TIMES.size)
            if not part:
                raise ConnectionError("the engine's process has ended")
            answer += part
        elapsed, cpu = _TIMES.unpack(answer)
        return Times(elapsed / 1e6, cpu / 1e6)


def _serve(model: str, rows: int) -> None:
    booster = lightgbm.Booster(model_file=model)
    matrix = np.array(batches(FEATURES, rows)[0])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print("ready", listening.getsockname()[1], flush=True)
        connection, _ = listening.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv(1):
            began, used = time.perf_counter_ns(), time.process_time_ns()
            booster.predict(matrix, num_threads=1)
            connection.sendall(_TIMES.pack(time.perf_counter_ns() - began, time.process_time_ns() - used))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--rows", type=int, default=1000)
    given = parser.parse_args()
    _serve(given.model, given.rows)
