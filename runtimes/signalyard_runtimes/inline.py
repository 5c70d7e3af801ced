"""A bundle in the caller's own process, for the order path: no server, no copy of a row that can be spared.

model = inline.load(Path("models/rb-trend-7"), columns=("ret_5", "close"))
score = model.score([0.0012, 3512.0])
confidence = model.confidence(score)
"""

import threading
from collections.abc import Sequence
from pathlib import Path

from signalyard.profile import ModelCard
from signalyard_runtimes import scorer
from signalyard_runtimes.features import Vector
from signalyard_runtimes.one_row import OneRow
from signalyard_runtimes.scorer import Scorer


class InlineModel:
    """Scores single rows as one bundle's model does. Threads may share it; each has memory of its own, made at its first row."""

    def __init__(self, scorer: Scorer, columns: tuple[str, ...]) -> None:
        """Raises CallerError (unknown_feature, missing_feature, duplicate_feature) where the columns are not the model's."""
        self.card: ModelCard = scorer.card
        self.columns = columns
        """What the values of a row are, in this order."""
        self.scorer = scorer
        """The same model for many rows at once."""
        self._here = _Here(scorer, columns)

    def score(self, row: Sequence[float | None] | Vector) -> float:
        """The score of ``row``, a value for each of ``columns``, None or NaN for missing; a float64 array [columns] costs least.

        The interpreter's lock is held throughout where the engine is LightGBM's. Raises CallerError (invalid_snapshot,
        missing_feature, feature_not_finite, feature_out_of_range) naming the feature, ModelError (model_failed,
        model_answer_not_finite).
        """
        return self._here.row.score(row)

    def confidence(self, score: float) -> float | None:
        """The calibrated probability that the side on which ``score`` lies is right, None for an uncalibrated model."""
        return self.scorer.confidence(score)


class _Here(threading.local):
    """Each thread's own row."""

    def __init__(self, scorer: Scorer, columns: tuple[str, ...]) -> None:
        self.row: OneRow = scorer.row(columns)


def load(
    path: Path, columns: Sequence[str] | None = None, digest: str | None = None, trust: Sequence[Path] = ()
) -> InlineModel:
    """Verify and load the bundle at ``path`` as a server does.

    ``columns`` name the values of the rows that are to come, in any order; those of the model's schema, if not given. A column may be
    left out where every row may miss it. ``digest``: this bundle and no other. ``trust``: PEM files of public keys, one of which must
    have signed it. Raises ModelError as `scorer.load` does; CallerError (unknown_feature, missing_feature, duplicate_feature).
    """
    loaded = scorer.load(path, digest, trust)
    return InlineModel(loaded, loaded.card.schema.names if columns is None else tuple(columns))
