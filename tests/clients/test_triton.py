"""Triton's clients, unchanged, through the router: each gets what the model server says."""

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from grpc_health.v1 import health_pb2, health_pb2_grpc

COLUMNS = '["close","ret_5"]'
ROWS = np.array([[3500.0, 0.5], [3490.0, -0.5], [3510.0, np.nan]])


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("named", ["", "8"], ids=["split", "version"])
def test_tritons_http_client(router, scores, records, binary, named):
    with triton_http.InferenceServerClient(router.http) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("rb-trend")
        assert client.is_model_ready("rb-trend", "8")
        assert client.get_server_metadata()["name"] == "signalyard"
        assert client.get_model_metadata("rb-trend")["versions"] == ["7", "8"]
        features = triton_http.InferInput("features", [3, 2], "FP64")
        rows = np.nan_to_num(ROWS) if not binary else ROWS  # its JSON writes NaN, which is none
        features.set_data_from_numpy(rows, binary_data=binary)
        features._parameters["columns"] = COLUMNS  # the client has no public way to say a tensor's parameters
        outputs = [triton_http.InferRequestedOutput(name, binary_data=binary) for name in ("score", "row_error")]
        answer = client.infer("rb-trend", [features], named, outputs, request_id="mine")
        said = answer.get_response()
        assert (said["model_version"], said["id"]) == (named or "7", "mine")
        score = answer.as_numpy("score")
        assert score.shape == (3,)
        if not named:
            assert list(score[:2]) == scores[:2]
        if binary:
            assert not named or list(score) != scores
        assert list(answer.as_numpy("row_error")) in ([b""] * 3, [""] * 3)
        record = records()[said["parameters"]["call"]]
        assert (record["client_id"], record["version"]) == ("mine", named or "7")
        with pytest.raises(triton_http.InferenceServerException, match="unknown_model"):
            client.infer("nope", [features])


@pytest.mark.parametrize("named", ["", "8"], ids=["split", "version"])
def test_tritons_grpc_client(router, scores, records, named):
    with triton_grpc.InferenceServerClient(router.grpc) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("rb-trend", "8")
        assert client.get_model_metadata("rb-trend").versions == ["7", "8"]
        features = triton_grpc.InferInput("features", [3, 2], "FP64")
        features.set_data_from_numpy(ROWS)
        features._input.parameters["columns"].string_param = COLUMNS
        answer = client.infer("rb-trend", [features], named, request_id="mine", parameters={"symbol": "rb2410.SHFE"})
        said = answer.get_response()
        assert (said.model_version, said.id) == (named or "7", "mine")
        assert (list(answer.as_numpy("score")) == scores) == (not named)
        record = records()[said.parameters["call"].string_param]
        assert (record["wire"], record["symbol"], record["version"]) == ("grpc", "rb2410.SHFE", named or "7")
        with pytest.raises(triton_grpc.InferenceServerException, match="unknown_model"):
            client.infer("nope", [features])


def test_the_standard_health_client(router):
    with grpc.insecure_channel(router.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")
        assert health.Check(asked, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
