"""The engines that install beside one another. Those of PyTorch and TensorFlow are in tests/frameworks."""

import io
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import joblib
import lightgbm as lgb
import msgspec
import numpy as np
import onnx
import pytest
import skops.io
import xgboost as xgb
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tests.engines.suite import EngineSuite, Trial, golden, rows, spec, training

from signalyard.problems import ModelError, Problem
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes import engines
from signalyard_runtimes.bundle import library
from signalyard_runtimes.bundle.manifest import Framework, GoldenRows, Manifest
from signalyard_runtimes.packing import pack
from signalyard_runtimes.scorer import load

WIDER = np.random.default_rng(3).normal(size=(300, 3))


def boosted(features: Any, **more: Any) -> Any:
    _, target = training()
    return xgb.XGBClassifier(n_estimators=20, max_depth=3, n_jobs=1, **more).fit(features, target)


def raw(model: Any, form: str = "ubj") -> bytes:
    return bytes(getattr(model, "get_booster", lambda: model)().save_raw(form))


def pipeline(features: Any) -> Any:
    _, target = training()
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(features, target)


def graph(weights: Any, *, rows_name: Any = "rows", output: str = "score", width: int = 1) -> bytes:
    """Standardising and a logistic regression, as one graph."""
    count = len(weights)
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("MatMul", ["centred", "weights"], ["raw"]),
        helper.make_node("Sigmoid", ["raw"], [output]),
    ]
    constants = [
        numpy_helper.from_array(np.full(count, 0.1), "mean"),
        numpy_helper.from_array(np.repeat(np.array(weights)[:, None], width, axis=1), "weights"),
    ]
    made = helper.make_graph(
        nodes,
        "trend",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, [rows_name, count])],
        [helper.make_tensor_value_info(output, TensorProto.DOUBLE, [rows_name, width])],
        constants,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def by_hand(artifact: bytes) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])
    return lambda matrix: session.run(None, {"features": matrix})[0]


class TestLightGBM(EngineSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def trial(cls) -> Trial:
        features, target = training()
        parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7}

        def text(x: Any, names: list[str]) -> str:
            return str(lgb.train(parameters, lgb.Dataset(x, target, feature_name=names), 10).model_to_string())

        one = text(features, ["close", "ret_5"])
        booster = lgb.Booster(model_str=one)
        # What follows are importances and parameters, without which it is whole.
        end = one.index("end of trees")
        return Trial(
            "lightgbm",
            one[: end + len("end of trees")].encode(),
            text(WIDER, ["close", "ret_5", "volume"]).encode(),
            lambda matrix: booster.predict(matrix, num_threads=1),
            gaps=True,
        )


