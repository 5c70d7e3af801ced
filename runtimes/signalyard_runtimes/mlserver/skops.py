"""The MLServer model for scikit-learn bundles in the form of skops."""

from mlserver_sklearn import SKLearnModel

from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.mlserver.model import BundleModel


class SkopsRuntime(BundleModel, SKLearnModel):  # type: ignore[misc] # MLServer ships no type information
    """Serves a scikit-learn bundle that no pickle is in."""

    framework: Framework = "skops"
