"""Three versions of one model, trained on the first part of the time and judged on the rest.

    |------------------- train: 60% of the trades -------------------| embargo |------ held out: the replay ------|
    |---- fit: 75% of it ----|---- calibrate ----|
    |-- version 6 --|

A label looks ahead, so a row belongs to a part only if its label is known before the part ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import joblib
import lightgbm
import msgspec
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from signalyard.profile import FeatureSchema
from signalyard.wire import Snapshot
from signalyard_demo.bars import SIZES, volume_bars
from signalyard_demo.data import Ticks
from signalyard_demo.features import FEATURES, NAMES, feature_matrix, labels

MODEL = "es-trend"
TRAIN_SHARE = 0.6
FIT_SHARE = 0.75
EMBARGO_NS = 60 * 1_000_000_000
"""Between the training part and the held-out part, on top of the labels' own reach."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Bars of all instruments in the order of time: ``matrix`` [rows, features], all else one entry a row.

    ``sequence`` is the bar's number within its instrument; ``known`` is when its ``label`` is.
    """

    instrument: NDArray[np.str_]
    ts: NDArray[np.int64]
    sequence: NDArray[np.int64]
    matrix: Matrix
    label: NDArray[np.float64]
    known: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ts)

    def at(self, where: NDArray[Any]) -> "Rows":
        """The rows that a mask or an array of indices picks."""
        return Rows(
            self.instrument[where],
            self.ts[where],
            self.sequence[where],
            self.matrix[where],
            self.label[where],
            self.known[where],
        )

    def labelled(self) -> "Rows":
        """The rows whose label is neither ambiguous nor beyond the end."""
        return self.at(~np.isnan(self.label))


@dataclass(frozen=True, slots=True)
class Split:
    """The parts, each in the order of time. ``fit`` and ``calibrate`` have labels throughout, ``held_out`` need not."""

    fit: Rows
    calibrate: Rows
    held_out: Rows
    cut: int


@dataclass(frozen=True, slots=True)
class Calibration:
    """Platt's sigmoid: the probability of a rise is ``1 / (1 + exp(a * score + b))``; ``a`` is negative.

    Platt, "Probabilistic outputs for support vector machines" (1999).
    """

    a: float
    b: float

    def apply(self, score: Matrix) -> Matrix:
        """Calibrated probabilities of a rise, one a score."""
        return np.asarray(1.0 / (1.0 + np.exp(self.a * score + self.b)))


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model did on rows that it never saw: ``hit_rate`` is the share of directions that were right."""

    rows: int
    period: tuple[str, str]
    auc: float
    log_loss: float
    hit_rate: float


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """One version, ready to be packed. ``golden`` holds rows, None where missing, and ``golden_scores`` what they score."""

    version: str
    framework: Literal["lightgbm", "sklearn"]
    artifact: Path
    schema: FeatureSchema
    calibration: Calibration
    golden: list[list[float | None]]
    golden_scores: list[float]
    library: tuple[str, str]
    rows: int
    period: tuple[str, str]
    held_out: Figures


@dataclass(frozen=True, slots=True)
class Study:
    """All that training gives: the versions, and the rows that none of them saw."""

    models: tuple[TrainedModel, ...]
    split: Split
    source: str
    generated: bool


def collect(ticks: Ticks, sizes: Sequence[int] = SIZES) -> Rows:
    """The bars of every size with features and labels, merged in the order in which they closed."""
    sets = [volume_bars(ticks, size) for size in sizes]
    label, known = zip(*(labels(bars) for bars in sets), strict=True)
    last = np.concatenate([bars.last for bars in sets])
    size = np.concatenate([np.full(len(bars), bars.size) for bars in sets])
    rows = Rows(
        instrument=np.concatenate([np.full(len(bars), bars.instrument) for bars in sets]),
        ts=np.concatenate([bars.ts_close for bars in sets]),
        sequence=np.concatenate([np.arange(1, len(bars) + 1) for bars in sets]),
        matrix=np.concatenate([feature_matrix(bars) for bars in sets]),
        label=np.concatenate(label),
        known=np.concatenate(known),
    )
    return rows.at(np.lexsort((size, last)))


def split_by_time(rows: Rows, cut: int) -> Split:
    """Cut the rows at the time ``cut``; nothing that a model is fitted or calibrated on reaches past it."""
    train = rows.at(rows.known <= cut).labelled()
    if len(train) < 100:
        raise ValueError(f"only {len(train)} labelled rows lie before the cut: that trains nothing")
    inner = int(train.ts[int(len(train) * FIT_SHARE)])
    return Split(
        fit=train.at(train.known <= inner),
        calibrate=train.at(train.ts > inner),
        held_out=rows.at(rows.ts > cut + EMBARGO_NS),
        cut=cut,
    )


