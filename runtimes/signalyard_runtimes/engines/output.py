"""From what a network or a graph gives to one score a row."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from signalyard_runtimes.features import Vector


def one_score(values: npt.ArrayLike, rows: int) -> Vector:
    """[rows], [rows, 1], or [rows, 2] with the probabilities of class 0 and 1, of which the second is the score.

    Raises ValueError for any other shape.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.shape == (rows,):
        return array
    if array.shape in ((rows, 1), (rows, 2)):
        return array[:, -1]
    raise ValueError(f"it gives the shape {list(array.shape)} for {rows} rows; {wanted()}")


def is_one_score(shape: Sequence[object]) -> bool:
    """Whether a declared shape, its first dimension the rows, may become one score a row."""
    return len(shape) == 1 or (len(shape) == 2 and (not isinstance(shape[1], int) or shape[1] in (1, 2)))


def wanted() -> str:
    """What would be right."""
    return "a signal needs [rows], [rows, 1] or, for the probabilities of class 0 and 1, [rows, 2]"
