"""Versions of one small model, as bundles. The same version is the same bundle on every machine and in every run."""

from dataclasses import dataclass, field
from pathlib import Path

import lightgbm
import numpy as np

from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle.manifest import GoldenRows, Manifest, Output, Platt
from signalyard_runtimes.packing import PackSpec, pack

MODEL = "rb-trend"
_ROWS = 500


@dataclass(frozen=True)
class Bundle:
    """``folder`` holds it; ``manifest`` has its digest."""

    folder: Path
    manifest: Manifest


@dataclass(frozen=True)
class Bundles:
    """Packed when they are asked for, each once, below ``folder``."""

    folder: Path
    packed: dict[str, Bundle] = field(default_factory=dict)

    def version(self, version: str) -> Bundle:
        """``MODEL`` in that version, a whole number; higher ones have more trees."""
        if version not in self.packed:
            target = self.folder / f"{MODEL}-{version}"
            self.packed[version] = Bundle(target, _pack(version, target))
        return self.packed[version]


def _pack(version: str, target: Path) -> Manifest:
    random = np.random.default_rng(7)
    x = np.column_stack((random.normal(3500, 10, _ROWS), random.normal(size=_ROWS)))
    y = (x[:, 1] + 0.5 * random.normal(size=_ROWS) > 0).astype(int)
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
    data = lightgbm.Dataset(x, y, feature_name=["close", "ret_5"])
    booster = lightgbm.train(parameters, data, 10 + int(version))
    spec = PackSpec(
        name=MODEL,
        version=version,
        framework="lightgbm",
        schema=FeatureSchema(features=(Feature(name="close", minimum=0.0), Feature(name="ret_5", missing="native"))),
        output=Output(kind="probability", neutral=0.5),
        calibration=Platt(a=-4.0, b=2.0),
    )
    golden = GoldenRows(columns=("close", "ret_5"), rows=tuple(map(tuple, x[:8].tolist())))
    return pack(spec, booster.model_to_string().encode(), golden, target)
