"""Two small models, trained once, and a maker of bundles around them."""

import asyncio
import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import lightgbm as lgb
import msgspec
import numpy as np
import pytest
from mlserver.registry import MultiModelRegistry
from mlserver.settings import ModelSettings
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle import store
from signalyard_runtimes.bundle.digest import bundle_digest, file_entry
from signalyard_runtimes.bundle.manifest import GoldenRows, Isotonic, Output
from signalyard_runtimes.mlserver.lightgbm import LightGBMRuntime
from signalyard_runtimes.mlserver.planes import BundlePlane, BundleRepository, FixedModels, model_settings
from signalyard_runtimes.mlserver.readiness import Readiness
from signalyard_runtimes.mlserver.rest import rest_app
from signalyard_runtimes.packing import PackSpec, pack
from signalyard_runtimes.scorer import Scorer
from signalyard_runtimes.server import mlserver_settings

COLUMNS = ("close", "ret_5")
GOLDEN = GoldenRows(columns=COLUMNS, rows=((3512.0, 0.0012), (3480.0, -0.8), (3505.5, 1.3), (3499.0, None)))


def _training() -> tuple[Any, Any]:
    random = np.random.default_rng(7)
    features = np.column_stack((random.normal(3500, 10, 500), random.normal(size=500)))
    return features, (features[:, 1] + 0.5 * random.normal(size=500) > 0).astype(int)


@pytest.fixture(scope="session")
def booster_text() -> bytes:
    features, target = _training()
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7, "seed": 1}
    data = lgb.Dataset(features, target, feature_name=list(COLUMNS))
    return lgb.train(parameters, data, num_boost_round=10).model_to_string().encode()


@pytest.fixture(scope="session")
def pipeline_bytes() -> bytes:
    features, target = _training()
    dumped = io.BytesIO()
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(features, target), dumped)
    return dumped.getvalue()


@pytest.fixture(scope="session")
def lightgbm_spec() -> PackSpec:
    return PackSpec(
        name="rb-trend",
        version="7",
        framework="lightgbm",
        schema=FeatureSchema(features=(Feature(name="close", minimum=0.0), Feature(name="ret_5", missing="native"))),
        output=Output(kind="probability", neutral=0.5, description="the next bar closes higher"),
        calibration=Isotonic(x=(0.0, 0.5, 1.0), y=(0.2, 0.5, 0.8)),
        training={"rows": 500, "period": ["2024-01-02", "2024-06-28"]},
    )


@pytest.fixture(scope="session")
def sklearn_spec() -> PackSpec:
    return PackSpec(
        name="rb-base",
        version="1",
        framework="sklearn",
        schema=FeatureSchema(
            features=(Feature(name="close", minimum=0.0), Feature(name="ret_5", missing="impute", fill=0.0))
        ),
        output=Output(kind="probability", neutral=0.5),
    )


@pytest.fixture
def lightgbm_bundle(tmp_path: Path, lightgbm_spec: PackSpec, booster_text: bytes) -> Path:
    pack(lightgbm_spec, booster_text, GOLDEN, tmp_path / "rb-trend-7")
    return tmp_path / "rb-trend-7"


@pytest.fixture
def sklearn_bundle(tmp_path: Path, sklearn_spec: PackSpec, pipeline_bytes: bytes) -> Path:
    pack(sklearn_spec, pipeline_bytes, GOLDEN, tmp_path / "rb-base-1")
    return tmp_path / "rb-base-1"


@pytest.fixture
def golden() -> GoldenRows:
    return GOLDEN


@pytest.fixture
def forge() -> Callable[..., None]:
    """Edits a bundle's manifest and makes it consistent again, as somebody would who has no key but all of our code."""

    def edit(bundle: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None, **files: bytes) -> None:
        manifest = json.loads((bundle / "manifest.json").read_bytes())
        for name, body in files.items():
            file = name.replace("__", ".")
            (bundle / file).write_bytes(body)
            entry = file_entry(body)
            manifest["files"][file] = {"sha256": entry.sha256, "size": entry.size}
        change(manifest)
        manifest["digest"] = bundle_digest(json.dumps(manifest).encode())
        (bundle / "manifest.json").write_text(json.dumps(manifest))

    return edit


