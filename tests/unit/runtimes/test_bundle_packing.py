"""Packing: what goes in comes out, the same each time, whole or not at all."""

import hashlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import joblib
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression

from signalyard.problems import CallerError, ModelError, Problem
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.manifest import (
    Bin,
    Calibration,
    Clip,
    GoldenRows,
    Isotonic,
    Moments,
    Output,
    Platt,
    Standardise,
)
from signalyard_runtimes.packing import PackSpec, pack
from signalyard_runtimes.scorer import load


def dumped(model: Any) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(model, buffer)
    return buffer.getvalue()


number = st.floats(-1e6, 1e6, allow_nan=False)
calibrations: st.SearchStrategy[Calibration | None] = st.one_of(
    st.none(),
    st.builds(Platt, a=st.floats(-9, -0.1), b=st.floats(-2, 2)),
    st.lists(st.integers(0, 100), min_size=2, max_size=6, unique=True).map(
        lambda knots: Isotonic(x=tuple(sorted(k / 100 for k in knots)), y=tuple(sorted(k / 100 for k in knots)))
    ),
)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(st.tuples(st.floats(0, 1e6), st.none() | number), min_size=1, max_size=5),
    calibration=calibrations,
    text=st.text(max_size=20),
    reverse=st.booleans(),
)
def test_what_was_packed_verifies_and_scores_alike(
    booster_text: bytes,
    lightgbm_spec: PackSpec,
    rows: list[tuple[float, float | None]],
    calibration: Calibration | None,
    text: str,
    reverse: bool,
) -> None:
    spec = msgspec.structs.replace(
        lightgbm_spec, calibration=calibration, training={"note": text, text: [1, 0.1, None]}
    )
    order = slice(None, None, -1) if reverse else slice(None)
    golden = GoldenRows(columns=("close", "ret_5")[order], rows=tuple(row[order] for row in rows))
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder, "one"), Path(folder, "two")
        manifest = pack(spec, booster_text, golden, one)
        assert store.read(one).manifest == manifest
        assert pack(spec, booster_text, golden, two).digest == manifest.digest
        assert {f.name: f.read_bytes() for f in one.iterdir()} == {f.name: f.read_bytes() for f in two.iterdir()}
        answer = load(one).score(golden.columns, golden.rows)
        assert answer.digest == manifest.digest
        assert (answer.confidence is None) == (calibration is None)


def test_the_digest_is_what_the_documentation_says(lightgbm_bundle: Path) -> None:
    manifest = json.loads((lightgbm_bundle / "manifest.json").read_bytes())
    digest = manifest.pop("digest")
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert digest == "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def test_whole_numbers_make_the_same_digest_as_floats(
    lightgbm_spec: PackSpec, booster_text: bytes, golden: GoldenRows, tmp_path: Path
) -> None:
    whole = msgspec.structs.replace(
        lightgbm_spec,
        schema=FeatureSchema(features=(Feature(name="close", minimum=0), Feature(name="ret_5", missing="native"))),
    )
    first = pack(lightgbm_spec, booster_text, golden, tmp_path / "a")
    assert pack(whole, booster_text, golden, tmp_path / "b").digest == first.digest


def test_packing_again_changes_nothing_and_another_is_refused(
    lightgbm_spec: PackSpec, booster_text: bytes, golden: GoldenRows, lightgbm_bundle: Path
) -> None:
    before = (lightgbm_bundle / "manifest.json").stat().st_mtime_ns
    pack(lightgbm_spec, booster_text, golden, lightgbm_bundle)
    assert (lightgbm_bundle / "manifest.json").stat().st_mtime_ns == before
    other = msgspec.structs.replace(lightgbm_spec, training={"rows": 501})
    with pytest.raises(CallerError, match="holds something else"):
        pack(other, booster_text, golden, lightgbm_bundle)
    (lightgbm_bundle / "model.txt").write_text("broken")
    with pytest.raises(ModelError) as caught:
        pack(lightgbm_spec, booster_text, golden, lightgbm_bundle)
    assert caught.value.problem is Problem.BUNDLE_FILE_CHANGED


