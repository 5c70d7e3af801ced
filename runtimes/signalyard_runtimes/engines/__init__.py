"""Engines: code that scores a bundle's matrix in process, one module a framework, none of which knows of servers.

An engine is single-threaded by contract: with a library's own thread pool beside a busy neighbour, one row takes many times
longer now and then. Scale by processes.
"""

from importlib import import_module
from typing import Protocol

from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.features import Matrix, Vector

# Each engine is imported only when it is asked for: a server for LightGBM needs no scikit-learn.
_MODULES: dict[Framework, str] = {
    "lightgbm": "lightgbm",
    "xgboost": "xgboost",
    "sklearn": "sklearn",
    "skops": "skops",
    "onnx": "onnx",
    "torchscript": "torchscript",
    "torch-export": "torch_export",
    "tensorflow": "tensorflow",
}


class Engine(Protocol):
    """A loaded model."""

    @property
    def features(self) -> tuple[str, ...] | int | None:
        """The names of the features in the model's own order; their number, where the model has kept no names; None where it
        does not know that either."""

    def score(self, matrix: Matrix) -> Vector:
        """[rows, features], NaN for missing, to one score a row."""


def load(framework: Framework, artifact: bytes) -> Engine:
    """The engine for ``framework``, around the model in ``artifact``, whose origin the caller has checked.

    Raises ModelError (bundle_artifact_invalid).
    """
    engine: Engine = import_module(f"{__name__}.{_MODULES[framework]}").load(artifact)
    return engine
