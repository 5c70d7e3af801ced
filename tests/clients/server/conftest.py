"""A model server with one bundle, started as production starts it; the clients are in another environment than the server."""

import contextlib
import json
import os
import subprocess
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
SERVER = ROOT / ".venv" / "runtimes" / "bin"
PATIENCE = 120.0

PACK = """
import sys
from pathlib import Path
import lightgbm, numpy as np
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle.manifest import GoldenRows, Output, Platt
from signalyard_runtimes.packing import PackSpec, pack

random = np.random.default_rng(7)
x = np.column_stack((random.normal(3500, 10, 500), random.normal(size=500)))
y = (x[:, 1] + 0.5 * random.normal(size=500) > 0).astype(int)
parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
booster = lightgbm.train(parameters, lightgbm.Dataset(x, y, feature_name=["close", "ret_5"]), 10)
spec = PackSpec(name="rb-trend", version="7", framework="lightgbm",
                schema=FeatureSchema(features=(Feature(name="close", minimum=0.0), Feature(name="ret_5", missing="native"))),
                output=Output(kind="probability", neutral=0.5), calibration=Platt(a=-4.0, b=2.0))
golden = GoldenRows(columns=("close", "ret_5"), rows=tuple(map(tuple, x[:8].tolist())))
pack(spec, booster.model_to_string().encode(), golden, Path(sys.argv[1]) / "rb-trend-7")
"""


class Served(NamedTuple):
    http: str
    grpc: str


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    if not (SERVER / "signalyard").exists():
        pytest.fail(f"{SERVER} is not there: run `make setup`")
    folder = tmp_path_factory.mktemp("models")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGNALYARD_")}
    subprocess.run([SERVER / "python", "-c", PACK, str(folder)], check=True, timeout=PATIENCE, env=environment)
    ports = [part for name in ("http", "grpc", "metrics") for part in (f"--{name}-port", "0")]
    process = subprocess.Popen(
        [SERVER / "signalyard", "serve", "--models", folder, *ports],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        line = process.stdout.readline()
        if not line.startswith("signalyard serve: ready, "):
            pytest.fail(f"not ready: {line!r} {process.stderr.read()}")
        found = dict(part.split() for part in line.strip().split(", ")[2:])
        yield Served(f"127.0.0.1:{found['http']}", f"127.0.0.1:{found['grpc']}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.communicate(timeout=PATIENCE)


@pytest.fixture(scope="session")
def expected(served):
    """What plain JSON gets for three rows, of which the last misses a feature that may be missing."""
    data = [3510.0, 0.5, 3490.0, -0.5, 3500.0, None]
    parameters = {"columns": '["close","ret_5"]'}
    tensor = {"name": "features", "shape": [3, 2], "datatype": "FP64", "data": data, "parameters": parameters}
    request = urllib.request.Request(
        f"http://{served.http}/v2/models/rb-trend/infer",
        json.dumps({"inputs": [tensor]}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        outputs = {output["name"]: output["data"] for output in json.load(answer)["outputs"]}
    assert outputs["row_error"] == ["", "", ""]
    return outputs
