"""Two versions of a small model as bundles, and a route that names them, as a strategy would have them on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
import pytest

from signalyard.profile import Feature, FeatureSchema
from signalyard_inline import InlineSettings
from signalyard_router.journal.settings import JournalSettings
from signalyard_runtimes.bundle.manifest import GoldenRows, Isotonic, Output
from signalyard_runtimes.packing import PackSpec, pack

COLUMNS = ("close", "ret_5")
DOCUMENT = """\
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: {name}}}
spec:
  model: {model}
  instruments: ["{instruments}"]
  deadline: {deadline}
  maxAge: 30s
  tracks:
    - {{name: stable, version: "{stable}", weight: 100, endpoint: {{service: nowhere, port: 1}}}}
    - {{name: standby, version: "{standby}", endpoint: {{service: nowhere, port: 1}}}}
  mapping: {{long: {{enter: 0.6, exit: 0.52}}, short: {{enter: 0.4, exit: 0.48}}, position: {{max: 1.0}}}}
  filters: {{minConfidence: 0.1}}
  dedupe: {{window: {window}}}
"""


def booster(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    rows = np.column_stack((random.normal(3500, 10, 500), random.normal(size=500)))
    up = (rows[:, 1] + 0.2 * random.normal(size=500) > 0).astype(int)
    data = lgb.Dataset(rows, up, feature_name=list(COLUMNS))
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7, "seed": seed}
    return lgb.train(parameters, data, 10).model_to_string().encode()


@pytest.fixture(scope="session")
def boosters() -> dict[str, bytes]:
    return {version: booster(int(version)) for version in ("6", "7", "8")}


class Place(NamedTuple):
    """The folders of a strategy."""

    models: Path
    routes: Path
    journal: Path
    pack: Callable[..., Path]
    route: Callable[..., None]

    @property
    def settings(self) -> InlineSettings:
        return InlineSettings(models=self.models, routes=self.routes, journal=JournalSettings(folder=str(self.journal)))


@pytest.fixture
def place(tmp_path: Path, boosters: dict[str, bytes]) -> Place:
    def make(version: str, model: str = "rb-trend") -> Path:
        spec = PackSpec(
            name=model,
            version=version,
            framework="lightgbm",
            schema=FeatureSchema((Feature(name="close", minimum=0.0), Feature(name="ret_5", missing="native"))),
            output=Output(kind="probability", neutral=0.5),
            calibration=Isotonic(x=(0.0, 0.5, 1.0), y=(0.2, 0.5, 0.8)),
        )
        golden = GoldenRows(columns=COLUMNS, rows=((3512.0, 0.0012), (3480.0, -0.8), (3499.0, None)))
        target = tmp_path / "models" / f"{model}-{version}"
        pack(spec, boosters[version], golden, target)
        return target

    def route(name: str = "rb-trend", **more: str) -> None:
        words = {
            "model": "rb-trend",
            "instruments": "rb*.SHFE",
            "stable": "7",
            "standby": "6",
            "window": "0s",
            "deadline": "5s",
        } | more
        text = DOCUMENT.format(name=name, **words)
        (tmp_path / "routes").mkdir(exist_ok=True)
        # whole or not at all: a running router looks at any time
        part = tmp_path / "routes" / f"{name}.part"
        part.write_text(text)
        part.rename(tmp_path / "routes" / f"{name}.yaml")

    place = Place(tmp_path / "models", tmp_path / "routes", tmp_path / "journal", make, route)
    make("6")
    make("7")
    route()
    return place
