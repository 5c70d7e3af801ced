"""MLServer's handlers, kept to what an immutable set of bundles allows."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from mlserver.context import model_context
from mlserver.errors import MLServerError, ModelNotReady
from mlserver.handlers import DataPlane, ModelRepositoryHandlers
from mlserver.middleware import InferenceMiddlewares
from mlserver.registry import MultiModelRegistry
from mlserver.repository import ModelRepository
from mlserver.settings import ModelParameters, ModelSettings, Settings
from prometheus_client import REGISTRY

from signalyard import profile
from signalyard._counting import Count, Counter, Summary, Total
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


class PlaneMetrics:
    """What MLServer counts of one model and version, as a caller names them."""

    __slots__ = ("_failure", "_seconds", "_success")

    def __init__(self, success: Count, failure: Count, seconds: Total) -> None:
        self._success = success
        self._failure = failure
        self._seconds = seconds

    def answered(self, seconds: float) -> None:
        """Count a request that was answered, and took so long."""
        self._success.value += 1
        self._seconds.observe(seconds)

    def failed(self, seconds: float) -> None:
        """Count one that was not."""
        self._failure.value += 1
        self._seconds.observe(seconds)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is done within; what is cancelled has neither failed nor been answered."""
        began = perf_counter()
        try:
            yield
        except Exception:
            self.failed(perf_counter() - began)
            raise
        except BaseException:
            self._seconds.observe(perf_counter() - began)
            raise
        self.answered(perf_counter() - began)


class BundlePlane(DataPlane):  # type: ignore[misc] # MLServer ships no type information
    """MLServer's data plane, without the headers that it adds for CloudEvents: a caller's id would become a header unread.

    Its metrics are ours, with MLServer's names and meanings: to count one row by MLServer's took a twelfth of the time of an answer.
    """

    def __init__(self, settings: Settings, registry: MultiModelRegistry) -> None:
        super().__init__(settings, registry)
        self._inference_middleware = InferenceMiddlewares()
        for metric in (self._ModelInferRequestSuccess, self._ModelInferRequestFailure, self._ModelInferRequestDuration):
            REGISTRY.unregister(metric)
        labels = ("model", "version")
        self._successes = Counter(
            "model_infer_request_success", "Model infer request success count", labels, registry=REGISTRY
        )
        self._failures = Counter(
            "model_infer_request_failure", "Model infer request failure count", labels, registry=REGISTRY
        )
        self._durations = Summary(
            "model_infer_request_duration", "Model infer request duration", labels, registry=REGISTRY
        )
        self._known: dict[tuple[str, str | None], PlaneMetrics] = {}

    def metrics(self, asked: tuple[str, str | None]) -> PlaneMetrics:
        """What is counted of a model that is there: its name, and the version where the caller names one."""
        known = self._known.get(asked)
        if known is None:
            name, version = asked
            labels = (name, str(version))
            known = self._known[name, version] = PlaneMetrics(
                self._successes.labels(*labels), self._failures.labels(*labels), self._durations.labels(*labels)
            )
        return known

    @asynccontextmanager
    async def _infer_contextmanager(self, name: str, version: str | None = None) -> AsyncIterator[Any]:
        # MLServer makes a metric for whatever name and version a caller asks for; this raises first where there is none.
        model = await self._model_registry.get_model(name, version)
        with self.metrics((name, version)).counting():
            if not model.ready:
                raise ModelNotReady(name, version)
            with model_context(model.settings):
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
