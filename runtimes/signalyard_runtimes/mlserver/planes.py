"""MLServer's handlers, kept to what an immutable set of bundles allows."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mlserver.errors import MLServerError
from mlserver.handlers import DataPlane, ModelRepositoryHandlers
from mlserver.middleware import InferenceMiddlewares
from mlserver.registry import MultiModelRegistry
from mlserver.repository import ModelRepository
from mlserver.settings import ModelParameters, ModelSettings, Settings

from signalyard import profile
from signalyard_runtimes.bundle.manifest import Framework, Manifest
from signalyard_runtimes.drift.watch import WINDOW_SECONDS
from signalyard_runtimes.mlserver.model import DRIFT_PARAMETER, TRUST_PARAMETER

# As text, so that only the classes of the frameworks that are served get imported.
_RUNTIMES: dict[Framework, str] = {
    "lightgbm": "signalyard_runtimes.mlserver.lightgbm.LightGBMRuntime",
    "xgboost": "signalyard_runtimes.mlserver.xgboost.XGBoostRuntime",
    "sklearn": "signalyard_runtimes.mlserver.sklearn.SklearnRuntime",
    "skops": "signalyard_runtimes.mlserver.skops.SkopsRuntime",
    "onnx": "signalyard_runtimes.mlserver.onnx.OnnxRuntime",
    "torchscript": "signalyard_runtimes.mlserver.torchscript.TorchScriptRuntime",
    "torch-export": "signalyard_runtimes.mlserver.torch_export.TorchExportRuntime",
    "tensorflow": "signalyard_runtimes.mlserver.tensorflow.TensorFlowRuntime",
}


def model_settings(
    path: Path, manifest: Manifest, trust: Sequence[Path] = (), drift_window: float = WINDOW_SECONDS
) -> ModelSettings:
    """What MLServer's registry needs to know of a bundle, which one of the keys ``trust`` must have signed where there are any;
    ``drift_window`` in seconds."""
    return ModelSettings(
        name=manifest.name,
        implementation=_RUNTIMES[manifest.framework],
        platform=manifest.framework,
        parameters=ModelParameters(
            uri=str(path.resolve()),
            version=manifest.version,
            extra={
                profile.DIGEST_PARAMETER: manifest.digest,
                TRUST_PARAMETER: [str(key) for key in trust],
                DRIFT_PARAMETER: drift_window,
            },
        ),
    )


class PlaneMetrics(NamedTuple):
    """MLServer's own metrics of one model and version, as a caller names them."""

    success: Any
    failure: Any
    seconds: Any


class BundlePlane(DataPlane):  # type: ignore[misc] # MLServer ships no type information
    """MLServer's data plane, without the headers that it adds for CloudEvents: a caller's id would become a header unread."""

    def __init__(self, settings: Settings, registry: MultiModelRegistry) -> None:
        super().__init__(settings, registry)
        self._inference_middleware = InferenceMiddlewares()
        self._known: dict[tuple[str, str | None], PlaneMetrics] = {}

    def metrics(self, name: str, version: str | None) -> PlaneMetrics:
        """What MLServer counts of a model that is there."""
        known = self._known.get((name, version))
        if known is None:
            labels = {"model": name, "version": version}
            known = self._known[(name, version)] = PlaneMetrics(
                self._ModelInferRequestSuccess.labels(**labels),
                self._ModelInferRequestFailure.labels(**labels),
                self._ModelInferRequestDuration.labels(**labels),
            )
        return known

    @asynccontextmanager
    async def _infer_contextmanager(self, name: str, version: str | None = None) -> AsyncIterator[Any]:
        # MLServer makes a metric for whatever name and version a caller asks for; this raises first where there is none.
        await self._model_registry.get_model(name, version)
        async with super()._infer_contextmanager(name, version) as model:
            yield model


class BundleRepository(ModelRepository):  # type: ignore[misc]
    """The bundles that this server was started with."""

    def __init__(self, served: list[ModelSettings]) -> None:
        self._served = served

    async def find(self, name: str) -> list[ModelSettings]:
        """Those of one name."""
        return [settings for settings in self._served if settings.name == name]

    async def list(self) -> list[ModelSettings]:
        """All of them."""
        return self._served


class FixedModels(ModelRepositoryHandlers):  # type: ignore[misc]
    """The repository's API without loading and unloading: what is served is decided when the server starts."""

    async def load(self, name: str, version: str | None = None) -> bool:
        """Refused, where the protocols have not refused it already."""
        raise MLServerError(f"{name} stays as it is", 405)

    unload = load
