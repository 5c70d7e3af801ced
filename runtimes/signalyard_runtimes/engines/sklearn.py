"""scikit-learn, from what ``joblib.dump`` wrote. To load it is to run code: only bytes that have been checked come here."""

import io
import warnings
from typing import Any

import joblib
import numpy as np

from signalyard.problems import Problem, error
from signalyard_runtimes.features import Matrix, Vector


class SklearnEngine:
    """A fitted estimator or pipeline: the probability of class 1 where it has ``predict_proba``, else ``predict``."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._classifier = hasattr(model, "predict_proba")
        self._names = getattr(model, "feature_names_in_", None)

    @property
    def features(self) -> tuple[str, ...] | int:
        """Names if it was fitted on a data frame, else their number."""
        if self._names is not None:
            return tuple(str(name) for name in self._names)
        return int(self.model.n_features_in_)

    def score(self, matrix: Matrix) -> Vector:
        """One score a row."""
        if not len(matrix):
            return np.empty(0)
        if self._names is None:
            return self._predict(matrix)
        # It warns that the matrix carries no names. Names and order were compared when the bundle was loaded.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="X does not have valid feature names", category=UserWarning)
            return self._predict(matrix)

    def _predict(self, matrix: Matrix) -> Vector:
        scores = self.model.predict_proba(matrix)[:, 1] if self._classifier else self.model.predict(matrix)
        return np.asarray(scores, dtype=np.float64).reshape(len(matrix))


def load(artifact: bytes) -> SklearnEngine:
    """Raises ModelError (bundle_artifact_invalid)."""
    try:
        model = joblib.load(io.BytesIO(artifact))
    except Exception as exc:  # unpickling runs the model's own code, which may raise anything
        raise error(
            Problem.BUNDLE_ARTIFACT_INVALID, f"joblib cannot load it: {type(exc).__name__}: {exc}", "/artifact"
        ) from exc
    return around(model)


def around(model: Any) -> SklearnEngine:
    """The engine for a fitted model, however it was kept. Raises ModelError (bundle_artifact_invalid)."""
    if not hasattr(model, "predict") or not hasattr(model, "n_features_in_"):
        raise error(
            Problem.BUNDLE_ARTIFACT_INVALID, f"a {type(model).__name__} is not a fitted scikit-learn model", "/artifact"
        )
    if hasattr(model, "predict_proba") and list(model.classes_) != [0, 1]:
        raise error(
            Problem.BUNDLE_ARTIFACT_INVALID,
            f"the classifier's classes must be 0 (down) and 1 (up), they are {list(model.classes_)}",
            "/artifact",
        )
    threads = {name: 1 for name in model.get_params() if name.split("__")[-1] == "n_jobs"}
    model.set_params(**threads)
    return SklearnEngine(model)
