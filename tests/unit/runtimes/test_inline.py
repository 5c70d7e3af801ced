"""A bundle in this process: the same checks at load, the same scores and refusals as among many rows, from any thread."""

import gc
import json
import math
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalyard.problems import CallerError, ModelError, Problem, SignalyardError
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes import inline, scorer
from signalyard_runtimes.bundle.manifest import Bin, Clip, Description, Impute, Moments, Output, Standardise
from signalyard_runtimes.features import explain

ROWS: list[list[float | None]] = [[3512.0, 0.0012], [3480.0, -0.8], [3505.5, None], [3499.0, math.nan], [1.0, 1e300]]

_BLAS = 1e-12
"""A matrix product may add up one row in another order than many; LightGBM's scores are compared to the last bit elsewhere."""


@pytest.mark.parametrize("bundle", ["lightgbm_bundle", "sklearn_bundle"])
def test_a_row_alone_has_the_score_and_the_confidence_that_a_server_gives(
    bundle: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue(bundle)
    model = inline.load(path)
    loaded = scorer.load(path)
    served = loaded.score(model.columns, ROWS)
    for index, row in enumerate(ROWS):
        alone = loaded.score(model.columns, [row])
        assert alone.score == pytest.approx(served.score[index : index + 1], rel=_BLAS, abs=0.0)
        assert alone.confidence == (served.confidence and served.confidence[index : index + 1])
    assert served.row_error == [""] * len(ROWS)
    assert [model.score(row) for row in ROWS] == pytest.approx(served.score, rel=_BLAS, abs=0.0)
    if served.confidence is None:
        assert model.confidence(0.7) is None
    else:
        assert [model.confidence(model.score(row)) for row in ROWS] == served.confidence


def test_columns_may_come_in_any_order_and_one_that_may_be_missing_may_stay_away(lightgbm_bundle: Path) -> None:
    model = inline.load(lightgbm_bundle)
    turned = inline.load(lightgbm_bundle, columns=["ret_5", "close"])
    assert turned.columns == ("ret_5", "close")
    assert turned.score([0.0012, 3512.0]) == model.score([3512.0, 0.0012])
    assert turned.score([None, 3512.0]) == model.score([3512.0, None])
    assert turned.score(np.array([0.5, 3512.0])) == model.score(np.array([3512.0, 0.5]))
    without = inline.load(lightgbm_bundle, columns=["close"])
    assert without.score([3512.0]) == without.score(np.array([3512])) == model.score([3512.0, None])


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (["close", "ret_5", "volume"], Problem.UNKNOWN_FEATURE),
        (["ret_5"], Problem.MISSING_FEATURE),
        (["close", "close"], Problem.DUPLICATE_FEATURE),
    ],
)
def test_columns_that_are_not_the_models_are_refused_at_load(
    lightgbm_bundle: Path, columns: list[str], problem: Problem
) -> None:
    with pytest.raises(CallerError) as caught:
        inline.load(lightgbm_bundle, columns)
    assert caught.value.problem is problem


@pytest.mark.parametrize(
    ("row", "problem", "pointer", "text"),
    [
        ([None, 0.1], Problem.MISSING_FEATURE, "/features/close", "is missing"),
        ([-1.0, 0.1], Problem.FEATURE_OUT_OF_RANGE, "/features/close", "below the minimum of 0.0"),
        ([3500.0, math.inf], Problem.FEATURE_NOT_FINITE, "/features/ret_5", "not finite"),
        (np.array([math.nan, 0.1]), Problem.MISSING_FEATURE, "/features/close", "is missing"),
        ([3500.0], Problem.INVALID_SNAPSHOT, "/features", "2 columns, and 1 values"),
        ([3500.0, 0.1, 0.2], Problem.INVALID_SNAPSHOT, "/features", "2 columns, and 3 values"),
        (np.array([3500.0]), Problem.INVALID_SNAPSHOT, "/features", "must be 2 numbers"),
        (np.array([[3500.0, 0.1]]), Problem.INVALID_SNAPSHOT, "/features", "must be 2 numbers"),
        (np.array(["3500", "0.1"]), Problem.INVALID_SNAPSHOT, "/features", "must be 2 numbers"),
        (["3500", 0.1], Problem.INVALID_SNAPSHOT, "/features/close", "not a str"),
        ([3500.0, [0.1]], Problem.INVALID_SNAPSHOT, "/features/ret_5", "not a list"),
        ([10**400, 0.1], Problem.INVALID_SNAPSHOT, "/features/close", "larger than FP64"),
        ({"close": 3500.0, "ret_5": 0.1}, Problem.INVALID_SNAPSHOT, "/features/close", "not a str"),
    ],
)
def test_a_row_that_cannot_be_scored_names_its_feature_and_spoils_nothing(
    lightgbm_bundle: Path, row: Any, problem: Problem, pointer: str, text: str
) -> None:
    model = inline.load(lightgbm_bundle)
    before = model.score(ROWS[0])
    with pytest.raises(CallerError) as caught:
        model.score(row)
    assert (caught.value.problem, caught.value.pointer) == (problem, pointer)
    assert text in caught.value.detail
    assert model.score(ROWS[0]) == before


