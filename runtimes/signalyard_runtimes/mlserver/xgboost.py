"""The MLServer model for XGBoost bundles.

mlserver-xgboost's class is not among the parents: it asks for XGBoost's build for GPUs, and all of it would be replaced.
"""

from mlserver import MLModel

from signalyard_runtimes.bundle.manifest import Framework
from signalyard_runtimes.mlserver.model import BundleModel


class XGBoostRuntime(BundleModel, MLModel):  # type: ignore[misc] # MLServer ships no type information
    """Serves an XGBoost bundle."""

    framework: Framework = "xgboost"
