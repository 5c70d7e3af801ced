"""The MLServer model for LightGBM bundles."""

from mlserver_lightgbm import LightGBMModel

from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.mlserver.model import BundleModel


class LightGBMRuntime(BundleModel, LightGBMModel):  # type: ignore[misc] # MLServer ships no type information
    """Serves a LightGBM bundle."""

    framework: Framework = "lightgbm"
