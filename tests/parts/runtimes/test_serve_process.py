"""The real `signalyard serve`, from the environment that production uses, over its sockets."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from signalyard import profile
from signalyard_runtimes.bundle.signature import attach

pytestmark = pytest.mark.parts

ROOT = Path(__file__).parents[3]
BIN = ROOT / ".venv" / "runtimes" / "bin"
PATIENCE = 60.0

# Packed by the environment that serves them: a pickle names exact versions.
PACK = """
import io, sys
from pathlib import Path
import joblib, lightgbm, numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from signalyard.profile import Feature, FeatureSchema
from signalyard_runtimes.bundle.manifest import GoldenRows, Output, Platt
from signalyard_runtimes.drift.training import TrainingRows
from signalyard_runtimes.packing import PackSpec, pack

random, folder = np.random.default_rng(7), Path(sys.argv[1])
x = np.column_stack((random.normal(3500, 10, 500), random.normal(size=500)))
y = (x[:, 1] + 0.5 * random.normal(size=500) > 0).astype(int)
golden = GoldenRows(columns=("close", "ret_5"), rows=tuple(map(tuple, x[:8].tolist())))
output = Output(kind="probability", neutral=0.5)
for version, rounds in (("7", 10), ("8", 20)):
    parameters = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 7}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x, y, feature_name=["close", "ret_5"]), rounds)
    schema = FeatureSchema(features=(Feature(name="close", minimum=0.0), Feature(name="ret_5", missing="native")))
    spec = PackSpec(name="rb-trend", version=version, framework="lightgbm", schema=schema, output=output,
                    calibration=Platt(a=-4.0, b=2.0))
    training = TrainingRows(columns=("close", "ret_5"), values=x) if version == "7" else None
    pack(spec, booster.model_to_string().encode(), golden, folder / "rb-trend" / version, training)
dumped = io.BytesIO()
joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y), dumped)
schema = FeatureSchema(features=(Feature(name="close"), Feature(name="ret_5", missing="impute", fill=0.0)))
spec = PackSpec(name="rb-base", version="1", framework="sklearn", schema=schema, output=output)
pack(spec, dumped.getvalue(), golden, folder / "rb-base")
"""


class Served(NamedTuple):
    process: subprocess.Popen[str]
    http: str
    grpc: str
    metrics: str


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (BIN / "signalyard").exists():
        pytest.fail(f"{BIN} is not there: run `make setup`")
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([BIN / "python", "-c", PACK, str(folder)], check=True, timeout=PATIENCE, env=environment())
    return folder


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("SIGNALYARD_")} | more


def start(*arguments: object, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [BIN / "signalyard", "serve", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def stop(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=PATIENCE)


def ports(process: subprocess.Popen[str]) -> Served:
    """Waits for the line that says "ready"; the stream ends with the process, so that a dead one is not waited for."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("signalyard serve: ready, "):
        assert process.stderr is not None
        pytest.fail(f"not ready: {line!r} {process.stderr.read()}")
    found = dict(part.split() for part in line.strip().split(", ")[2:])
    addresses = {name: f"127.0.0.1:{port}" for name, port in found.items()}
    return Served(process, f"http://{addresses['http']}", addresses["grpc"], f"http://{addresses['metrics']}/metrics")


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[Served]:
    digests = [json.loads(file.read_bytes())["digest"] for file in models.rglob("manifest.json")]
    required = [option for digest in digests for option in ("--require", digest)]
    process = start(
        "--models", models, "--http-port", 0, "--grpc-port", 0, "--metrics-port", 0, "--warmup", 20, *required
    )
    try:
        yield ports(process)
    finally:
        stop(process)


