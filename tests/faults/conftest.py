"""The parts of tests/parts/faults, for runs that take minutes."""

import importlib.util
from pathlib import Path

import pytest

_PATH = Path(__file__).parents[1] / "parts" / "faults" / "conftest.py"


@pytest.fixture(scope="session")
def tools():
    spec = importlib.util.spec_from_file_location("signalyard_tests_fault_parts", _PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Tools
