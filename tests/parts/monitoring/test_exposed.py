"""Whatever rules and dashboards ask for is there: a real router and a real model server are asked for their metrics."""

import http.client
import json
import os
import re
import socket
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from expressions import parsed
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tests.parts.redis.conftest import RedisServer

from signalyard_dashboards.files import FILES
from signalyard_router.adapters.grpc.metrics import GrpcMetrics
from signalyard_router.adapters.kube.metrics import KubeMetrics
from signalyard_router.control.metrics import AlertMetrics, Seen
from signalyard_router.rules.activity import Activity
from signalyard_router.rules.surge import Surge
from signalyard_router.rules.units import MINUTE

pytestmark = pytest.mark.parts

ROOT = Path(__file__).resolve().parents[3]
ROUTER, RUNTIMES = ROOT / ".venv" / "router" / "bin", ROOT / ".venv" / "runtimes" / "bin"
PATIENCE = 60.0

TARGET = {"job", "namespace", "pod", "track", "instance", "service", "container"}
"""What Prometheus itself puts on every series of a target."""

ROUTE = """
apiVersion: signalyard.io/v1alpha1
kind: SignalRoute
metadata: {{name: rb}}
spec:
  model: rb
  instruments: ["rb*.SHFE"]
  deadline: 5s
  tracks:
    - {{name: stable,  version: "7", weight: 100, endpoint: {{service: 127.0.0.1, port: {port}}}}}
    - {{name: canary,  version: "8", weight: 0, endpoint: {{service: 127.0.0.1, port: 1}}}}
    - {{name: standby, version: "6", endpoint: {{service: 127.0.0.1, port: 1}}}}
    - {{name: shadow,  version: "9", mirror: 100, endpoint: {{service: 127.0.0.1, port: 1}}}}
  mapping: {{long: {{enter: 0.0}}, short: {{enter: -1.0}}, otherwise: abstain}}
  dedupe: {{window: 0s}}  # a new shared log holds signals back for the longest window
  plan: {{steps: [{{canary: 10, hold: 1h}}]}}
"""

# By its id it falls to stable: one without would at random ask the canary, which has no server.
CALL = {
    "id": "r-1",
    "inputs": [
        {"name": "features", "shape": [1, 1], "datatype": "FP64", "data": [0.5], "parameters": {"columns": '["p"]'}}
    ],
}

