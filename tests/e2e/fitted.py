"""Fits a small model with the one framework that an image has, and packs it: `python fitted.py FRAMEWORK FOLDER`. Runs in that image."""

import base64
import importlib
import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle.folder import fold
from signalyard_runtimes.bundle.manifest import GoldenRows, Output
from signalyard_runtimes.packing import PackSpec, pack


def of_lightgbm(x: Any, y: Any) -> bytes:
    """In its text form."""
    lightgbm = importlib.import_module("lightgbm")
    data = lightgbm.Dataset(x, y, feature_name=["p"])
    text: str = lightgbm.train({"objective": "binary", "verbosity": -1, "num_threads": 1}, data, 5).model_to_string()
    return text.encode()


def of_sklearn(x: Any, y: Any) -> bytes:
    """Pickled by joblib."""
    pickled = io.BytesIO()
    model = importlib.import_module("sklearn.linear_model").LogisticRegression().fit(x, y)
    importlib.import_module("joblib").dump(model, pickled)
    return pickled.getvalue()


def of_xgboost(x: Any, y: Any) -> bytes:
    """In its UBJ form."""
    xgboost = importlib.import_module("xgboost")
    data = xgboost.DMatrix(x, y, feature_names=["p"])
    return bytes(xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 5).save_raw("ubj"))


def of_onnx(x: Any, y: Any) -> bytes:
    """A sigmoid: what runs graphs makes none."""
    return base64.b64decode(
        "CAk6YAoaCghmZWF0dXJlcxIFc2NvcmUiB1NpZ21vaWQSBXNtYWxsWh4KCGZlYXR1cmVzEhIKEAgBEgwKBhIEcm93cwoCCAFiGwoFc2NvcmUSEgoQCAESDAoGEgRyb3dzCgIIAUIECgAQEQ=="
    )


def of_tensorflow(x: Any, y: Any) -> bytes:
    """A sigmoid, as a SavedModel."""
    tf = importlib.import_module("tensorflow")
    shape = tf.TensorSpec([None, 1], tf.float32, name="features")
    serve = tf.function(lambda features: {"score": tf.sigmoid(features)}).get_concrete_function(shape)
    with TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder, signatures=serve)
        return fold(Path(folder))


_FITTED = {
    "lightgbm": of_lightgbm,
    "sklearn": of_sklearn,
    "xgboost": of_xgboost,
    "onnx": of_onnx,
    "tensorflow": of_tensorflow,
}


def main(framework: str, folder: str) -> None:
    x = np.linspace(-1.0, 1.0, 200).reshape(-1, 1)
    y = (x[:, 0] > 0.1).astype(int)
    artifact = _FITTED[framework](x, y)
    spec = PackSpec(
        name="small",
        version="1",
        framework=framework,  # type: ignore[arg-type]
        schema=FeatureSchema(features=(Feature(name="p"),)),
        output=Output(kind="probability", neutral=0.5),
    )
    pack(spec, artifact, GoldenRows(columns=("p",), rows=((-0.5,), (0.5,))), Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
