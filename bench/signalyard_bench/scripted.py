"""The script by which replicas append to their log, called by redis-py: what a round trip to Redis costs where the router is.

    python -m signalyard_bench.scripted --redis PORT --seconds 1

It keeps a log of its own beside the routers', with entries and signals as large as theirs, and prints the median of the calls in milliseconds.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import redis

import signalyard_router.adapters.redis.log as log

_ENTRY, _SIGNAL = b"e" * 640, b"s" * 360
"""About what a snapshot of `bodies.snapshots` comes to."""
_ENDLESS = str(2**53)


def measured(core: int, port: int, seconds: float) -> float:
    """The median in milliseconds, of calls from a process on ``core``. Raises subprocess.SubprocessError."""
    command = ["taskset", "-c", str(core), sys.executable, "-m", "signalyard_bench.scripted"]
    command += ["--redis", str(port), "--seconds", str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, timeout=60 + seconds).stdout)


def _measure(port: int, seconds: float) -> float:
    server = redis.Redis(port=port, protocol=3, socket_timeout=10)
    keys = [f"scripted:{name}" for name in ("head", "log", "signals", "ears")]
    server.delete(*keys)
    this = server.info("replication")["master_replid"]
    server.hset(keys[0], mapping={"epoch": 1, "position": 0, "token": "t-0", "server": this})
    server.sadd(keys[3], "me")
    append = server.register_script((Path(log.__file__).parent / "append.lua").read_bytes())
    took: list[float] = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        place = len(took)
        words: list[str | bytes | int] = [
            1,
            place,
            f"t-{place}",
            place + 1,
            f"t-{place + 1}",
            _ENTRY,
            "me",
            0,
            _ENDLESS,
            500,
            10_000,
            "c:",
            _SIGNAL,
        ]
        if append(keys, words) != b"done":
            raise RuntimeError("the log does not stand where it was left")
        took.append((time.perf_counter() - began) * 1000)
    server.delete(*keys)
    return median(took)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--redis", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=1.0)
    given = parser.parse_args()
    print(_measure(given.redis, given.seconds))
