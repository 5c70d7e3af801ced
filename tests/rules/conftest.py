"""The rules and dashboards as they ship, and Prometheus's own checkers."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def checker(name):
    """A checker on PATH, else the one that the Makefile put beside us."""
    found = shutil.which(name) or shutil.which(name, path=str(ROOT / ".cache" / "prometheus" / "usr" / "bin"))
    if found is None:
        pytest.fail(f"{name} is not there: say `make test`, which takes Debian's, or put {name} on PATH")
    return found


@pytest.fixture(scope="session")
def promtool():
    return checker("promtool")


@pytest.fixture(scope="session")
def amtool():
    return checker("amtool")
