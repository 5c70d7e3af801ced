"""One row at a time, in memory that is kept: what an order path asks for."""

from collections.abc import Callable
from typing import Protocol

import numpy as np

from signalyard_runtimes.engines import Engine
from signalyard_runtimes.features import Matrix


class Row(Protocol):
    """A place for one row. It belongs to one thread."""

    values: Matrix
    """[1, features], written by the caller, NaN for missing; always the same array."""

    def score(self) -> float:
        """The score of what stands in ``values``; whatever the model raises."""


class MatrixRow:
    """A row of an engine that knows no quicker way than a matrix of one row."""

    def __init__(self, engine: Engine, features: int) -> None:
        self.values = np.empty((1, features))
        self._engine = engine

    def score(self) -> float:
        """The score of what stands in ``values``."""
        return float(self._engine.score(self.values)[0])


def row_of(engine: Engine, features: int) -> Row:
    """A place for one row of ``engine``, by its own method ``row`` where it has one."""
    own: Callable[[], Row] | None = getattr(engine, "row", None)
    return MatrixRow(engine, features) if own is None else own()