def tensor(*data: object, columns: str = '["close","ret_5"]', width: int = 2, datatype: str = "FP64") -> dict[str, Any]:
    return {
        "name": "features",
        "shape": [len(data) // width, width],
        "datatype": datatype,
        "data": list(data),
        "parameters": {"columns": columns},
    }


def infer(served: Served, version: str, *inputs: dict[str, Any], **headers: str) -> requests.Response:
    return requests.post(
        f"{served.http}/v2/models/rb-trend/versions/{version}/infer",
        json={"id": "r-1", "inputs": inputs},
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        timeout=10,
    )


def test_it_is_ready_and_so_are_its_models(served: Served) -> None:
    for path in (
        "health/live",
        "health/ready",
        "models/rb-trend/ready",
        "models/rb-trend/versions/7/ready",
        "models/rb-base/ready",
    ):
        assert requests.get(f"{served.http}/v2/{path}", timeout=10).status_code == 200
    assert requests.get(f"{served.http}/v2/models/rb-trend/versions/9/ready", timeout=10).status_code == 404


def test_two_versions_side_by_side(served: Served) -> None:
    answers = {}
    for version in ("7", "8"):
        body = profile.encode_request("r-1", ("close", "ret_5"), [[3510.0, 0.5], [3510.0, None], [-1.0, 0.5]])
        response = requests.post(f"{served.http}/v2/models/rb-trend/versions/{version}/infer", data=body, timeout=10)
        assert response.status_code == 200
        answer = profile.decode_response(response.content, request_id="r-1", model="rb-trend", version=version, rows=3)
        card = profile.decode_metadata(
            requests.get(f"{served.http}/v2/models/rb-trend/versions/{version}", timeout=10).content,
            model="rb-trend",
            version=version,
        )
        assert card.digest == answer.digest
        assert answer.row_error[:2] == ["", ""]
        assert "close" in answer.row_error[2]
        answers[version] = answer
    assert answers["7"].score != answers["8"].score
    assert answers["7"].digest != answers["8"].digest


def test_a_scikit_learn_pipeline(served: Served) -> None:
    response = requests.post(
        f"{served.http}/v2/models/rb-base/infer", json={"inputs": [tensor(3510.0, 0.5)]}, timeout=10
    )
    assert response.status_code == 200
    assert [output["name"] for output in response.json()["outputs"]] == ["score", "row_error"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([tensor(3510.0, 0.5, datatype="INT32")], "must be FP64"),
        ([{**tensor(3510.0, 0.5), "shape": [2, 2]}], "asks for 4 values"),
        ([tensor(3510.0, 0.5, columns='["close","open"]')], "'open'"),
        ([tensor(0.5, columns='["ret_5"]', width=1)], "'close' is missing"),
        ([tensor(3510.0, 0.5, columns='["close","close"]')], "'close' is given twice"),
        ([], "exactly one"),
    ],
)
def test_a_wrong_request(served: Served, inputs: list[dict[str, Any]], words: str) -> None:
    response = infer(served, "7", *inputs)
    assert response.status_code == 400
    assert words in response.json()["error"]
    assert "Traceback" not in response.text


def test_a_body_that_is_no_json(served: Served) -> None:
    response = requests.post(f"{served.http}/v2/models/rb-trend/infer", data=b'{"inputs": [', timeout=10)
    assert (response.status_code, list(response.json())) == (400, ["error"])


def test_budgets(served: Served) -> None:
    row = tensor(3510.0, 0.5)
    assert infer(served, "7", row, signalyard_budget_us="5000000").status_code == 200
    assert infer(served, "7", row, signalyard_budget_us="1").status_code == 504
    assert infer(served, "7", row, signalyard_budget_us="soon").status_code == 400


def remote(served: Served, *values: float, version: str = "8", **more: Any) -> Any:
    with grpc.insecure_channel(served.grpc) as channel:
        return call(channel, *values, version=version, **more)


