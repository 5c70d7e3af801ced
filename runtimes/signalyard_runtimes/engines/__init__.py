"""Engines: code that scores a bundle's matrix in process, one module a framework, none of which knows of servers.

An engine is single-threaded by contract: with a library's own thread pool beside a busy neighbour, one row takes many times
longer now and then. Scale by processes.
"""

from typing import Protocol

from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.features import Matrix, Vector


class Engine(Protocol):
    """A loaded model."""

    @property
    def features(self) -> tuple[str, ...] | int:
        """The names of the features in the model's own order; their number, where the model has kept no names."""

    def score(self, matrix: Matrix) -> Vector:
        """[rows, features], NaN for missing, to one score a row."""


def load(framework: Framework, artifact: bytes) -> Engine:
    """The engine for ``framework``, around the model in ``artifact``, whose origin the caller has checked.

    Raises ModelError (bundle_artifact_invalid).
    """
    # Each engine is imported only when it is asked for: a server for LightGBM needs no scikit-learn.
    if framework == "lightgbm":
        from signalyard_runtimes.engines import lightgbm

        return lightgbm.load(artifact)
    from signalyard_runtimes.engines import sklearn

    return sklearn.load(artifact)
