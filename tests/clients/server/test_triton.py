"""Triton's clients, MLServer's own and gRPC's standard services, against the model server."""

import json
import math
import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0
COLUMNS = '["close","ret_5"]'
ROWS = np.array([[3510.0, 0.5], [3490.0, -0.5], [3500.0, math.nan]])


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_triton_over_http(served, expected, binary_in, binary_out):
    client = tritonclient.http.InferenceServerClient(served.http)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("rb-trend", "7")
    assert client.get_model_metadata("rb-trend")["versions"] == ["7"]
    rows = ROWS if binary_in else ROWS[:2]  # its JSON form writes NaN, which is no JSON
    given = tritonclient.http.InferInput("features", list(rows.shape), "FP64")
    given.set_data_from_numpy(rows, binary_data=binary_in)
    wanted = None
    if binary_out is not None:
        wanted = [
            tritonclient.http.InferRequestedOutput(name, binary_data=binary_out) for name in ("score", "row_error")
        ]
    answer = client.infer(
        "rb-trend", [given], model_version="7", outputs=wanted, request_id="r-1", parameters={"columns": COLUMNS}
    )
    assert answer.as_numpy("score").tolist() == expected["score"][: len(rows)]
    assert [bytes(text) if isinstance(text, bytes) else text.encode() for text in answer.as_numpy("row_error")] == [
        b""
    ] * len(rows)
    assert answer.get_response()["id"] == "r-1"
    assert (answer.get_output("confidence") is None) == (wanted is not None)


def test_triton_over_http_is_told_what_is_wrong(served):
    client = tritonclient.http.InferenceServerClient(served.http)
    given = tritonclient.http.InferInput("features", [1, 2], "INT32")
    given.set_data_from_numpy(np.array([[1, 2]], dtype=np.int32))
    with pytest.raises(tritonclient.http.InferenceServerException, match="must be FP64, not INT32"):
        client.infer("rb-trend", [given], parameters={"columns": COLUMNS})
    given = tritonclient.http.InferInput("features", [1, 2], "FP64")
    given.set_data_from_numpy(np.array([[1.0, 2.0]]))
    with pytest.raises(tritonclient.http.InferenceServerException, match="the parameter 'columns'"):
        client.infer("rb-trend", [given])


def test_triton_sends_an_infinity_and_gets_its_row_back_with_an_error(served):
    client = tritonclient.http.InferenceServerClient(served.http)
    given = tritonclient.http.InferInput("features", [1, 2], "FP64")
    given.set_data_from_numpy(np.array([[3500.0, math.inf]]))
    answer = client.infer("rb-trend", [given], parameters={"columns": COLUMNS})
    assert math.isnan(answer.as_numpy("score")[0])
    assert answer.as_numpy("row_error")[0] == b"ret_5: inf is not finite"


def test_triton_over_grpc(served, expected):
    client = tritonclient.grpc.InferenceServerClient(served.grpc)
    assert client.is_server_ready()
    assert client.is_model_ready("rb-trend", "7")
    given = tritonclient.grpc.InferInput("features", [3, 2], "FP64")
    given.set_data_from_numpy(ROWS)
    answer = client.infer("rb-trend", [given], request_id="r-2", parameters={"columns": COLUMNS}, client_timeout=30)
    assert answer.as_numpy("score").tolist() == expected["score"]
    assert answer.get_response().id == "r-2"


@pytest.mark.parametrize("flags", [[], ["--binary-data"]])
def test_mlservers_own_client(served, expected, tmp_path, flags):
    """It drops parameters, so a row goes as its data frames do: one tensor a column."""
    items = []
    for row in ROWS[:2].tolist():
        inputs = [
            {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [value]}
            for name, value in zip(("close", "ret_5"), row, strict=True)
        ]
        items.append(json.dumps({"inputs": inputs}))
    (tmp_path / "in").write_text("\n".join(items) + "\n")
    command = ["infer", "-u", served.http, "-m", "rb-trend", "-i", tmp_path / "in", "-o", tmp_path / "out", *flags]
    subprocess.run([ROOT / ".venv/dev/bin/mlserver", *command], check=True, timeout=PATIENCE, capture_output=True)
    scores = {}
    for line in (tmp_path / "out").read_text().splitlines():
        answer = json.loads(line)
        scores[answer["parameters"]["batch_index"]] = answer["outputs"][0]["data"][0]
    assert [scores[index] for index in range(2)] == expected["score"][:2]


def test_the_standard_health_service_and_reflection(served):
    with grpc.insecure_channel(served.grpc) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "inference.GRPCInferenceService"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=30)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watched = stub.Watch(health_pb2.HealthCheckRequest(), timeout=30)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        watched.cancel()
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= set(services)
