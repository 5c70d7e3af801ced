"""A model server and a router before it, each from its own environment, for clients that know nothing of us.

Nothing here imports us: the environment of these tests holds Triton's and KServe's clients alone.
"""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180.0

# Packed by the environment that serves them: a bundle names exact versions.
PACK = """
import sys
from pathlib import Path
import lightgbm, numpy as np
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle.manifest import GoldenRows, Output, Platt
from signalyard_runtimes.packing import PackSpec, pack

random, folder = np.random.default_rng(7), Path(sys.argv[1])
x = np.column_stack((random.normal(3500, 10, 500), random.normal(size=500)))
y = (x[:, 1] + 0.5 * random.normal(size=500) > 0).astype(int)
golden = GoldenRows(columns=("close", "ret_5"), rows=tuple(map(tuple, x[:8].tolist())))
schema = FeatureSchema(features=(Feature(name="close", minimum=0.0), Feature(name="ret_5", missing="native")))
for version, rounds in (("7", 10), ("8", 20)):
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, y, feature_name=["close", "ret_5"]), rounds)
    spec = PackSpec(name="rb-trend", version=version, framework="lightgbm", schema=schema,
                    output=Output(kind="probability", neutral=0.5), calibration=Platt(a=-4.0, b=2.0))
    pack(spec, booster.model_to_string().encode(), golden, folder / "rb-trend" / version)
"""

ROUTE = """
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: rb-trend}}
spec:
  model: rb-trend
  instruments: ["rb*.SHFE"]
  deadline: 5s
  tracks:
    - {{name: stable,  version: "7", weight: 100, endpoint: {{service: 127.0.0.1, port: {port}{more}}}}}
    - {{name: standby, version: "8", endpoint: {{service: 127.0.0.1, port: {port}{more}}}}}
  mapping: {{long: {{enter: 0.6}}, short: {{enter: 0.4}}, otherwise: abstain}}
"""


def command(environment):
    found = ROOT / ".venv" / environment / "bin" / "signalyard"
    if not found.exists():
        pytest.fail(f"{found} is not there: run `make setup`")
    return str(found)


def free_ports(count):
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def start(folder, name, *words):
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=clean())


def clean():
    return {name: value for name, value in os.environ.items() if not name.startswith("SIGNALYARD_")}


def await_ready(process, url, log):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"{url} did not become ready\n{log.read_text()}")


class Place:
    """Where a server is to be found."""

    def __init__(self, http, grpc, folder):
        self.http = f"127.0.0.1:{http}"
        self.grpc = f"127.0.0.1:{grpc}"
        self.folder = folder


@pytest.fixture(scope="session")
def model_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    python = ROOT / ".venv" / "runtimes" / "bin" / "python"
    subprocess.run([python, "-c", PACK, str(folder / "bundles")], check=True, timeout=PATIENCE, env=clean())
    http, grpc, metrics = free_ports(3)
    ports = ("--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics))
    process = start(folder, "server", command("runtimes"), "serve", "--models", str(folder / "bundles"), *ports)
    try:
        await_ready(process, f"http://127.0.0.1:{http}/v2/models/rb-trend/versions/7/ready", folder / "server.log")
        yield Place(http, grpc, folder)
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture(scope="session", params=["rest", "grpc"], ids=["model-by-rest", "model-by-grpc"])
def router(request, model_server, tmp_path_factory):
    """A router that calls the model server by REST, and one that calls it by gRPC."""
    folder = tmp_path_factory.mktemp("router")
    (folder / "routes").mkdir()
    place = model_server.http if request.param == "rest" else model_server.grpc
    more = f", protocol: {request.param}"
    (folder / "routes" / "rb.yaml").write_text(ROUTE.format(port=place.rpartition(":")[2], more=more))
    http, grpc = free_ports(2)
    words = ("--routes", str(folder / "routes"), "--journal", str(folder / "journal"), "--admin-port", "0")
    ports = ("--port", str(http), "--grpc-port", str(grpc))
    process = start(folder, "router", command("router"), "router", *words, *ports)
    try:
        await_ready(process, f"http://127.0.0.1:{http}/v2/models/rb-trend/ready", folder / "router.log")
        yield Place(http, grpc, folder)
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


COLUMNS = '["close","ret_5"]'
ROWS = ((3500.0, 0.5), (3490.0, -0.5), (3510.0, None))


@pytest.fixture(scope="session")
def scores(model_server):
    """What the model server itself says of the rows, asked in JSON."""
    data = [value for row in ROWS for value in row]
    tensor = {"name": "features", "shape": [3, 2], "datatype": "FP64", "data": data, "parameters": {"columns": COLUMNS}}
    url = f"http://{model_server.http}/v2/models/rb-trend/versions/7/infer"
    kind = {"content-type": "application/json"}
    request = urllib.request.Request(url, json.dumps({"inputs": [tensor]}).encode(), kind)
    with urllib.request.urlopen(request, timeout=10) as answer:
        outputs = {output["name"]: output["data"] for output in json.load(answer)["outputs"]}
    return outputs["score"]


@pytest.fixture
def records(router):
    """The calls in the router's journal by their ids."""

    def read():
        files = sorted((router.folder / "journal").glob("journal-*"))
        lines = [line for file in files for line in file.read_text().splitlines()]
        return {record["id"]: record for record in map(json.loads, lines) if record["kind"] == "call"}

    return read