class TestXGBoost(EngineSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def trial(cls) -> Trial:
        model = boosted(training()[0])
        return Trial(
            "xgboost",
            raw(model),
            raw(boosted(WIDER)),
            lambda matrix: model.predict_proba(matrix)[:, 1],
            gaps=True,
        )


class TestSklearn(EngineSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def trial(cls) -> Trial:
        def dumped(model: Any) -> bytes:
            buffer = io.BytesIO()
            joblib.dump(model, buffer)
            return buffer.getvalue()

        model = pipeline(training()[0])
        return Trial(
            "sklearn", dumped(model), dumped(pipeline(WIDER)), lambda matrix: model.predict_proba(matrix)[:, 1]
        )


class TestSkops(EngineSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def trial(cls) -> Trial:
        model = pipeline(training()[0])
        return Trial(
            "skops",
            skops.io.dumps(model),
            skops.io.dumps(pipeline(WIDER)),
            lambda matrix: model.predict_proba(matrix)[:, 1],
        )


class TestOnnx(EngineSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def trial(cls) -> Trial:
        artifact = graph([0.5, 1.5])
        return Trial("onnx", artifact, graph([0.5, 1.5, 0.1]), by_hand(artifact))


def refusal(framework: Framework, artifact: bytes) -> str:
    with pytest.raises(ModelError) as caught:
        engines.load(framework, artifact)
    assert (caught.value.problem, caught.value.pointer) == (Problem.BUNDLE_ARTIFACT_INVALID, "/artifact")
    return caught.value.detail


@pytest.mark.parametrize("form", ["ubj", "json"])
def test_an_xgboost_model_means_the_same_whoever_saved_it(tmp_path: Path, form: str) -> None:
    features, target = training()
    held_out = {"eval_set": [(rows(100), (rows(100)[:, 1] > 0).astype(int))], "verbose": False}
    stopped = xgb.XGBClassifier(n_estimators=80, max_depth=4, n_jobs=1, early_stopping_rounds=2)
    stopped.fit(features, target, **held_out)
    regressor = xgb.XGBRegressor(n_estimators=10, max_depth=3, n_jobs=1).fit(features, features[:, 1] * 0.1)
    # Else it would not show that the trees behind the best one are left out.
    assert stopped.best_iteration + 1 < stopped.get_booster().num_boosted_rounds()
    matrix = rows(50)
    matrix[::4, 0] = np.nan
    for wrapper, wanted in (
        (stopped, stopped.predict_proba(matrix)[:, 1]),
        (regressor, regressor.predict(matrix)),
    ):
        wrapper.save_model(tmp_path / f"wrapper.{form}")
        wrapper.get_booster().save_model(tmp_path / f"booster.{form}")
        for name in ("wrapper", "booster"):
            engine = engines.load("xgboost", (tmp_path / f"{name}.{form}").read_bytes())
            np.testing.assert_array_equal(engine.score(matrix), wanted.astype(np.float64))


def test_xgboosts_two_classes_linear_and_dropped_trees() -> None:
    features, target = training()
    data = xgb.DMatrix(features, target, feature_names=["close", "ret_5"])
    two = xgb.train({"objective": "multi:softprob", "num_class": 2, "nthread": 1}, data, 3)
    engine = engines.load("xgboost", raw(two))
    assert engine.features == ("close", "ret_5")
    np.testing.assert_array_equal(engine.score(features), two.predict(data)[:, 1].astype(np.float64))
    for booster in ("gblinear", "dart"):
        model = xgb.XGBRegressor(n_estimators=5, booster=booster, n_jobs=1).fit(features, features[:, 1])
        np.testing.assert_array_equal(
            engines.load("xgboost", raw(model)).score(features), model.predict(features).astype(np.float64)
        )


def test_xgboost_models_that_give_no_score() -> None:
    features, target = training()
    data = xgb.DMatrix(features, target)
    softmax = xgb.train({"objective": "multi:softmax", "num_class": 2, "nthread": 1}, data, 1)
    three = xgb.train({"objective": "multi:softprob", "num_class": 3, "nthread": 1}, data, 1)
    assert "use multi:softprob" in refusal("xgboost", raw(softmax))
    assert "3 outputs a row" in refusal("xgboost", raw(three))
    assert "save it as model.json or model.ubj" in refusal("xgboost", b"tree\n")
    text = raw(boosted(features), "json")
    for size in (1, len(text) // 2, len(text) - 1):
        assert "not a model in XGBoost's JSON or UBJ form: " in refusal("xgboost", text[:size])


class _Trap:
    """Pickled, it runs code when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_a_pickle_in_the_place_of_a_skops_file_runs_nothing(tmp_path: Path) -> None:
    trap = pickle.dumps(_Trap(tmp_path / "it-ran"))
    assert "not a file of skops" in refusal("skops", trap)
    model = pipeline(training()[0])
    model.steps[0][1].mark = _Trap(tmp_path / "it-ran")
    detail = refusal("skops", skops.io.dumps(model))
    assert "_Trap" in detail
    # Not by way of the zip either.
    packed = io.BytesIO(skops.io.dumps(pipeline(training()[0])))
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("trap.pkl", trap)
    assert engines.load("skops", packed.getvalue()).features == 2
    assert not (tmp_path / "it-ran").exists()


def test_onnx_outputs_and_shapes() -> None:
    assert "must have the shape [any, features], it has [3, 2]" in refusal("onnx", graph([1.0, 1.0], rows_name=3))
    assert "a signal needs [rows]" in refusal("onnx", graph([1.0, 1.0], width=3))
    both = engines.load("onnx", graph([1.0, 1.0], width=2, output="probabilities"))
    assert both.score(rows(4)).shape == (4,)
    two = onnx.load_from_string(graph([1.0, 1.0]))
    two.graph.output.append(helper.make_tensor_value_info("raw", TensorProto.DOUBLE, ["rows", 1]))
    assert engines.load("onnx", two.SerializeToString()).score(rows(4)).shape == (4,)
    two.graph.node[2].output[0] = two.graph.output[0].name = "label"
    assert "one must be named score or probabilities" in refusal("onnx", two.SerializeToString())
    two.graph.input.append(helper.make_tensor_value_info("more", TensorProto.DOUBLE, ["rows", 1]))
    assert "it must have one input" in refusal("onnx", two.SerializeToString())


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "absolute"])
def test_onnx_weights_outside_the_bundle_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    (tmp_path / "weights.bin").write_bytes(np.array([9.0, 9.0]).tobytes())
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner" if location.startswith("..") else tmp_path)
    model = onnx.load_from_string(graph([0.5, 1.5]))
    weights = model.graph.initializer[1]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    place = str(tmp_path / "weights.bin") if location == "absolute" else location
    for key, value in (("location", place), ("offset", "0"), ("length", "16")):
        weights.external_data.add(key=key, value=value)
    assert "External data path" in refusal("onnx", model.SerializeToString())


def test_a_bundle_of_ten_thousand_features(tmp_path: Path) -> None:
    names = tuple(f"f{index}" for index in range(10_000))
    schema = FeatureSchema(features=tuple(Feature(name=name, minimum=-1e6) for name in names))
    wide = msgspec.structs.replace(spec("onnx"), schema=schema)
    values = np.linspace(-1, 1, 20_000).reshape(2, 10_000)
    artifact = graph([0.001] * 10_000)
    pack(wide, artifact, GoldenRows(columns=names, rows=tuple(map(tuple, values.tolist()))), tmp_path / "bundle")
    answer = load(tmp_path / "bundle").score_values(names[::-1], values[:, ::-1])
    np.testing.assert_array_equal(answer.score, by_hand(artifact)(values)[:, 0])
    # One of them twice, and one that the model lacks.
    for features, detail in (((*names[:-1], "f0"), "declared twice"), (names[:-1], "the model takes 10000 features")):
        schema = FeatureSchema(features=tuple(Feature(name=name) for name in features))
        with pytest.raises(ModelError, match=detail):
            pack(msgspec.structs.replace(wide, schema=schema), artifact, golden(), tmp_path / "other")


def manifest_of(framework: Framework, tmp_path: Path, **versions: str) -> Manifest:
    artifacts = {"onnx": lambda: graph([0.5, 1.5]), "skops": lambda: skops.io.dumps(pipeline(training()[0]))}
    made = pack(spec(framework), artifacts[framework](), golden(), tmp_path / "bundle")
    return Manifest(**{name: getattr(made, name) for name in made.__struct_fields__} | {"library": versions})


@pytest.mark.parametrize(
    ("made", "installed", "good"),
    [
        ("1.20.1", "1.20.0", True),
        ("1.20.0", "1.32.0+cpu", True),
        ("1.20.0", "2.0rc1", True),
        ("1.20.0", "1.19.9", False),
        ("2.0.0", "1.32.0", False),
    ],
)
def test_an_exchange_form_is_read_by_what_is_not_older(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, installed: str, good: bool
) -> None:
    manifest = manifest_of("onnx", tmp_path, onnxruntime=made)
    monkeypatch.setattr(library, "version", lambda name: installed)
    if good:
        library.check(manifest)
        return
    with pytest.raises(ModelError, match=f"needs onnxruntime {made} or newer; installed is {installed}") as caught:
        library.check(manifest)
    assert caught.value.problem is Problem.BUNDLE_LIBRARY_MISMATCH


def test_a_private_form_is_read_by_the_very_version(tmp_path: Path) -> None:
    installed = library.installed_version("scikit-learn")
    assert installed is not None
    library.check(manifest_of("skops", tmp_path / "right", **{"scikit-learn": installed}))
    with pytest.raises(ModelError, match=r"needs scikit-learn 1\.0\.0; installed is"):
        library.check(manifest_of("skops", tmp_path / "wrong", **{"scikit-learn": "1.0.0"}))


def test_another_build_of_a_library_is_that_library() -> None:
    assert library.installed_version("xgboost") == xgb.__version__
    assert library.installed_version("tensorflow") is None


def test_importing_the_package_imports_no_framework() -> None:
    program = (
        "import sys, signalyard, signalyard.client, signalyard.cli, signalyard_runtimes, signalyard_runtimes.cli\n"
        "import signalyard_runtimes.scorer, signalyard_runtimes.packing, signalyard_runtimes.inline\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    frameworks = {"lightgbm", "xgboost", "sklearn", "skops", "joblib", "onnxruntime", "torch", "tensorflow", "mlserver"}
    assert not frameworks & set(found.stdout.split())
    assert "signalyard_runtimes" in found.stdout.split()
