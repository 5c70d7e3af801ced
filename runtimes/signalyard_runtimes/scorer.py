"""A bundle, loaded: the one thing that packing, verifying and serving call, and nothing below it."""

import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from signalyard import profile
from signalyard.problems import Problem, SignalyardError, error
from signalyard.profile import ModelCard, ScoredRows
from signalyard_runtimes import engines
from signalyard_runtimes.bundle import library, signature, store
from signalyard_runtimes.bundle.manifest import Description, Framework, GoldenRows, Histogram, Tolerance, invalid
from signalyard_runtimes.calibration import confidence, confidence_of_one
from signalyard_runtimes.engines.row import row_of
from signalyard_runtimes.features import Features, Matrix, Vector, to_values
from signalyard_runtimes.one_row import OneRow

_KNOWN_COLUMNS = 64
_OF_THE_ROW = (
    Problem.MISSING_FEATURE,
    Problem.FEATURE_NOT_FINITE,
    Problem.FEATURE_OUT_OF_RANGE,
    Problem.MODEL_ANSWER_NOT_FINITE,
)
"""What is wrong with one row, and nothing with the others."""


class Scorer:
    """Scores rows of features as one bundle's model does."""

    def __init__(self, description: Description, artifact: bytes, digest: str) -> None:
        """Load ``artifact``, whose origin the caller has checked.

        Raises ModelError (bundle_artifact_invalid), also where its features are not those of the schema.
        """
        self.card = ModelCard(
            model=description.name,
            version=description.version,
            digest=digest,
            calibrated=description.calibration is not None,
            schema=description.schema,
        )
        self.framework: Framework = description.framework
        self.golden: GoldenRows | None = None
        self.histograms: Sequence[Histogram] = ()
        """Of the rows that the model was trained on; empty where the bundle has none."""
        self._engine = engines.load(description.framework, artifact)
        _compare_features(self._engine.features, description.schema.names)
        self._features = Features(description.schema, description.preprocessing)
        curve, neutral = description.calibration, description.output.neutral
        self._confidence = None if curve is None else confidence(curve, neutral)
        self._confidence_of_one = None if curve is None else confidence_of_one(curve, neutral)
        self._here = _Here()

    def score(self, columns: Sequence[str], rows: Sequence[Sequence[float | None]]) -> ScoredRows:
        """``rows`` of shape [rows, len(columns)], None or NaN for missing.

        Raises CallerError where the columns or the shape are wrong; what is wrong with one row is told in its ``row_error``.
        """
        width = len(columns)
        flat = [value for row in rows for value in row]
        if any(len(row) != width for row in rows):
            raise error(Problem.INVALID_SNAPSHOT, f"each row must have {width} values, one a column", "/rows")
        return self.score_values(tuple(columns), to_values(flat, len(rows), width))

    def score_values(self, columns: tuple[str, ...], values: Matrix) -> ScoredRows:
        """The same for a float64 array [rows, len(columns)], NaN for missing.

        Raises ModelError (model_failed) where the model itself fails.
        """
        if len(values) == 1 and (place := self._known_row(columns)) is not None:
            return self._score_one(place, values[0])
        built = self._features.build(columns, values)
        try:
            scores = self._engine.score(built.matrix)
        except Exception as exc:  # a model is foreign code, and may raise anything
            raise error(Problem.MODEL_FAILED, f"the model raised {type(exc).__name__}: {exc}") from exc
        confidences = None if self._confidence is None else self._confidence(scores).tolist()
        row_error = built.row_error
        score: list[float | None] = scores.tolist()
        if built.good is not None:
            score = _spread(score, built.good.tolist(), len(row_error))
            confidences = None if confidences is None else _spread(confidences, built.good.tolist(), len(row_error))
        if not np.isfinite(scores).all():
            for row, value in enumerate(score):
                if value is not None and not np.isfinite(value):
                    score[row], row_error[row] = None, f"the model gave {value} for this row"
                    if confidences is not None:
                        confidences[row] = None
        return ScoredRows(
            model=self.card.model,
            version=self.card.version,
            digest=self.card.digest,
            score=score,
            confidence=confidences,
            row_error=row_error,
        )

    def score_row(self, columns: tuple[str, ...], row: Sequence[float | None]) -> ScoredRows:
        """The same for one row, one value a column, None or NaN for missing."""
        place = self._known_row(columns)
        if place is None:
            return self.score_values(columns, to_values(row, 1, len(columns)))
        return self._score_one(place, row)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs that the profile gives this model."""
        confidence = (profile.CONFIDENCE,) if self.card.calibrated else ()
        return (profile.SCORE, *confidence, profile.ROW_ERROR)

    def row(self, columns: tuple[str, ...]) -> OneRow:
        """A way for single rows of ``columns``, for one thread: its memory is kept from row to row.

        Raises CallerError where the columns are wrong.
        """
        schema = self.card.schema
        return OneRow(schema, self._features, columns, row_of(self._engine, len(schema.features)))

    def confidence(self, score: float) -> float | None:
        """The confidence that goes with a score, None where the model is not calibrated."""
        return None if self._confidence_of_one is None else self._confidence_of_one(score)

    def _known_row(self, columns: tuple[str, ...]) -> OneRow | None:
        """This thread's place for a row of these columns, None where there are too many others. Raises CallerError."""
        here = self._here
        if columns is here.columns:  # to compare so many names takes as long as to check their values
            return here.row
        row = here.rows.get(columns)
        if row is None and len(here.rows) < _KNOWN_COLUMNS:
            row = here.rows[columns] = self.row(columns)
        if row is not None:
            here.columns, here.row = columns, row
        return row

    def _score_one(self, place: OneRow, values: Sequence[float | None] | Vector) -> ScoredRows:
        score: float | None = None
        sure: float | None = None
        row_error = ""
        try:
            score = place.score(values)
            sure = self.confidence(score)
        except SignalyardError as exc:
            if exc.problem not in _OF_THE_ROW:
                raise
            row_error = exc.detail
        card = self.card
        return ScoredRows(
            model=card.model,
            version=card.version,
            digest=card.digest,
            score=[score],
            confidence=[sure] if card.calibrated else None,
            row_error=[row_error],
        )