class Answer(NamedTuple):
    """What an ASGI app answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Ask = Callable[..., Answer]


@pytest.fixture
def ask() -> Ask:
    """Calls an ASGI app in process."""

    def ask(app: Any, method: str, path: str, body: object = b"", **headers: str) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        given = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8080),
        }
        # Starlette answers an unforeseen error and then raises it on, for the server to log.
        with suppress(UnforeseenError):
            asyncio.run(app(scope, receive, send))
        names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return Answer(sent[0]["status"], names, b"".join(message.get("body", b"") for message in sent[1:]))

    return ask


class UnforeseenError(Exception):
    """Raised by a test where nothing catches it."""


@pytest.fixture
def unforeseen() -> type[Exception]:
    return UnforeseenError


class FakeEngine:
    """Gives the scores that it is told to give."""

    features = COLUMNS

    def __init__(self, *scores: float) -> None:
        self.scores = np.array(scores)
        self.calls = 0

    def score(self, matrix: Any) -> Any:
        self.calls += 1
        return self.scores[: len(matrix)]


class Rest(NamedTuple):
    """MLServer's handlers around a few models, and an app that is ready."""

    app: Any
    settings: Any
    data_plane: Any
    handlers: Any
    engine: FakeEngine
    registry: Any


@pytest.fixture(scope="session")
def rest(
    tmp_path_factory: pytest.TempPathFactory,
    lightgbm_spec: PackSpec,
    booster_text: bytes,
    sklearn_spec: PackSpec,
    pipeline_bytes: bytes,
) -> Rest:
    """One for the whole run: MLServer registers its metrics when a data plane is made, and can do so only once."""
    folder = tmp_path_factory.mktemp("models")
    pack(lightgbm_spec, booster_text, GOLDEN, folder / "a")
    pack(sklearn_spec, pipeline_bytes, GOLDEN, folder / "b")
    engine = FakeEngine(0.82, 0.25)
    faked = msgspec.structs.replace(
        lightgbm_spec, name="golden", calibration=Isotonic(x=(0.25, 0.5, 0.82), y=(0.4, 0.5, 0.71))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("signalyard_runtimes.engines.load", lambda framework, artifact: engine)
        scorer = Scorer(faked, b"", digest="sha256:" + "0" * 64)

    class FakedRuntime(LightGBMRuntime):
        async def load(self) -> bool:
            self.serve(scorer)
            return True

    def initialise(settings: ModelSettings) -> Any:
        return (FakedRuntime if settings.name == "golden" else settings.implementation)(settings)

    registry = MultiModelRegistry(model_initialiser=initialise)
    served = [model_settings(path, store.read_manifest(path)) for path in store.find(folder)]
    manifest = msgspec.structs.replace(store.read_manifest(folder / "a"), name="golden")
    served.append(model_settings(folder / "a", manifest))
    for settings in served:
        asyncio.run(registry.load(settings))
    settings = mlserver_settings("127.0.0.1")
    data_plane, handlers = BundlePlane(settings, registry), FixedModels(BundleRepository(served), registry)
    readiness = Readiness()
    readiness.admit()
    return Rest(rest_app(settings, data_plane, handlers, readiness), settings, data_plane, handlers, engine, registry)


@pytest.fixture
def plain_bundle(tmp_path: Path) -> Callable[..., tuple[Path, str]]:
    """A bundle as far as its files go, which nothing loads: (folder, digest). ``files`` come beside the model and the golden rows."""

    def make(version: str = "7", model: bytes = b"tree\n", **files: bytes) -> tuple[Path, str]:
        folder = tmp_path / f"made-{version}"
        contents = {"model.txt": model, "golden.json": b'{"columns": ["close"], "rows": [[1.0]], "score": [0.5]}'}
        contents |= {name.replace("__", "/"): body for name, body in files.items()}
        entries = {name: {"sha256": file_entry(body).sha256, "size": len(body)} for name, body in contents.items()}
        manifest: dict[str, Any] = {
            "format": 1,
            "name": "rb-trend",
            "version": version,
            "framework": "lightgbm",
            "schema": {"features": [{"name": "close"}]},
            "output": {"kind": "probability", "neutral": 0.5},
            "library": {"lightgbm": "4.6.0"},
            "artifact": "model.txt",
            "golden": {},
            "files": entries,
        }
        digest = bundle_digest(json.dumps(manifest).encode())
        for name, body in (contents | {"manifest.json": json.dumps(manifest | {"digest": digest}).encode()}).items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(body)
        return folder, digest

    return make
