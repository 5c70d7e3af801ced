"""Tests of one run in several processes, on one cluster: beside each other, but for those that want it to themselves."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cluster.lock import Lock


class Turns:
    """Of one process. ``folder`` is the same for all processes of the run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = ExitStack()
        self._alone = False

    @contextmanager
    def turn(self, item: pytest.Item, following: pytest.Item | None) -> Iterator[None]:
        """Held while ``item`` runs, with what it sets up and takes down. Who wants to be alone, one after another, waits for that once."""
        if "cluster" in _wants(item) and not self._alone:
            self._take(alone=_wants_it_alone(item))
        try:
            yield
        finally:
            if not (self._alone and following is not None and _wants_it_alone(following)):
                self._held.close()
                self._alone = False

    def _take(self, *, alone: bool) -> None:
        # Whoever waits to be alone keeps the door: others that came later do not slip in before.
        with Lock(self._folder / "door.lock"):
            self._held.enter_context(Lock(self._folder / "cluster.lock", shared=not alone))
        self._alone = alone


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