def test_whole_numbers_truth_values_and_numpy_scalars_are_numbers(lightgbm_bundle: Path) -> None:
    model = inline.load(lightgbm_bundle)
    assert model.score([3512, True]) == model.score([np.float64(3512), np.int64(1)]) == model.score([3512.0, 1.0])


# The same checks at load -------------------------------------------------------------------------------------------------


def test_another_digest_is_refused(lightgbm_bundle: Path) -> None:
    digest = json.loads((lightgbm_bundle / "manifest.json").read_bytes())["digest"]
    assert inline.load(lightgbm_bundle, digest=digest).card.digest == digest
    with pytest.raises(ModelError) as caught:
        inline.load(lightgbm_bundle, digest="sha256:" + "0" * 64)
    assert caught.value.problem is Problem.BUNDLE_FILE_CHANGED


def test_a_changed_file_a_changed_golden_row_and_another_library_are_refused(
    lightgbm_bundle: Path, sklearn_bundle: Path, forge: Callable[..., None]
) -> None:
    golden = json.loads((lightgbm_bundle / "golden.json").read_bytes())
    golden["score"][1] += 1e-3
    forge(lightgbm_bundle, golden__json=json.dumps(golden).encode())
    with pytest.raises(ModelError) as caught:
        inline.load(lightgbm_bundle)
    assert caught.value.problem is Problem.BUNDLE_GOLDEN_MISMATCH
    forge(sklearn_bundle, lambda manifest: manifest["library"].update({"scikit-learn": "0.1"}))
    with pytest.raises(ModelError) as caught:
        inline.load(sklearn_bundle)
    assert caught.value.problem is Problem.BUNDLE_LIBRARY_MISMATCH
    (lightgbm_bundle / "model.txt").write_bytes(b"tree\n")
    with pytest.raises(ModelError) as caught:
        inline.load(lightgbm_bundle)
    assert caught.value.problem is Problem.BUNDLE_FILE_CHANGED


