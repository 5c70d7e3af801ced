"""One row at a time through one model: checked, prepared and scored in memory that is kept."""

import math
import struct
from collections.abc import Sequence

import numpy as np

from signalyard.problems import Problem, SignalyardError, error, escape_pointer
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.engines.row import Row
from signalyard_runtimes.features import LARGEST, Features, Vector, explain


class OneRow:
    """What one thread needs to score rows of ``columns``. It gives what `Scorer.score` gives, and raises where that tells a row's error."""

    def __init__(self, schema: FeatureSchema, features: Features, columns: tuple[str, ...], row: Row) -> None:
        """Raises CallerError (unknown_feature, missing_feature, duplicate_feature) where the columns are not the model's."""
        self._schema = schema
        self._features = features
        self._row = row
        self._columns = columns
        self._order = features.order(columns)
        # What is given stands here, and a missing value behind it, in the place of which the order's -1 points.
        given = np.full(len(columns) + 1, np.nan)
        self._given = given[:-1] if self._order is not None else row.values[0]
        self._padded = given
        self._bytes = self._given.data.cast("B")
        self._pack = struct.Struct(f"{len(columns)}d").pack_into
        self._checks = _Checks(schema)

    def score(self, row: Sequence[float | None] | Vector) -> float:
        """The score of ``row``, one value a column, None or NaN for missing.

        Raises CallerError (invalid_snapshot, missing_feature, feature_not_finite, feature_out_of_range), ModelError (model_failed,
        model_answer_not_finite).
        """
        self._take(row)
        values = self._row.values
        if self._order is not None:
            # With any other mode numpy makes a copy first.
            np.take(self._padded, self._order, out=values[0], mode="wrap")
        if not self._checks.good(values[0]):
            raise self._refusal(values[0])
        if self._features.prepares:
            self._features.prepare(values)
        try:
            score = self._row.score()
        except Exception as exc:  # a model is foreign code, and may raise anything
            raise error(Problem.MODEL_FAILED, f"the model raised {type(exc).__name__}: {exc}") from exc
        if not math.isfinite(score):
            raise error(Problem.MODEL_ANSWER_NOT_FINITE, f"the model gave {score} for this row")
        return score

    def _take(self, row: Sequence[float | None] | Vector) -> None:
        if isinstance(row, np.ndarray):
            if row.shape != self._given.shape or row.dtype.kind not in "fiub":
                raise _wrong(f"must be {len(self._columns)} numbers, not {row.dtype} {list(row.shape)}")
            self._given[:] = row
            return
        try:
            self._pack(self._bytes, 0, *row)
        except (struct.error, TypeError, OverflowError):
            self._take_slowly(row)

    def _take_slowly(self, row: Sequence[float | None]) -> None:
        """The same, of a row in which values are missing, or which is wrong."""
        if len(row) != len(self._columns):
            raise _wrong(f"there are {len(self._columns)} columns, and {len(row)} values")
        for place, value in enumerate(row):
            if isinstance(value, str | bytes):  # float() would read it
                raise _wrong(f"must be a number or None, not a {type(value).__name__}", self._columns[place])
            try:
                self._given[place] = math.nan if value is None else float(value)
            except TypeError as exc:
                raise _wrong(f"must be a number or None, not a {type(value).__name__}", self._columns[place]) from exc
            except OverflowError as exc:
                raise _wrong("a whole number is larger than FP64 can hold", self._columns[place]) from exc

    def _refusal(self, values: Vector) -> SignalyardError:
        place = self._checks.first_bad()
        feature, value = self._schema.features[place], float(values[place])
        return error(_problem(value), explain(feature, value), f"/features/{escape_pointer(feature.name)}")


class _Checks:
    """What `Features` holds against many rows, held against one in memory that is kept."""

    def __init__(self, schema: FeatureSchema) -> None:
        features = schema.features
        low, high = zip(*map(_bounds, features), strict=True)
        self._low, self._high = np.array(low), np.array(high)
        self._may_miss = np.array([feature.missing != "refuse" for feature in features])
        self._fractions = np.array([feature.dtype == "float64" for feature in features])
        self._wholes = not self._fractions.all()
        self._unbounded = not self._wholes and all(bounds == (-LARGEST, LARGEST) for bounds in map(_bounds, features))
        self._zeros = np.zeros(len(features))
        # As bytes too, because to look for a zero among them takes a tenth of the time that numpy's all() does.
        self._flags = bytearray(len(features))
        self._good = np.frombuffer(self._flags, dtype=np.bool_)
        self._scratch = np.empty(len(features), dtype=np.bool_)
        self._floor = np.empty(len(features))

    def good(self, values: Vector) -> bool:
        """Whether a row can be scored: [features], NaN for missing."""
        # Only a value that is not finite makes anything else of zeros; one call in place of three.
        if self._unbounded and values.dot(self._zeros) == 0.0:
            return True
        good, scratch = self._good, self._scratch
        np.greater_equal(values, self._low, good)
        np.less_equal(values, self._high, scratch)
        np.logical_and(good, scratch, good)
        if self._wholes:
            np.floor(values, self._floor)
            np.equal(values, self._floor, scratch)
            np.logical_or(scratch, self._fractions, scratch)
            np.logical_and(good, scratch, good)
        if 0 not in self._flags:
            return True
        # A missing value has failed every comparison.
        np.isnan(values, scratch)
        np.logical_and(scratch, self._may_miss, scratch)
        np.logical_or(good, scratch, good)
        return 0 not in self._flags

    def first_bad(self) -> int:
        """The place of the first value that made the last row bad."""
        return self._flags.index(0)


def _bounds(feature: Feature) -> tuple[float, float]:
    """The ends of the finite numbers stand for "no bound"; a truth value lies between 0 and 1 as well."""
    low = -LARGEST if feature.minimum is None else feature.minimum
    high = LARGEST if feature.maximum is None else feature.maximum
    return (max(low, 0.0), min(high, 1.0)) if feature.dtype == "bool" else (low, high)


def _problem(value: float) -> Problem:
    if math.isnan(value):
        return Problem.MISSING_FEATURE
    return Problem.FEATURE_NOT_FINITE if math.isinf(value) else Problem.FEATURE_OUT_OF_RANGE


def _wrong(detail: str, column: str = "") -> SignalyardError:
    return error(Problem.INVALID_SNAPSHOT, detail, f"/features/{escape_pointer(column)}" if column else "/features")