def test_a_failed_pack_leaves_nothing(
    lightgbm_spec: PackSpec, booster_text: bytes, golden: GoldenRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("signalyard_runtimes.packing.load", fail)
    with pytest.raises(OSError, match="disk full"):
        pack(lightgbm_spec, booster_text, golden, tmp_path / "deep" / "bundle")
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_model_file_that_is_not_there(lightgbm_spec: PackSpec, golden: GoldenRows, tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="cannot be read: No such file"):
        pack(lightgbm_spec, tmp_path / "absent.txt", golden, tmp_path / "bundle")


def test_a_golden_row_that_cannot_be_scored(lightgbm_spec: PackSpec, booster_text: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"golden row 1 cannot be scored: close: -1\.0 is below"):
        pack(
            lightgbm_spec,
            booster_text,
            GoldenRows(columns=("close", "ret_5"), rows=((1.0, 1.0), (-1.0, 0.0))),
            tmp_path / "b",
        )
    with pytest.raises(ModelError, match="at least one golden row"):
        pack(lightgbm_spec, booster_text, GoldenRows(columns=("close", "ret_5"), rows=()), tmp_path / "b")
    with pytest.raises(ModelError, match="must have 2 values"):
        pack(lightgbm_spec, booster_text, GoldenRows(columns=("close", "ret_5"), rows=((1.0,),)), tmp_path / "b")


def test_native_is_refused_where_the_model_does_not_stand_a_gap(
    sklearn_spec: PackSpec, pipeline_bytes: bytes, tmp_path: Path
) -> None:
    schema = FeatureSchema(features=(Feature(name="close"), Feature(name="ret_5", missing="native")))
    spec = msgspec.structs.replace(sklearn_spec, schema=schema)
    with pytest.raises(ModelError, match="the model raised ValueError: Input X contains NaN"):
        pack(spec, pipeline_bytes, GoldenRows(columns=("close", "ret_5"), rows=((1.0, 1.0),)), tmp_path / "b")


def test_declared_steps_reach_the_model(tmp_path: Path) -> None:
    features = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0]])
    model = LinearRegression().fit(features, features @ [2.0, 10.0])
    spec = PackSpec(
        name="linear",
        version="1",
        framework="sklearn",
        schema=FeatureSchema(features=(Feature(name="a"), Feature(name="b"))),
        preprocessing=(
            Clip(bounds={"a": (0.0, 100.0)}),
            Standardise(moments={"a": Moments(mean=50.0, scale=25.0)}),
            Bin(edges={"b": (10.0, 20.0)}),
        ),
        output=Output(kind="regression", neutral=0.0),
    )
    pack(spec, dumped(model), GoldenRows(columns=("a", "b"), rows=((200.0, 20.0),)), tmp_path / "b")
    answer = load(tmp_path / "b").score(("b", "a"), [[20.0, 200.0], [9.0, -7.0]])
    assert answer.score == pytest.approx([2.0 * 2 + 10 * 2, 2.0 * -2 + 0])
    assert answer.confidence is None


def test_a_model_fitted_on_a_data_frame(sklearn_spec: PackSpec, golden: GoldenRows, tmp_path: Path) -> None:
    import pandas

    frame = pandas.DataFrame({"close": [1.0, 2.0, 3.0, 4.0], "ret_5": [0.1, 0.2, 0.1, 0.3]})
    pack(sklearn_spec, dumped(LogisticRegression().fit(frame, [0, 0, 1, 1])), golden, tmp_path / "b")
    wrong = LogisticRegression().fit(frame[["ret_5", "close"]], [0, 0, 1, 1])
    with pytest.raises(ModelError, match="the model's feature 0 is 'ret_5', the schema's is 'close'"):
        pack(sklearn_spec, dumped(wrong), golden, tmp_path / "c")


def test_classes_other_than_down_and_up(sklearn_spec: PackSpec, golden: GoldenRows, tmp_path: Path) -> None:
    model = LogisticRegression().fit([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]], [-1, 0, 1])
    with pytest.raises(ModelError, match="classes must be 0"):
        pack(sklearn_spec, dumped(model), golden, tmp_path / "b")


def test_a_score_that_is_not_finite_is_the_rows_error(tmp_path: Path) -> None:
    model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1e300])
    spec = PackSpec(
        name="steep",
        version="1",
        framework="sklearn",
        schema=FeatureSchema(features=(Feature(name="a"),)),
        output=Output(kind="regression", neutral=0.0),
        calibration=Platt(a=-1.0, b=0.0),
    )
    pack(spec, dumped(model), GoldenRows(columns=("a",), rows=((1.0,),)), tmp_path / "b")
    with np.errstate(over="ignore"):
        answer = load(tmp_path / "b").score(("a",), [[1e300], [0.0], [np.inf]])
    assert answer.score[0] is None
    assert answer.score[1] is not None
    assert answer.confidence is not None
    assert answer.confidence[0] is None
    assert answer.row_error == ["the model gave inf for this row", "", "a: inf is not finite"]


def test_reading_a_bundle_needs_no_numpy_and_no_engine() -> None:
    code = (
        "import sys, signalyard_runtimes.bundle.store, signalyard_runtimes.bundle.library, signalyard_runtimes.cli\n"
        "print([name for name in ('numpy', 'lightgbm', 'sklearn', 'joblib', 'mlserver') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
