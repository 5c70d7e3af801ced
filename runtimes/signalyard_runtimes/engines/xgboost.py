"""XGBoost, from the JSON or UBJ form of a model, whether a Booster or one of the scikit-learn wrappers has written it."""

import json
import re
from typing import Any

import numpy as np
import xgboost as xgb

from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.features import Matrix, Vector

_PLACE = re.compile(r"^\[[\d:]+\] \S+: ")


class XGBoostEngine:
    """A Booster with one output, or one that gives the probabilities of two classes."""

    def __init__(self, booster: xgb.Booster, *, linear: bool) -> None:
        self.booster = booster
        self._linear = linear
        best = booster.attr("best_iteration")
        # Early stopping leaves the trees behind the best one in the file. The wrappers predict without them and a Booster with
        # them; one file has one meaning here, and it is the model that was chosen. (0, 0) are all.
        self._iterations = (0, 0) if best is None else (0, int(best) + 1)

    @property
    def features(self) -> tuple[str, ...] | int:
        """Names if it was trained with them, else their number."""
        names = self.booster.feature_names
        return self.booster.num_features() if names is None else tuple(names)

    def score(self, matrix: Matrix) -> Vector:
        """The transformed output: a probability for the logistic objectives and for two classes, else the raw value."""
        if not len(matrix):
            return np.empty(0)
        scores = np.asarray(self._predict(matrix), dtype=np.float64)
        return scores[:, 1] if scores.ndim == 2 else scores

    def _predict(self, matrix: Matrix) -> Any:
        # Names and order were compared when the bundle was loaded.
        if self._linear:
            data = xgb.DMatrix(matrix, nthread=1)
            return self.booster.predict(data, iteration_range=self._iterations, validate_features=False)
        return self.booster.inplace_predict(matrix, iteration_range=self._iterations, validate_features=False)


def load(artifact: bytes) -> XGBoostEngine:
    """Raises ModelError (bundle_artifact_invalid)."""
    if not artifact.startswith(b"{"):
        raise _invalid("not a model in XGBoost's JSON or UBJ form: save it as model.json or model.ubj")
    try:
        booster = xgb.Booster(params={"nthread": 1, "verbosity": 0}, model_file=bytearray(artifact))
        learner = json.loads(booster.save_config())["learner"]
    except xgb.core.XGBoostError as exc:
        # Its first line begins with the time and the place in XGBoost's own source.
        first = _PLACE.sub("", str(exc).strip().splitlines()[0])
        raise _invalid(f"not a model in XGBoost's JSON or UBJ form: {first}") from exc
    objective = learner["objective"]["name"]
    classes, targets = (int(learner["learner_model_param"][name]) for name in ("num_class", "num_target"))
    if objective == "multi:softmax":
        raise _invalid("the objective multi:softmax gives the number of a class and no probability: use multi:softprob")
    if classes > 2 or targets > 1:
        raise _invalid(f"the model has {max(classes, targets)} outputs a row; a signal needs exactly one")
    return XGBoostEngine(booster, linear=learner["gradient_booster"]["name"] == "gblinear")


def _invalid(detail: str) -> SignalyardError:
    return error(Problem.BUNDLE_ARTIFACT_INVALID, detail, "/artifact")