# Packed by the environment that serves it.
PACK = """
import sys
from pathlib import Path
import lightgbm, numpy as np
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle.manifest import GoldenRows, Output
from signalyard_runtimes.drift.training import TrainingRows
from signalyard_runtimes.packing import PackSpec, pack

x = np.random.default_rng(7).normal(size=(200, 1))
parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 3}
booster = lightgbm.train(parameters, lightgbm.Dataset(x, (x[:, 0] > 0).astype(int), feature_name=["p"]), 3)
spec = PackSpec(name="rb", version="7", framework="lightgbm", schema=FeatureSchema(features=(Feature(name="p"),)),
                output=Output(kind="probability", neutral=0.5))
pack(spec, booster.model_to_string().encode(), GoldenRows(columns=("p",), rows=((0.5,), (-0.5,))), Path(sys.argv[1]) / "rb",
     TrainingRows(columns=("p",), values=x))
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def ask(port, method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def wait_for(process, port, path):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None
        try:
            if ask(port, "GET", path)[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{path} did not become 200")


@pytest.fixture(scope="module")
def exposed(tmp_path_factory):
    """The labels of every sample, by its name, of a router and a model server between which a signal was made."""
    for place in (ROUTER, RUNTIMES):
        if not (place / "signalyard").exists():
            pytest.fail(f"{place} is not there: run `make setup`")
    folder = tmp_path_factory.mktemp("exposed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGNALYARD_")}
    subprocess.run(
        [RUNTIMES / "python", "-c", PACK, str(folder / "models")], check=True, timeout=PATIENCE, env=environment
    )
    rest, grpc, model_metrics, port, admin = (free_port() for _ in range(5))
    (folder / "routes").mkdir()
    (folder / "routes" / "rb.yaml").write_text(ROUTE.format(port=rest))
    commands = [
        [RUNTIMES / "signalyard", "serve", "--models", folder / "models", "--http-port", rest, "--grpc-port", grpc],
        [ROUTER / "signalyard", "router", "--routes", folder / "routes", "--journal", folder / "journal"],
    ]
    commands[0] += ["--metrics-port", model_metrics, "--warmup", 1]
    commands[1] += ["--port", port, "--admin-port", admin, "--archive", f"file://{folder}/archive"]
    (folder / "redis").mkdir()
    redis = RedisServer(folder / "redis")
    commands[1] += ["--journal-redis", redis.url, "--redis", redis.url, "--redis-in", "stream", "--redis-out", "stream"]
    commands[1] += ["--zeromq-signals", "tcp://127.0.0.1:*"]
    running = []
    redis.start()
    try:
        for command, asked, path in zip(commands, (rest, port), ("/v2/health/ready", "/readyz"), strict=True):
            running.append(
                subprocess.Popen(
                    list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment
                )
            )
            wait_for(running[-1], asked, path)
        snapshot = {"symbol": "rb2410.SHFE", "ts_event": time.time_ns(), "features": {"p": 0.5}}
        status, answer = ask(port, "POST", "/v1/predict", json.dumps(snapshot))
        assert (status, json.loads(answer)["outcome"]) == (200, "emitted"), answer
        status, answer = ask(port, "POST", "/v2/models/rb/infer", json.dumps(CALL))
        assert status == 200, answer
        # counted beside the decision, within a second, and beside the call
        wanted = (
            "signalyard_signals_total{",
            "signalyard_call_copies_total{",
            "signalyard_plan_steps_total{",
            'signalyard_redis_connected{wire="source"}',
        )
        until = time.monotonic() + PATIENCE
        while any(name not in (text := ask(port, "GET", "/metrics")[1]) for name in wanted):
            assert time.monotonic() < until
            time.sleep(0.05)
        texts = [text, ask(model_metrics, "GET", "/metrics")[1]]
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(PATIENCE)
        redis.kill()
    labels = {"router": defaultdict(set), "model": defaultdict(set)}
    for server, text in zip(labels, texts, strict=True):
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels[server][sample.name] |= set(sample.labels)
    # A surge takes sessions to come about, so its series is made by the class that makes it.
    # So are those of the API server, which is not there, and of gRPC, which nobody asked for.
    registry = CollectorRegistry()
    seen = Seen("rb", [], Activity(MINUTE), surging=[Surge("rb2410.SHFE", 40, 5.0, 5)])
    AlertMetrics(registry, lambda: [seen])
    KubeMetrics(registry).of("signalroutes", "desk")
    GrpcMetrics(registry).answered("Predict", "OK", 1)
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            if sample.name.startswith(
                ("signalyard_surge_", "signalyard_kube_", "signalyard_grpc_")
            ) and not sample.name.endswith("_created"):
                labels["router"][sample.name] |= set(sample.labels)
    return labels


def records(server):
    return {
        rule["record"]: set(parsed(rule["expr"])[1]) - {"le"}
        for file in (ROOT / "helm" / server / "files" / "rules").glob("*.yaml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
        if "record" in rule
    }


def rules(server):
    return [
        rule["expr"]
        for file in (ROOT / "helm" / server / "files" / "rules").glob("*.yaml")
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]


def dashboards(server):
    found = [dashboard for place, dashboard in FILES.items() if place.startswith(f"{server}/")]
    return [query for dashboard in found for query in dashboard.queries()] + [
        variable.metric for dashboard in found for variable in dashboard.variables
    ]


@pytest.mark.parametrize("source", [rules, dashboards])
@pytest.mark.parametrize("server", ["router", "model"])
def test_every_metric_and_label_is_exposed(exposed, server, source):
    known = exposed[server] | records(server) | {"up": set()}
    expressions = source(server)
    assert expressions
    for expression in expressions:
        selectors, grouped = parsed(expression.replace("$__rate_interval", "5m"))
        here = set()
        for selector in selectors:
            assert selector.metric in known, f"{selector.metric} is exposed by nobody: {expression}"
            labels = known[selector.metric] | TARGET
            assert selector.labels <= labels, f"{selector.metric} has no {selector.labels - labels}: {expression}"
            here |= labels
        assert grouped <= here, f"no series has {grouped - here}: {expression}"


def test_every_metric_is_on_the_page(exposed):
    page = set(re.findall(r"`(signalyard_[a-z_]+)`", (ROOT / "docs" / "monitoring.md").read_text()))
    families = {
        re.sub(r"_(bucket|sum|count)$", "", name)
        for names in exposed.values()
        for name in names
        if name.startswith("signalyard_")
    }
    assert families <= page, sorted(families - page)
    assert page - families == set(), "exposed by nobody"
