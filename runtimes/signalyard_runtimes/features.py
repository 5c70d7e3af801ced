"""Rows to matrix, by the schema: columns put in order, values checked, gaps filled, declared steps applied."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from signalyard.problems import Problem, error
from signalyard.profile import COLUMNS_PARAMETER, Feature, FeatureSchema
from signalyard_runtimes.bundle.manifest import Bin, Clip, Impute, Standardise, Step

Matrix = npt.NDArray[np.float64]
"""[rows, features]"""

Vector = npt.NDArray[np.float64]
"""[rows]"""

Mask = npt.NDArray[np.bool_]
"""[rows, features]"""

_COLUMNS_POINTER = f"/inputs/0/parameters/{COLUMNS_PARAMETER}"
_KNOWN_ORDERS = 64
_LISTED = 50
LARGEST = float(np.finfo(np.float64).max)
_NUMBER_TYPES = frozenset((float, int, type(None)))


class Built(NamedTuple):
    """What became of a request's rows: ``matrix`` [good rows, features], which rows they are, and an error a row."""

    matrix: Matrix
    good: npt.NDArray[np.intp] | None
    """The places of the matrix's rows in the request; None where that is all of them."""
    row_error: list[str]
    """One text a row, empty for a good one."""


def in_order(values: Matrix, order: npt.NDArray[np.intp] | None) -> Matrix:
    """The columns of ``values`` in another order, NaN where that says -1; None: in their own."""
    # Column -1 of the padded values is a missing one.
    return values if order is None else np.column_stack((values, np.full(len(values), np.nan)))[:, order]


class Features:
    """The input side of one model: its schema and its declared steps, made ready for many requests."""

    def __init__(self, schema: FeatureSchema, steps: Sequence[Step] = ()) -> None:
        features = schema.features
        self._features = features
        self._names = schema.names
        # The ends of the finite numbers stand for "no bound": what lies beyond them is infinite, and refused.
        self._minimum = np.array(
            [-LARGEST if item.minimum is None else item.minimum for item in features], dtype=np.float64
        )
        self._maximum = np.array(
            [LARGEST if item.maximum is None else item.maximum for item in features], dtype=np.float64
        )
        self._refused = np.array([item.missing == "refuse" for item in features])
        self._fill = np.array([np.nan if item.fill is None else item.fill for item in features])
        self._fills = any(item.fill is not None for item in features)
        self._whole = np.array([item.dtype != "float64" for item in features])
        self._bool = np.array([item.dtype == "bool" for item in features])
        self._wholes = bool(self._whole.any())
        self._unbounded = not self._wholes and all(item.minimum is None and item.maximum is None for item in features)
        self._steps = [_compile(step, self._names) for step in steps]
        self._orders: dict[tuple[str, ...], npt.NDArray[np.intp] | None] = {}

    def build(self, columns: tuple[str, ...], values: Matrix) -> Built:
        """``values`` [rows, len(columns)], NaN for missing, to the matrix of the good rows.

        A column may be left out where every row may miss it. Raises CallerError (unknown_feature, missing_feature,
        duplicate_feature) where the columns are wrong: then no row can be scored.
        """
        matrix = self.arrange(columns, values)
        # Numbers without a bound need no more; it takes a quarter of the time.
        if (self._unbounded and np.isfinite(matrix).all()) or not (bad := self._bad(matrix)).any():
            return Built(self._prepare(matrix), None, [""] * len(matrix))
        faulty = bad.any(axis=1)
        row_error = [""] * len(matrix)
        for row in np.flatnonzero(faulty):
            column = int(bad[row].argmax())
            row_error[row] = explain(self._features[column], float(matrix[row, column]))
        good = np.flatnonzero(~faulty)
        return Built(self._prepare(matrix[good]), good, row_error)

    def arrange(self, columns: tuple[str, ...], values: Matrix) -> Matrix:
        """The values in the model's order, unchecked, NaN where a column is left out. Raises CallerError as `build` does."""
        return in_order(values, self.order(columns))

    def order(self, columns: tuple[str, ...]) -> npt.NDArray[np.intp] | None:
        """Where each feature of the model stands among ``columns``, -1 where it is left out; None where they are the model's own.

        Raises CallerError as `build` does.
        """
        if columns == self._names:
            return None
        order = self._orders.get(columns)
        if order is None:
            order = self._find_order(columns)
            if len(self._orders) < _KNOWN_ORDERS:
                self._orders[columns] = order
        return order

    def _find_order(self, columns: tuple[str, ...]) -> npt.NDArray[np.intp]:
        places = {name: index for index, name in enumerate(columns)}
        if len(places) != len(columns):
            twice = next(name for index, name in enumerate(columns) if places[name] != index)
            raise error(Problem.DUPLICATE_FEATURE, f"the feature {twice!r} is given twice", _COLUMNS_POINTER)
        known = frozenset(self._names)
        for name in columns:
            if name not in known:
                raise error(
                    Problem.UNKNOWN_FEATURE,
                    f"the feature {name!r} is none of the model's: {_listed(self._names)}",
                    _COLUMNS_POINTER,
                )
        for feature in self._features:
            if feature.missing == "refuse" and feature.name not in places:
                raise error(Problem.MISSING_FEATURE, f"the feature {feature.name!r} is missing", _COLUMNS_POINTER)
        return np.array([places.get(name, -1) for name in self._names], dtype=np.intp)

    def _bad(self, matrix: Matrix) -> Mask:
        # A comparison with NaN is false, so that a missing value is bad only where it is refused.
        missing: Mask = np.isnan(matrix)
        bad: Mask = (matrix < self._minimum) | (matrix > self._maximum) | (missing & self._refused)
        if not self._wholes:
            return bad
        fraction = (matrix != np.floor(matrix)) & ~missing & self._whole
        worse: Mask = bad | fraction | (((matrix < 0) | (matrix > 1)) & self._bool)
        return worse

    def _prepare(self, matrix: Matrix) -> Matrix:
        if not self.prepares:
            return matrix
        matrix = matrix.copy()
        self.prepare(matrix)
        return matrix

    @property
    def prepares(self) -> bool:
        """Whether anything is done to good rows at all."""
        return self._fills or bool(self._steps)

    def prepare(self, matrix: Matrix) -> None:
        """Fill the gaps of good rows and apply the declared steps, in place."""
        if self._fills:
            np.copyto(matrix, self._fill, where=np.isnan(matrix))
        for step in self._steps:
            step(matrix)


