"""LightGBM, from the text form of a Booster."""

import re
import threading

import lightgbm as lgb
import numpy as np

from signalyard.problems import Problem, error
from signalyard_runtimes.engines.lightgbm_native import FastPrediction, fast_prediction
from signalyard_runtimes.engines.row import MatrixRow, Row
from signalyard_runtimes.features import Matrix, Vector

_TREE_SIZES = re.compile(rb"^tree_sizes=([\d ]*)$", re.MULTILINE)
_END = b"end of trees"


class LightGBMEngine:
    """A Booster with one output."""

    def __init__(self, booster: lgb.Booster) -> None:
        self.booster = booster
        self._prediction = fast_prediction(booster)
        self._here = None if self._prediction is None else _Here(self._prediction)

    @property
    def features(self) -> tuple[str, ...]:
        """As the Booster was trained; LightGBM writes a space in a name as an underscore."""
        return tuple(self.booster.feature_name())

    def score(self, matrix: Matrix) -> Vector:
        """The transformed output: a probability for the binary objective, else the raw value."""
        # LightGBM takes the shape of an empty matrix for an error.
        if not len(matrix):
            return np.empty(0)
        # Another number of features is left to LightGBM's package to refuse.
        if self._prediction is not None and self._here is not None and matrix.shape[1] == self._prediction.features:
            if len(matrix) > 1:
                return self._prediction.rows(matrix)
            row = self._here.row
            row.values[:] = matrix
            return np.array([row.score()])
        return np.asarray(self.booster.predict(matrix, num_threads=1), dtype=np.float64)

    def row(self) -> Row:
        """A place for one row, for one thread; see `engines.row`."""
        if self._prediction is None:
            return MatrixRow(self, self.booster.num_feature())
        return self._prediction.row()


class _Here(threading.local):
    """Each thread's own place for a row."""

    def __init__(self, prediction: FastPrediction) -> None:
        self.row = prediction.row()


def load(artifact: bytes) -> LightGBMEngine:
    """Raises ModelError (bundle_artifact_invalid)."""
    if not _is_whole(artifact):
        raise error(
            Problem.BUNDLE_ARTIFACT_INVALID,
            "not a LightGBM model in text form, or not all of one: its trees are not as long as its tree_sizes say",
            "/artifact",
        )
    try:
        booster = lgb.Booster(model_str=artifact.decode("utf-8"))
    except (lgb.basic.LightGBMError, UnicodeDecodeError) as exc:
        raise error(Problem.BUNDLE_ARTIFACT_INVALID, f"not a LightGBM model in text form: {exc}", "/artifact") from exc
    outputs = booster.num_model_per_iteration()
    if outputs != 1:
        raise error(
            Problem.BUNDLE_ARTIFACT_INVALID,
            f"the model has {outputs} outputs a row; a signal needs exactly one",
            "/artifact",
        )
    return LightGBMEngine(booster)


def _is_whole(artifact: bytes) -> bool:
    """LightGBM ends the process, and not with an exception, where a tree breaks off. Its text says how long each is."""
    sizes = _TREE_SIZES.search(artifact)
    if sizes is None:
        return False
    end = artifact.find(b"Tree=0\n", sizes.end()) + sum(map(int, sizes[1].split())) if sizes[1] else sizes.end()
    return artifact[end:].lstrip(b"\n").startswith(_END)
