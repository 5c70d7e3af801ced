"""The peer: stock MLServer 1.7.1 with its own LightGBM runtime, in environments of its own."""

import json
from pathlib import Path

import lightgbm
import numpy as np

from signalyard.profile import Feature, FeatureSchema
from signalyard_bench.bodies import names, values
from signalyard_bench.servers import Process
from signalyard_runtimes.bundle.manifest import GoldenRows, Output, Platt
from signalyard_runtimes.packing import PackSpec, pack

FEATURES = 32
TREES = 200
LEAVES = 63
MODEL = "bench"
VERSION = "7"


def trained(cache: Path) -> Path:
    """The model, 200 trees of 63 leaves on 32 features, trained on generated data once and kept in ``cache``."""
    path = cache / f"lightgbm-{TREES}x{LEAVES}x{FEATURES}.bst"
    if not path.exists():
        rng = np.random.default_rng(7)
        rows = rng.normal(size=(40_000, FEATURES))
        odds = rows[:, 0] * rows[:, 1] + np.sin(rows[:, 2] * 2) + rows[:, 3] + rng.normal(size=len(rows))
        parameters = {
            "objective": "binary",
            "num_leaves": LEAVES,
            "min_data_in_leaf": 10,
            "seed": 7,
            "num_threads": 1,
            "verbosity": -1,
        }
        data = lightgbm.Dataset(rows, (odds > 0).astype(float), feature_name=names(FEATURES))
        booster = lightgbm.train(parameters, data, TREES)
        path.parent.mkdir(parents=True, exist_ok=True)
        booster.save_model(str(path))
    return path


def bundle(cache: Path, kind: str = "") -> Path:
    """The folder of the same model as a bundle; of another ``kind`` it has another digest."""
    folder = cache / f"bundles{kind}"
    spec = PackSpec(
        name=MODEL,
        version=VERSION,
        framework="lightgbm",
        schema=FeatureSchema(tuple(Feature(name=name) for name in names(FEATURES))),
        output=Output(kind="probability", neutral=0.5),
        calibration=Platt(a=-1.0, b=0.0),
        training={"kind": kind} if kind else {},
    )
    golden = GoldenRows(columns=tuple(names(FEATURES)), rows=tuple(map(tuple, values(FEATURES, 8))))
    pack(spec, trained(cache), golden, folder / f"{MODEL}-{VERSION}")
    return folder


def start(environment: Path, work: Path, model: Path, ports: list[int], core: int) -> Process:
    """MLServer as it ships but for its worker processes, which are off. ``ports``: HTTP, gRPC, metrics."""
    folder = work / "mlserver"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "parallel_workers": 0,
        "host": "127.0.0.1",
        "http_port": ports[0],
        "grpc_port": ports[1],
        "metrics_port": ports[2],
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    served = {
        "name": MODEL,
        "implementation": "mlserver_lightgbm.LightGBMModel",
        "parameters": {"uri": str(model), "version": VERSION},
    }
    (folder / "model-settings.json").write_text(json.dumps(served))
    process = Process([environment / "bin/mlserver", "start", folder], core=core, log=work / "mlserver.log")
    process.await_ok(ports[0], f"/v2/models/{MODEL}/ready")
    return process
