"""The rows that a model was trained on, as files bring them."""

import csv
from pathlib import Path

import msgspec
import numpy as np

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.features import Matrix


class TrainingRows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that a model was trained on, or a fair sample of them: ``values`` [rows, len(columns)], NaN for missing, as a caller
    would send them."""

    columns: tuple[str, ...]
    values: Matrix


def read_training_rows(path: Path, names: tuple[str, ...]) -> TrainingRows:
    """Those in ``path``: a ``.csv`` whose first line names its columns, an empty cell for a missing value, or numpy's ``.npy`` of a
    matrix whose columns are ``names``.

    Raises CallerError (invalid_setting) for a file of another kind, (invalid_snapshot) naming the line where it is not such a table.
    """
    if path.suffix == ".csv":
        return _read_csv(path)
    if path.suffix == ".npy":
        return TrainingRows(columns=names, values=_read_npy(path))
    raise error(Problem.INVALID_SETTING, f"the training rows must be a .csv or a .npy file, not {path.name}")


def _read_csv(path: Path) -> TrainingRows:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            columns = tuple(next(reader, ()))
            rows = [_numbers(cells, columns, path.name, reader.line_num) for cells in reader if cells]
    except (UnicodeDecodeError, csv.Error) as exc:
        raise _wrong(f"{path.name}: not a table of comma-separated values: {exc}") from exc
    return TrainingRows(columns=columns, values=np.array(rows, dtype=np.float64).reshape(len(rows), len(columns)))


def _numbers(cells: list[str], columns: tuple[str, ...], file: str, line: int) -> Matrix:
    if len(cells) != len(columns):
        raise _wrong(f"{file}, line {line}: there are {len(columns)} columns, and {len(cells)} values")
    try:
        return np.array([cell or "nan" for cell in cells], dtype=np.float64)
    except ValueError as exc:
        raise _wrong(f"{file}, line {line}: {exc}") from exc


def _read_npy(path: Path) -> Matrix:
    try:
        # Without pickles, which are code.
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as exc:
        raise _wrong(f"{path.name}: not a matrix as numpy saves it: {exc}") from exc
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "fiub":
        raise _wrong(f"{path.name}: must be a matrix of numbers, [rows, features]")
    return values.astype(np.float64)


def _wrong(detail: str) -> SignalyardError:
    return error(Problem.INVALID_SNAPSHOT, detail)