def test_a_model_that_scores_a_row_alone_otherwise_is_refused(
    lightgbm_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = scorer.Scorer.row

    def dishonest(self: scorer.Scorer, columns: tuple[str, ...]) -> Any:
        row = honest(self, columns)
        score = row.score
        row.score = lambda values: score(values) + 1e-3  # type: ignore[method-assign]
        return row

    monkeypatch.setattr(scorer.Scorer, "row", dishonest)
    with pytest.raises(ModelError, match="the golden row 0 alone must have the score") as caught:
        inline.load(lightgbm_bundle)
    assert caught.value.problem is Problem.BUNDLE_GOLDEN_MISMATCH


# One row is what many rows are -------------------------------------------------------------------------------------------


class Summing:
    """Tells what reached it: the sum, NaN counted apart."""

    features = 5

    def score(self, matrix: Any) -> Any:
        return np.nansum(matrix, axis=1) + 0.125 * np.isnan(matrix).sum(axis=1)


NUMBERS = st.floats(allow_nan=True) | st.integers(-3, 3).map(float) | st.floats(-2, 2)
NAMES = tuple("abcde")


@st.composite
def features(draw: st.DrawFn, name: str) -> Feature:
    low, high = draw(st.sampled_from([(None, None), (-1.0, None), (None, 1.0), (-1.0, 1.0), (0.0, 0.0)]))
    missing = draw(st.sampled_from(["refuse", "native", "impute"]))
    return Feature(
        name=name,
        dtype=draw(st.sampled_from(["float64", "int64", "bool"])),
        minimum=low,
        maximum=high,
        missing=missing,
        fill=0.25 if missing == "impute" else None,
    )


STEPS = (
    Impute(values={"a": 0.5}),
    Clip(bounds={"b": (-0.5, 0.5)}),
    Standardise(moments={"c": Moments(mean=0.25, scale=2.0)}),
    Bin(edges={"d": (-1.0, 0.0, 1.0)}),
)


@given(data=st.data())
def test_one_row_is_checked_prepared_and_scored_as_rows_are(data: st.DataObject) -> None:
    schema = FeatureSchema(tuple(data.draw(features(name)) for name in NAMES))
    steps = tuple(data.draw(st.lists(st.sampled_from(STEPS), unique_by=type)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("signalyard_runtimes.engines.load", lambda framework, artifact: Summing())
        description = Description(
            name="m",
            version="1",
            framework="lightgbm",
            schema=schema,
            preprocessing=steps,
            output=Output(kind="regression", neutral=0.0),
        )
        many = scorer.Scorer(description, b"", "sha256:0")
    may_stay_away = [feature.name for feature in schema.features if feature.missing != "refuse"]
    away = set(data.draw(st.lists(st.sampled_from(may_stay_away), unique=True)) if may_stay_away else [])
    columns = tuple(data.draw(st.permutations([name for name in NAMES if name not in away])))
    one = many.row(columns)
    for _ in range(4):
        row = data.draw(st.lists(NUMBERS | st.none(), min_size=len(columns), max_size=len(columns)))
        answer = many.score(columns, [row, row])
        alone = many.score(columns, [row])
        assert (alone.score, alone.row_error) == (answer.score[:1], answer.row_error[:1])
        given_array = np.array([math.nan if value is None else value for value in row], dtype=np.float64)
        for form in (row, given_array):
            try:
                found: float | str = one.score(form)
            except SignalyardError as exc:
                found = exc.detail
            assert found == (answer.row_error[0] or answer.score[0]) or (found == 0.0 and answer.score[0] == 0.0)


def test_a_model_that_raises_or_gives_no_number_is_told(lightgbm_bundle: Path) -> None:
    loaded = scorer.load(lightgbm_bundle)
    row = loaded.row(loaded.card.schema.names)

    class Broken:
        values = np.empty((1, 2))

        def score(self) -> float:
            raise ZeroDivisionError("deep inside")

    row._row = Broken()
    with pytest.raises(ModelError, match="ZeroDivisionError: deep inside") as caught:
        row.score([3500.0, 0.1])
    assert caught.value.problem is Problem.MODEL_FAILED
    Broken.score = lambda self: math.inf  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="the model gave inf") as caught:
        row.score([3500.0, 0.1])
    assert caught.value.problem is Problem.MODEL_ANSWER_NOT_FINITE


# Threads and memory ------------------------------------------------------------------------------------------------------


def test_threads_share_a_model_and_not_its_rows(lightgbm_bundle: Path) -> None:
    model = inline.load(lightgbm_bundle)
    rows = np.column_stack((np.linspace(3400, 3600, 500), np.sin(np.arange(500))))
    promised = [model.score(row) for row in rows]
    found: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda: found.append([model.score(row) for row in rows.tolist()])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [promised] * 4


def test_a_row_leaves_no_memory_behind(lightgbm_bundle: Path) -> None:
    model = inline.load(lightgbm_bundle)
    row = np.array([3512.0, 0.0012])
    kept = [3512.0, 0.0012]
    for _ in range(10):
        model.score(row)
        model.score(kept)
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(100):
            model.score(row)
            model.score(kept)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            model.score(row)
            model.score(kept)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert after - before < 200
    # what a call holds for a moment are its frames' objects; an array of the row would be among them
    assert peak - before < 1000


def test_the_reasons_are_those_that_a_server_gives(lightgbm_bundle: Path) -> None:
    feature = scorer.load(lightgbm_bundle).card.schema.features[0]
    with pytest.raises(CallerError) as caught:
        inline.load(lightgbm_bundle).score([-1.0, 0.0])
    assert caught.value.detail == explain(feature, -1.0)
