"""LightGBM, from the text form of a Booster."""

import lightgbm as lgb
import numpy as np

from signalyard.problems import Problem, error
from signalyard_runtimes.features import Matrix, Vector


class LightGBMEngine:
    """A Booster with one output."""

    def __init__(self, booster: lgb.Booster) -> None:
        self.booster = booster

    @property
    def features(self) -> tuple[str, ...]:
        """As the Booster was trained; LightGBM writes a space in a name as an underscore."""
        return tuple(self.booster.feature_name())

    def score(self, matrix: Matrix) -> Vector:
        """The transformed output: a probability for the binary objective, else the raw value."""
        # LightGBM takes the shape of an empty matrix for an error.
        if not len(matrix):
            return np.empty(0)
        return np.asarray(self.booster.predict(matrix, num_threads=1), dtype=np.float64)


def load(artifact: bytes) -> LightGBMEngine:
    """Raises ModelError (bundle_artifact_invalid)."""
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