def call(channel: grpc.Channel, *values: float, version: str = "8", **more: Any) -> Any:
    # here: every process that runs tests reads this file, and MLServer takes seconds
    from mlserver.grpc import dataplane_pb2 as pb
    from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub

    parameters = {"columns": pb.InferParameter(string_param='["close","ret_5"]')}
    features = pb.ModelInferRequest.InferInputTensor(
        name="features", datatype="FP64", shape=[len(values) // 2, 2], parameters=parameters
    )
    features.contents.fp64_contents.extend(values)
    request = pb.ModelInferRequest(model_name="rb-trend", model_version=version, id="g-1", inputs=[features])
    return GRPCInferenceServiceStub(channel).ModelInfer(request, **({"timeout": 10} | more))


def test_grpc_answers_as_rest_does(served: Served) -> None:
    answer = remote(served, 3510.0, 0.5, 3510.0, math.nan, 3510.0, math.inf, math.nan, 0.5)
    outputs = {output.name: output.contents for output in answer.outputs}
    by_rest = {
        output["name"]: output["data"]
        for output in infer(served, "8", tensor(3510.0, 0.5, 3510.0, None)).json()["outputs"]
    }
    assert list(outputs["score"].fp64_contents)[:2] == by_rest["score"]
    assert list(outputs["confidence"].fp64_contents)[:2] == by_rest["confidence"]
    assert all(math.isnan(score) for score in outputs["score"].fp64_contents[2:])
    assert list(outputs["row_error"].bytes_contents) == [
        b"",
        b"",
        b"ret_5: inf is not finite",
        b"close: is missing and the model needs it",
    ]
    assert (answer.id, answer.model_version) == ("g-1", "8")
    assert answer.parameters["digest"].string_param.startswith("sha256:")


def test_a_grpc_caller_without_a_deadline_is_served(served: Served) -> None:
    assert remote(served, 3510.0, 0.5, timeout=None).id == "g-1"


@pytest.mark.parametrize(
    ("values", "version", "code", "words"),
    [
        ((3510.0, 0.5), "9", grpc.StatusCode.NOT_FOUND, "version 9 not found"),
        ((), "8", grpc.StatusCode.INVALID_ARGUMENT, "at least one row"),
    ],
)
def test_grpc_errors_say_whose_fault_they_are(
    served: Served, values: tuple[float, ...], version: str, code: grpc.StatusCode, words: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        remote(served, *values, version=version)
    assert caught.value.code() is code
    assert words in caught.value.details()


def test_grpc_readiness_and_metadata(served: Served) -> None:
    from mlserver.grpc import dataplane_pb2 as pb
    from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub

    with grpc.insecure_channel(served.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest(), timeout=10).ready
        assert stub.ModelReady(pb.ModelReadyRequest(name="rb-trend", version="7"), timeout=10).ready
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="rb-trend", version="7"), timeout=10)
        schema = json.loads(metadata.inputs[0].parameters["schema"].string_param)
        assert [feature["name"] for feature in schema["features"]] == ["close", "ret_5"]


def test_metrics_have_the_loaded_version(served: Served) -> None:
    requests.post(
        f"{served.http}/v2/models/rb-trend/infer", json={"inputs": [tensor(3510.0, 0.5, -1.0, 0.5)]}, timeout=10
    )
    text = requests.get(served.metrics, timeout=10).text
    for sample in (
        'signalyard_model_requests_total{model="rb-trend",result="ok",version="8"}',
        'signalyard_model_requests_total{model="rb-base",result="expired",version="1"} 0.0',
        'signalyard_model_rows_total{model="rb-trend",version="8"}',
        'signalyard_model_row_errors_total{model="rb-trend",version="8"}',
        'signalyard_model_request_seconds_bucket{le="0.1",model="rb-trend",version="8"}',
        'signalyard_model_load_seconds{model="rb-trend",version="7"}',
        'signalyard_model_info{digest="sha256:',
        'signalyard_model_ready{model="rb-trend",version="8"} 1.0',
        "signalyard_memory_limit_bytes",
        "process_resident_memory_bytes",
        "signalyard_model_http_requests_in_flight 0.0",
        "signalyard_model_grpc_calls_in_flight 0.0",
    ):
        assert sample in text


def drift(served: Served) -> dict[str, float]:
    text = requests.get(served.metrics, timeout=10).text
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(("signalyard_model_feature_psi", "signalyard_model_drift_")):
                assert (sample.labels.pop("model"), sample.labels.pop("version")) == ("rb-trend", "7")
                found[f"{sample.name.removeprefix('signalyard_model_')} {sample.labels.get('feature', '')}"] = (
                    sample.value
                )
    return found


