"""The examples of docs/frameworks.md whose frameworks are small; tests/frameworks has the others."""

from pathlib import Path
from typing import get_args

import pytest
from tests.pages.frameworks import follow, frameworks

from signalyard_runtimes.bundle.manifest import Framework

HEAVY = {"torchscript", "torch-export", "tensorflow"}


def test_every_framework_has_an_example() -> None:
    assert sorted(frameworks()) == sorted(get_args(Framework))


@pytest.mark.parametrize("framework", sorted({*get_args(Framework)} - HEAVY))
def test_an_example(framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    follow(framework)