def to_values(data: Sequence[object], rows: int, width: int) -> Matrix:
    """A tensor's data as it came off the wire, flat or one list a row, to [rows, width]; ``None`` becomes NaN.

    Raises CallerError (invalid_snapshot) where the count is not rows * width or an item is not a number.
    """
    if rows and len(data) == rows and all(type(item) is list for item in data):
        if any(len(item) != width for item in data):  # type: ignore[arg-type]
            raise _wrong_data(f"each of the {rows} rows must have {width} values")
        data = [value for item in data for value in item]  # type: ignore[attr-defined]
    if len(data) != rows * width:
        raise _wrong_data(f"the shape [{rows}, {width}] asks for {rows * width} values, there are {len(data)}")
    # By type, because numpy would take "1.5" and True for numbers.
    if not _NUMBER_TYPES.issuperset(map(type, data)):
        index, odd = next((index, item) for index, item in enumerate(data) if type(item) not in _NUMBER_TYPES)
        raise error(
            Problem.INVALID_SNAPSHOT, f"must be a number or null, not a {type(odd).__name__}", f"/inputs/0/data/{index}"
        )
    try:
        return np.array(data, dtype=np.float64).reshape(rows, width)
    except OverflowError as exc:
        raise _wrong_data("a whole number is larger than FP64 can hold") from exc


def _listed(names: tuple[str, ...]) -> str:
    """So many of them as a reader looks through."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _wrong_data(detail: str) -> Exception:
    return error(Problem.INVALID_SNAPSHOT, detail, "/inputs/0/data")


def explain(feature: Feature, value: float) -> str:
    """Why this value of the feature cannot be scored."""
    if np.isnan(value):
        return f"{feature.name}: is missing and the model needs it"
    if np.isinf(value):
        return f"{feature.name}: {value} is not finite"
    if feature.minimum is not None and value < feature.minimum:
        return f"{feature.name}: {value} is below the minimum of {feature.minimum}"
    if feature.maximum is not None and value > feature.maximum:
        return f"{feature.name}: {value} is above the maximum of {feature.maximum}"
    if feature.dtype == "bool":
        return f"{feature.name}: {value} is neither 0 nor 1"
    return f"{feature.name}: {value} is not a whole number"


def _compile(step: Step, names: tuple[str, ...]) -> Callable[[Matrix], None]:
    """The step as a function that changes a matrix in place."""
    if isinstance(step, Impute):
        fill = np.full(len(names), np.nan)
        for name, value in step.values.items():
            fill[names.index(name)] = value
        return lambda matrix: np.copyto(matrix, fill, where=np.isnan(matrix))
    if isinstance(step, Clip):
        low, high = np.full(len(names), -np.inf), np.full(len(names), np.inf)
        for name, bounds in step.bounds.items():
            low[names.index(name)], high[names.index(name)] = bounds
        return lambda matrix: np.copyto(matrix, np.clip(matrix, low, high))
    if isinstance(step, Standardise):
        mean, scale = np.zeros(len(names)), np.ones(len(names))
        for name, moments in step.moments.items():
            mean[names.index(name)], scale[names.index(name)] = moments.mean, moments.scale
        return lambda matrix: np.copyto(matrix, (matrix - mean) / scale)
    return _bins(step, names)


def _bins(step: Bin, names: tuple[str, ...]) -> Callable[[Matrix], None]:
    edges = [(names.index(name), np.array(numbers)) for name, numbers in step.edges.items()]

    def apply(matrix: Matrix) -> None:
        for column, numbers in edges:
            values = matrix[:, column]
            matrix[:, column] = np.where(np.isnan(values), np.nan, np.searchsorted(numbers, values, side="right"))

    return apply