def train(ticks: Ticks, folder: Path) -> Study:
    """Train, calibrate and judge the three versions; write their artifacts into ``folder``. Equal trades, equal models."""
    folder.mkdir(parents=True, exist_ok=True)
    split = split_by_time(collect(ticks), int(ticks.ts[int(len(ticks) * TRAIN_SHARE)]))
    models = (
        _boosted("6", folder, split, split.fit.at(np.arange(len(split.fit) // 2)), trees=20),
        _boosted("7", folder, split, split.fit, trees=60),
        _logistic("8", folder, split, split.fit),
    )
    return Study(models, split, ticks.source, ticks.generated)


def snapshots(rows: Rows, count: int) -> list[Snapshot]:
    """The first ``count`` rows as a strategy sends them."""
    return [
        Snapshot(
            symbol=str(rows.instrument[index]),
            ts_event=int(rows.ts[index]),
            features=dict(zip(NAMES, optional_values(rows.matrix[index]), strict=True)),
            sequence=int(rows.sequence[index]),
        )
        for index in range(min(count, len(rows)))
    ]


def optional_values(row: Matrix) -> list[float | None]:
    """The row with None in place of NaN."""
    return [None if np.isnan(value) else float(value) for value in row]


def _boosted(version: str, folder: Path, split: Split, rows: Rows, *, trees: int) -> TrainedModel:
    settings = {
        "objective": "binary",
        "num_leaves": 7,
        "learning_rate": 0.05,
        "min_data_in_leaf": 200,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.5,
        "bagging_freq": 1,
        "lambda_l2": 20.0,
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": 7,
        "verbose": -1,
    }
    booster = lightgbm.train(settings, lightgbm.Dataset(rows.matrix, rows.label, feature_name=list(NAMES)), trees)
    artifact = folder / f"{MODEL}-{version}.txt"
    booster.save_model(artifact)

    def score(matrix: Matrix) -> Matrix:
        return np.asarray(booster.predict(matrix, num_threads=1), dtype=np.float64)

    schema = FeatureSchema(tuple(msgspec.structs.replace(feature, missing="native") for feature in FEATURES))
    return _judge(version, "lightgbm", ("lightgbm", lightgbm.__version__), artifact, schema, score, rows, split)


def _logistic(version: str, folder: Path, split: Split, rows: Rows) -> TrainedModel:
    fill = np.nanmedian(rows.matrix, axis=0)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    pipeline.fit(_filled(rows.matrix, fill), rows.label)
    artifact = folder / f"{MODEL}-{version}.joblib"
    joblib.dump(pipeline, artifact)

    def score(matrix: Matrix) -> Matrix:
        return np.asarray(pipeline.predict_proba(_filled(matrix, fill))[:, 1], dtype=np.float64)

    schema = FeatureSchema(
        tuple(
            msgspec.structs.replace(feature, missing="impute", fill=float(fill[index]))
            for index, feature in enumerate(FEATURES)
        )
    )
    return _judge(version, "sklearn", ("scikit-learn", sklearn.__version__), artifact, schema, score, rows, split)


def _judge(
    version: str,
    framework: Literal["lightgbm", "sklearn"],
    library: tuple[str, str],
    artifact: Path,
    schema: FeatureSchema,
    score: Callable[[Matrix], Matrix],
    rows: Rows,
    split: Split,
) -> TrainedModel:
    calibration = _platt(score(split.calibrate.matrix), split.calibrate.label)
    held_out = split.held_out.labelled()
    probability = calibration.apply(score(held_out.matrix))
    # Half of them from the first bars, where windows are not yet full: what is missing is promised as well.
    picked = np.concatenate(
        (np.array([0, 40, 150, 400]), np.linspace(len(rows) // 2, len(rows) - 1, 4).astype(np.int64))
    )
    golden = rows.matrix[np.minimum(picked, len(rows) - 1)]
    return TrainedModel(
        version=version,
        framework=framework,
        artifact=artifact,
        schema=schema,
        calibration=calibration,
        golden=[optional_values(row) for row in golden],
        golden_scores=[float(value) for value in score(golden)],
        library=library,
        rows=len(rows),
        period=period(rows),
        held_out=Figures(
            rows=len(held_out),
            period=period(held_out),
            auc=float(roc_auc_score(held_out.label, probability)),
            log_loss=float(log_loss(held_out.label, probability)),
            hit_rate=float(np.mean((probability >= 0.5) == (held_out.label == 1.0))),
        ),
    )


def period(rows: Rows) -> tuple[str, str]:
    """The first and the last event time, UTC, as text."""
    return utc(int(rows.ts[0])), utc(int(rows.ts[-1]))


def utc(ts: int) -> str:
    """Nanoseconds as ISO 8601 text, to the millisecond."""
    return f"{np.datetime64(ts, 'ns').astype('datetime64[ms]')}Z"


def _platt(score: Matrix, label: Matrix) -> Calibration:
    fitted = LogisticRegression(C=1e6).fit(score.reshape(-1, 1), label)
    return Calibration(a=-float(fitted.coef_[0, 0]), b=-float(fitted.intercept_[0]))


def _filled(matrix: Matrix, fill: Matrix) -> Matrix:
    return np.where(np.isnan(matrix), fill, matrix)
