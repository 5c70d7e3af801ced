"""The engine of TensorFlow's SavedModel."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tests.engines.suite import EngineSuite, Trial, golden, rows, spec
from tests.pages.frameworks import follow

from signalyard.problems import CallerError, ModelError, Problem
from signalyard_runtimes import engines
from signalyard_runtimes.bundle.folder import fold
from signalyard_runtimes.packing import pack


class Trend(tf.Module):
    def __init__(self, features: int, outputs: int = 1) -> None:
        super().__init__()
        self.weights = tf.Variable(tf.ones([features, outputs]) * 0.5)

    def __call__(self, x: Any) -> Any:
        return {"score": tf.sigmoid(tf.matmul(x, self.weights))}


def saved(folder: Path, model: Trend, shape: Any) -> Path:
    serve = tf.function(model.__call__).get_concrete_function(tf.TensorSpec(shape, tf.float32, name="features"))
    tf.saved_model.save(model, str(folder), signatures=serve)
    return folder


class TestTensorFlow(EngineSuite):
    @pytest.fixture(scope="class")
    @classmethod
    def trial(cls, tmp_path_factory: pytest.TempPathFactory) -> Trial:
        folder = tmp_path_factory.mktemp("saved")
        model = Trend(2)
        return Trial(
            "tensorflow",
            fold(saved(folder / "two", model, [None, 2])),
            fold(saved(folder / "three", Trend(3), [None, 3])),
            lambda matrix: model(tf.constant(matrix, dtype=tf.float32))["score"].numpy(),
        )


def test_a_keras_model_as_keras_exports_it(tmp_path: Path) -> None:
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential([tf.keras.Input((2,)), tf.keras.layers.Dense(4, "relu"), tf.keras.layers.Dense(1)])
    model.export(tmp_path / "model", verbose=False)
    pack(spec("tensorflow"), tmp_path / "model", golden(), tmp_path / "bundle")
    engine = engines.load("tensorflow", (tmp_path / "bundle" / "model.tar").read_bytes())
    matrix = rows(6)
    np.testing.assert_allclose(engine.score(matrix), model(matrix).numpy()[:, 0], rtol=1e-6)


def test_signatures_that_give_no_score(tmp_path: Path) -> None:
    def refusal(folder: Path) -> str:
        with pytest.raises(ModelError) as caught:
            engines.load("tensorflow", fold(folder))
        assert caught.value.problem is Problem.BUNDLE_ARTIFACT_INVALID
        return caught.value.detail

    assert "one tensor of floats [any, features]" in refusal(saved(tmp_path / "fixed", Trend(2), [3, 2]))
    assert "a signal needs [rows]" in refusal(saved(tmp_path / "wide", Trend(2, 3), [None, 2]))
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    assert "must have the signature serving_default; it has none" in refusal(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "not a SavedModel" in refusal(tmp_path / "empty")


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "link"])
def test_a_tar_that_leaves_its_folder(tmp_path: Path, name: str) -> None:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        header = tarfile.TarInfo(name)
        if name == "link":
            header.type, header.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(header)
    with pytest.raises(ModelError, match="not a SavedModel"):
        engines.load("tensorflow", body.getvalue())


def test_a_folder_with_a_link_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(CallerError, match="neither a plain file nor a folder"):
        fold(tmp_path)


def test_one_thread() -> None:
    program = (
        "from signalyard_runtimes.engines import tensorflow\n"
        "import tensorflow as tf\n"
        "a = tf.random.normal([700, 700]); b = tf.linalg.matmul(a, a)\n"
        "print(open('/proc/self/status').read())"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=300)
    threads = next(int(line.split()[1]) for line in found.stdout.splitlines() if line.startswith("Threads:"))
    assert threads <= 8  # its own few, and none for each core


@pytest.mark.parametrize("framework", ["tensorflow"])
def test_an_example_of_the_page(framework: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    follow(framework)
