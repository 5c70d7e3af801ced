"""Tests of one run in several processes, on one cluster: beside each other, but for those that want it to themselves."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from cluster.lock import Lock


def turn(folder: Path, item: pytest.Item) -> AbstractContextManager[object]:
    """Held while ``item`` runs, with what it sets up and takes down. ``folder`` is the same for all processes of the run."""
    held = ExitStack()
    if "cluster" in _wants(item):
        # Whoever waits to be alone keeps the door: others that came later do not slip in before.
        with Lock(folder / "door.lock"):
            held.enter_context(Lock(folder / "cluster.lock", shared=not _wants_it_alone(item)))
    return held


def in_turn(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The order in which two processes wait least, of which one begins with the first half and the other with the second: those that
    want the cluster to themselves are first here, those that want none are first there."""
    alone, apart, rest = [], [], []
    for item in items:
        kind = alone if _wants_it_alone(item) else rest if "cluster" in _wants(item) else apart
        kind.append(item)
    half = max(0, (len(alone) + len(apart) + len(rest)) // 2 - len(alone))
    return [*alone, *rest[:half], *apart, *rest[half:]]


def _wants_it_alone(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("kills", "alone"))


def _wants(item: pytest.Item) -> Iterable[str]:
    names: Iterable[str] = getattr(item, "fixturenames", ())
    return names
