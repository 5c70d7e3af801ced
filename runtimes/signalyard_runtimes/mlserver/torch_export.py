"""The MLServer model for torch.export bundles."""

from mlserver import MLModel

from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.mlserver.model import BundleModel


class TorchExportRuntime(BundleModel, MLModel):  # type: ignore[misc] # MLServer ships no type information
    """Serves a torch.export bundle."""

    framework: Framework = "torch-export"
