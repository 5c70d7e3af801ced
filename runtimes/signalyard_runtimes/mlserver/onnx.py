"""The MLServer model for ONNX bundles."""

from mlserver import MLModel

from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.mlserver.model import BundleModel


class OnnxRuntime(BundleModel, MLModel):  # type: ignore[misc] # MLServer ships no type information
    """Serves an ONNX bundle."""

    framework: Framework = "onnx"
