"""The MLServer model for scikit-learn bundles."""

from mlserver_sklearn import SKLearnModel

from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.mlserver.model import BundleModel


class SklearnRuntime(BundleModel, SKLearnModel):  # type: ignore[misc] # MLServer ships no type information
    """Serves a scikit-learn bundle."""

    framework: Framework = "sklearn"
