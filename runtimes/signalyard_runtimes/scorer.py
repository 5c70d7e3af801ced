"""A bundle, loaded: the one thing that packing, verifying and serving call, and nothing below it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from signalyard.problems import Problem, error
from signalyard.profile import ModelCard, ScoredRows
from signalyard_runtimes import engines
from signalyard_runtimes.bundle import library, signature, store
from signalyard_runtimes.bundle.manifest import Description, Framework, GoldenRows, Tolerance, invalid
from signalyard_runtimes.calibration import confidence
from signalyard_runtimes.engines.row import row_of
from signalyard_runtimes.features import Features, Matrix, to_values
from signalyard_runtimes.one_row import OneRow


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
        self._engine = engines.load(description.framework, artifact)
        _compare_features(self._engine.features, description.schema.names)
        self._features = Features(description.schema, description.preprocessing)
        self._confidence = (
            None if description.calibration is None else confidence(description.calibration, description.output.neutral)
        )

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

    def row(self, columns: tuple[str, ...]) -> OneRow:
        """A way for single rows of ``columns``, for one thread: its memory is kept from row to row.

        Raises CallerError where the columns are wrong.
        """
        schema = self.card.schema
        return OneRow(schema, self._features, columns, row_of(self._engine, len(schema.features)))

    def confidence(self, score: float) -> float | None:
        """The confidence that goes with a score, None where the model is not calibrated."""
        return None if self._confidence is None else float(self._confidence(np.array([score]))[0])


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
    return scorer


def check_golden(scorer: Scorer, golden: GoldenRows, tolerance: Tolerance) -> None:
    """Score the golden rows and compare. Raises ModelError: bundle_golden_mismatch; bundle_manifest_invalid where the golden
    file does not fit the model."""
    answer = score_golden(scorer, golden)
    if len(golden.score) != len(golden.rows) or (golden.confidence is None) != (answer.confidence is None):
        raise invalid(
            "the golden file must have a score for each row, and a confidence if, and only if, the model is calibrated"
        )
    _compare("score", answer.score, golden.score, tolerance)
    if answer.confidence is not None and golden.confidence is not None:
        _compare("confidence", answer.confidence, golden.confidence, tolerance)


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


def _compare(what: str, got: Sequence[float | None], promised: Sequence[float], tolerance: Tolerance) -> None:
    if len(got) != len(promised):
        raise invalid(f"the golden file has {len(promised)} of {what} for {len(got)} rows", f"/{what}")
    for row, (value, wanted) in enumerate(zip(got, promised, strict=True)):
        if value is None or abs(value - wanted) > tolerance.absolute + tolerance.relative * abs(wanted):
            raise error(
                Problem.BUNDLE_GOLDEN_MISMATCH,
                f"the golden row {row} must have the {what} {wanted}, the model gives {value}",
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