def test_drift_is_counted_by_both_lanes(served: Served) -> None:
    before = drift(served)["drift_rows "]
    rows = [(3500.0 + 10 * step, 0.3 * step) for step in (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)]
    plain = tensor(*(value for row in rows for value in row))
    as_lists = plain | {"data": rows}  # which the fast lane leaves to MLServer
    for sent in (plain, plain, as_lists, as_lists):
        assert infer(served, "7", sent).status_code == 200
    # Its close is below the minimum.
    assert infer(served, "7", tensor(-1.0, 0.5)).json()["outputs"][-1]["data"] != [""]
    some = drift(served)
    assert some["drift_rows "] == before + 4 * len(rows)
    for _ in range(4):
        assert infer(served, "7", tensor(*([3900.0, None] * 200))).status_code == 200
    moved = drift(served)
    assert moved["drift_rows "] == some["drift_rows "] + 800
    assert moved["feature_psi_max "] == max(moved["feature_psi close"], moved["feature_psi ret_5"])
    for feature in ("close", "ret_5"):
        assert moved[f"feature_psi {feature}"] > max(1.0, some[f"feature_psi {feature}"])


def test_sigterm_ends_it_in_order_and_settings_may_come_from_the_environment(models: Path) -> None:
    variables = {f"SIGNALYARD_{name}_PORT": "0" for name in ("HTTP", "GRPC", "METRICS")}
    process = start(SIGNALYARD_MODELS=str(models / "rb-base"), SIGNALYARD_WARMUP="0", **variables)
    try:
        found = ports(process)
        with requests.Session() as session:  # an idle connection must not hold it up
            assert session.get(f"{found.http}/v2/health/ready", timeout=10).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=PATIENCE) == 0
    finally:
        stop(process)


def test_a_server_that_is_stopped_under_load_answers_what_it_was_asked(models: Path) -> None:
    """Eight connections ask on and on. After SIGTERM each gets its answer, and is told that it was the last one."""
    process = start(
        "--models", models / "rb-trend" / "7", "--http-port", 0, "--grpc-port", 0, "--metrics-port", 0, "--warmup", 0
    )
    body = json.dumps({"inputs": [tensor(3510.0, 0.5)]}).encode()
    head = f"POST /v2/models/rb-trend/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    stopping, asked = threading.Event(), threading.Barrier(9, timeout=PATIENCE)

    def ask_until_told(address: str) -> tuple[int, bool]:
        host, port = address.removeprefix("http://").split(":")
        answers, told = 0, False
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            while not told:
                connection.sendall(head + body)
                answer = b""
                while not answer.endswith(b"]}]}"):
                    part = connection.recv(65_536)
                    assert part, f"closed on a request, after {answers} answers: {answer!r}"
                    answer += part
                assert answer.startswith(b"HTTP/1.1 200 ")
                told = b"connection: close" in answer
                answers += 1
                if answers == 50:
                    asked.wait()
            assert stopping.is_set()
            assert connection.recv(1) == b""
        return answers, told

    try:
        found = ports(process)
        with ThreadPoolExecutor(8) as clients:
            running = [clients.submit(ask_until_told, found.http) for _ in range(8)]
            asked.wait()
            stopping.set()
            process.send_signal(signal.SIGTERM)
            assert all(one.result(PATIENCE)[1] for one in running)
        assert process.wait(timeout=PATIENCE) == 0
    finally:
        stop(process)


def test_grpc_callers_who_heed_the_health_service_lose_no_call_when_it_is_stopped(models: Path) -> None:
    process = start(
        "--models", models / "rb-trend" / "8", "--http-port", 0, "--grpc-port", 0, "--metrics-port", 0, "--warmup", 0
    )
    told, asked = threading.Event(), threading.Barrier(5, timeout=PATIENCE)

    def watch(address: str) -> list[int]:
        with grpc.insecure_channel(address) as channel:
            watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
            said = []
            for one in watched:
                said.append(one.status)
                if one.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                    told.set()
        return said

    def ask(address: str) -> int:
        answers = 0
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            while not told.is_set():
                assert call(channel, 3510.0, 0.5).id == "g-1"
                answers += 1
                if answers == 50:
                    asked.wait()
        return answers

    try:
        found = ports(process)
        with ThreadPoolExecutor(5) as callers:
            watching = callers.submit(watch, found.grpc)
            asking = [callers.submit(ask, found.grpc) for _ in range(4)]
            try:
                asked.wait()
                process.send_signal(signal.SIGTERM)
                assert min(one.result(PATIENCE) for one in asking) >= 50
            finally:
                told.set()
            assert watching.result(PATIENCE) == [
                health_pb2.HealthCheckResponse.SERVING,
                health_pb2.HealthCheckResponse.NOT_SERVING,
            ]
        assert process.wait(timeout=PATIENCE) == 0
    finally:
        stop(process)


