"""The MLServer model for TorchScript bundles."""

from mlserver import MLModel

from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.mlserver.model import BundleModel


class TorchScriptRuntime(BundleModel, MLModel):  # type: ignore[misc] # MLServer ships no type information
    """Serves a TorchScript bundle."""

    framework: Framework = "torchscript"
