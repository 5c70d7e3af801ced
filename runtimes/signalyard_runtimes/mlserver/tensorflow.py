"""The MLServer model for TensorFlow bundles."""

from mlserver import MLModel

from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.mlserver.model import BundleModel


class TensorFlowRuntime(BundleModel, MLModel):  # type: ignore[misc] # MLServer ships no type information
    """Serves a TensorFlow bundle."""

    framework: Framework = "tensorflow"