def test_it_is_not_ready_while_it_warms_up(models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as other:
        port, metrics = free.getsockname()[1], other.getsockname()[1]
    process = start(
        "--models", models, "--http-port", port, "--grpc-port", 0, "--metrics-port", metrics, "--warmup", 100_000
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=10)
                break
            except requests.ConnectionError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        assert (answer.status_code, answer.json()) == (503, {"error": "not_ready: loading and warming up"})
        assert requests.get(f"http://127.0.0.1:{port}/v2/models/rb-trend/ready", timeout=10).status_code == 503
        text = requests.get(f"http://127.0.0.1:{metrics}/metrics", timeout=10).text
        assert 'signalyard_model_ready{model="rb-trend",version="8"} 0.0' in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 0
    finally:
        stop(process)


def refused(*arguments: object, **variables: str) -> str:
    process = start(*arguments, **variables)
    try:
        _, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1
        assert stderr.count("\n") == 1, stderr
        return stderr
    finally:
        stop(process)


def test_a_bad_bundle(models: Path, tmp_path: Path) -> None:
    for file in (models / "rb-trend" / "7").iterdir():
        target = tmp_path / "models" / "bad" / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes().replace(b"threshold", b"threshole", 1))
    text = refused("--models", tmp_path / "models", "--http-port", 0, "--grpc-port", 0, "--metrics-port", 0)
    assert text.startswith("signalyard: bundle_file_changed at /files/model.txt/sha256: bundle ")
    assert str(tmp_path / "models" / "bad") in text


def test_only_what_a_trusted_key_has_signed(models: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    for name, place in (("team", keys), ("next", keys), ("stranger", tmp_path)):
        key = ec.generate_private_key(ec.SECP256R1())
        form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (tmp_path / f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        (place / f"{name}.pub").write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    folder, log = tmp_path / "models", tmp_path / "termination"
    shutil.copytree(models / "rb-trend", folder)
    ports_of_any = ("--http-port", 0, "--grpc-port", 0, "--metrics-port", 0)

    def sign(version: str, name: str) -> None:
        attach(folder / version, tmp_path / f"{name}.key")

    sign("7", "team")
    # The keys by the environment, and why it ended where Kubernetes looks for it.
    said = refused("--models", folder, *ports_of_any, SIGNALYARD_TRUST=str(keys), SIGNALYARD_TERMINATION_LOG=str(log))
    assert said.startswith(f"signalyard: bundle_unsigned: bundle {folder / '8'}")
    assert log.read_text().startswith("bundle_unsigned")
    sign("8", "stranger")
    assert "bundle_signature_untrusted" in refused("--models", folder, *ports_of_any, "--trust", keys)
    # Two versions by two keys, while one takes over from the other.
    sign("8", "next")
    process = start("--models", folder, *ports_of_any, "--warmup", 0, "--trust", keys)
    try:
        ready = f"{ports(process).http}/v2/models/rb-trend/versions/8/ready"
        assert requests.get(ready, timeout=PATIENCE).status_code == 200
    finally:
        stop(process)


def test_no_bundle(tmp_path: Path) -> None:
    text = refused("--models", tmp_path, "--http-port", 0)
    assert text.startswith(f"signalyard: bundle_file_missing: {tmp_path}: no bundle")


@pytest.mark.parametrize("purpose", ["http", "grpc", "metrics"])
def test_a_port_that_is_taken(models: Path, purpose: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = {"http": 0, "grpc": 0, "metrics": 0, purpose: port}
        text = refused(
            "--models",
            models / "rb-base",
            *(item for name, value in options.items() for item in (f"--{name}-port", value)),
        )
    assert text.startswith("signalyard: invalid_setting: cannot listen for ")
    assert f"127.0.0.1:{port}" in text