class _Here(threading.local):
    """Each thread's places for rows, by their columns, and the last one that was asked for."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, ...], OneRow] = {}
        self.columns: tuple[str, ...] | None = None
        self.row: OneRow | None = None


def load(path: Path, digest: str | None = None, trust: Sequence[Path] = ()) -> Scorer:
    """Verify the bundle at ``path``, and only then load it: files, digest (``digest``, where given), its signature by one of the
    public keys in the PEM files ``trust`` (where there are any), library versions, the artifact, its features, the golden rows.

    Raises ModelError: bundle_manifest_invalid, _path_unsafe, _file_missing, _file_extra, _file_changed, _unsigned,
    _signature_untrusted, _library_mismatch, _artifact_invalid, _golden_mismatch; CallerError (invalid_setting) for a key that is none.
    """
    bundle = store.read(path, digest)
    if trust:
        signature.check(bundle.signature, bundle.hashes, trust)
    library.check(bundle.manifest)
    scorer = Scorer(bundle.manifest, bundle.artifact, bundle.manifest.digest)
    check_golden(scorer, bundle.golden, bundle.manifest.golden.tolerance)
    scorer.golden = bundle.golden
    if bundle.manifest.histograms is not msgspec.UNSET:
        scorer.histograms = bundle.manifest.histograms
    return scorer


def check_golden(scorer: Scorer, golden: GoldenRows, tolerance: Tolerance) -> None:
    """Score the golden rows, together and each alone, and compare: a library may take another way for one row than for many.

    Raises ModelError: bundle_golden_mismatch; bundle_manifest_invalid where the golden file does not fit the model.
    """
    together = score_golden(scorer, golden)
    if len(golden.score) != len(golden.rows) or (golden.confidence is None) != (together.confidence is None):
        raise invalid(
            "the golden file must have a score for each row, and a confidence if, and only if, the model is calibrated"
        )
    _compare(together.score, together.confidence, golden, tolerance)
    each = [scorer.score(golden.columns, [row]) for row in golden.rows]
    alone = [answer.score[0] for answer in each]
    _compare(alone, [answer.confidence[0] for answer in each if answer.confidence], golden, tolerance, " alone")


def score_golden(scorer: Scorer, golden: GoldenRows) -> ScoredRows:
    """The golden rows' scores. Raises ModelError (bundle_manifest_invalid) where they cannot all be scored."""
    if not golden.rows:
        raise invalid("needs at least one golden row", "/rows")
    if any(len(row) != len(golden.columns) for row in golden.rows):
        raise invalid(f"each golden row must have {len(golden.columns)} values, one a column", "/rows")
    answer = scorer.score(golden.columns, golden.rows)
    for row, text in enumerate(answer.row_error):
        if text:
            raise invalid(f"the golden row {row} cannot be scored: {text}", f"/rows/{row}")
    return answer


def _compare(
    score: Sequence[float | None],
    confidence: Sequence[float | None] | None,
    golden: GoldenRows,
    tolerance: Tolerance,
    how: str = "",
) -> None:
    _compare_numbers("score", score, golden.score, tolerance, how)
    if golden.confidence is not None:
        _compare_numbers("confidence", confidence or (), golden.confidence, tolerance, how)


def _compare_numbers(
    what: str, got: Sequence[float | None], promised: Sequence[float], tolerance: Tolerance, how: str
) -> None:
    if len(got) != len(promised):
        raise invalid(f"the golden file has {len(promised)} of {what} for {len(got)} rows", f"/{what}")
    for row, (value, wanted) in enumerate(zip(got, promised, strict=True)):
        if value is None or abs(value - wanted) > tolerance.absolute + tolerance.relative * abs(wanted):
            raise error(
                Problem.BUNDLE_GOLDEN_MISMATCH,
                f"the golden row {row}{how} must have the {what} {wanted}, the model gives {value}",
                f"/{what}/{row}",
            )


def _compare_features(found: tuple[str, ...] | int | None, wanted: tuple[str, ...]) -> None:
    # Where the model knows nothing of its features, the golden rows are the judge.
    if found is None or found in (wanted, len(wanted)):
        return
    if isinstance(found, int) or len(found) != len(wanted):
        count = found if isinstance(found, int) else len(found)
        detail = f"the model takes {count} features, the schema has {len(wanted)}"
    else:
        place = next(index for index, pair in enumerate(zip(found, wanted, strict=True)) if pair[0] != pair[1])
        detail = f"the model's feature {place} is {found[place]!r}, the schema's is {wanted[place]!r}; they must be in the same order"
    raise error(Problem.BUNDLE_ARTIFACT_INVALID, detail, "/schema/features")


def _spread(values: Sequence[float | None], places: Sequence[int], rows: int) -> list[float | None]:
    spread: list[float | None] = [None] * rows
    for place, value in zip(places, values, strict=True):
        spread[place] = value
    return spread
