"""gRPC on a router process: inference, predictions, health, reflection; limits, deadlines, cancelled calls, a shutdown under load."""

import json
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from signalyard import Outcome, SignalyardError, Snapshot, protobuf
from signalyard.clients import BlockingClient
from signalyard.wires.grpc import GrpcWire

PATIENCE = 20.0
NAME = "rb2410.SHFE"
SERVING = health_pb2.HealthCheckResponse.SERVING


class Client:
    """The router's gRPC port, by generic calls: no generated code."""

    def __init__(self, port):
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.max_send_message_length", -1),))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def method(self, service, name, reply):
        return self.channel.unary_unary(
            f"/{service}/{name}", lambda message: message.SerializeToString(), reply.FromString
        )

    def ask(self, name, message=None, timeout=PATIENCE):
        reply = getattr(protobuf, f"{name}Response")
        message = message if message is not None else getattr(protobuf, f"{name}Request")()
        return self.method(protobuf.INFERENCE, name, reply)(message, timeout=timeout)

    def predict(self, body, timeout=PATIENCE):
        message = protobuf.PredictRequest(json=json.dumps(body).encode())
        return json.loads(self.method(protobuf.ROUTER, "Predict", protobuf.PredictReply)(message, timeout=timeout).json)

    def refused(self, name, message, timeout=PATIENCE):
        with pytest.raises(grpc.RpcError) as caught:
            self.ask(name, message, timeout)
        return caught.value


def question(*rows, raw=True, **more):
    message = protobuf.ModelInferRequest(**{"model_name": "rb-trend"} | more)
    item = message.inputs.add(name="features", datatype="FP64", shape=[len(rows), 2])
    item.parameters["columns"].string_param = '["p","x"]'
    flat = [value for row in rows for value in row]
    if raw:
        message.raw_input_contents.append(struct.pack(f"<{len(flat)}d", *flat))
    else:
        item.contents.fp64_contents.extend(flat)
    return message


@pytest.fixture
def port(router):
    from tests.parts.router.conftest import free_port

    return free_port()


@pytest.fixture
def client(router, port):
    router.start("--grpc-port", str(port))
    with Client(port) as made:
        yield made


def test_inference_and_predictions_as_over_rest(router, models, client):
    answer = client.ask("ModelInfer", question((0.7, 1.0), (0.3, float("nan")), id="mine"))
    assert (answer.model_name, answer.model_version, answer.id) == ("rb-trend", "7", "mine")
    assert struct.unpack("<2d", answer.raw_output_contents[0]) == (0.7, 0.3)
    typed = client.ask("ModelInfer", question((0.7, 1.0), raw=False, model_version="6"))
    assert typed.model_version == "6"
    assert list(typed.outputs[0].contents.fp64_contents) == [0.7]
    first, second = router.records("call")
    assert (first["wire"], first["client_id"], first["version"]) == ("grpc", "mine", "7")
    assert first["id"] == answer.parameters["call"].string_param
    assert second["version"] == "6"
    decision = client.predict(router.snapshot(0.7))
    assert (decision["outcome"], decision["signal"]["version"]) == ("emitted", "7")
    many = client.predict([router.snapshot(0.7), router.snapshot(7), router.snapshot(0.3)])
    assert [each["outcome"] for each in many] == ["suppressed", "rejected", "emitted"]
    assert client.predict(router.snapshot(0.7) | {"symbol": "nodot"})["problem"]["code"] == "invalid_instrument"
    models.behave("7", "hang")
    late = client.ask("ModelInfer", question((0.4, 1.0)))
    assert late.model_version == "6"
    _, page = router.get("/metrics")
    assert b'signalyard_grpc_calls_total{code="OK",method="ModelInfer"} 3.0' in page
    assert b'signalyard_grpc_calls_total{code="OK",method="Predict"} 3.0' in page


def test_a_strategys_client(router, client, port):
    with BlockingClient(lambda: GrpcWire(f"127.0.0.1:{port}"), PATIENCE) as strategy:
        (decision,) = strategy.predict(Snapshot(symbol=NAME, ts_event=time.time_ns(), features={"p": 0.7}))
        assert decision.outcome is Outcome.EMITTED
        assert [opinion.signal for opinion in strategy.state(NAME).opinions] == ["long"]
        assert strategy.state("rb1.SHFE").opinions == []
        with pytest.raises(SignalyardError, match="too_many_rows"):
            strategy.predict([Snapshot(symbol=NAME, ts_event=1, features={"p": 0.7})] * 1001)
    with BlockingClient(lambda: GrpcWire("127.0.0.1:1"), 0.5) as nobody, pytest.raises(SignalyardError):
        nobody.state()


def test_what_the_protocol_says_of_server_and_models(router, models, client):
    assert client.ask("ServerLive").live
    assert client.ask("ServerReady").ready
    assert client.ask("ServerMetadata").name == "signalyard"
    named = protobuf.ModelReadyRequest(name="rb-trend", version="6")
    assert client.ask("ModelReady", named).ready
    described = client.ask("ModelMetadata", protobuf.ModelMetadataRequest(name="rb-trend"))
    assert list(described.versions) == ["7", "6"]
    assert described.inputs[0].parameters["digest"].string_param == f"sha256:{'7' * 64}"
    health = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", protobuf.INFERENCE, protobuf.ROUTER):
        assert health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE).status == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watching = health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    assert next(watching).status == SERVING
    watching.cancel()
    assert set(reflected(client.channel)) == {
        protobuf.INFERENCE,
        protobuf.ROUTER,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def reflected(channel):
    """Every service that reflection lists, each with the file that defines it."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    (listed,) = stub.ServerReflectionInfo(iter([asked]), timeout=PATIENCE)
    names = [service.name for service in listed.list_services_response.service]
    questions = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
    for name, answer in zip(names, stub.ServerReflectionInfo(iter(questions), timeout=PATIENCE), strict=True):
        files = answer.file_descriptor_response.file_descriptor_proto
        file = descriptor_pb2.FileDescriptorProto.FromString(files[0])
        assert name.rpartition(".")[2] in {service.name for service in file.service}
    return names


def bad_calls():
    yield question((0.7, 1.0), model_name="nope"), grpc.StatusCode.NOT_FOUND, "unknown_model"
    yield question((0.7, 1.0), model_version="9"), grpc.StatusCode.NOT_FOUND, "unknown_model"
    yield question((0.7,)), grpc.StatusCode.INVALID_ARGUMENT, "invalid_inference"
    other = question((0.7, 1.0))
    other.parameters["symbol"].string_param = "cu1.SHFE"
    yield other, grpc.StatusCode.NOT_FOUND, "no_route"


def test_bad_calls_and_large_ones_are_told_what_is_wrong(router, models, client):
    for message, code, problem in bad_calls():
        refused = client.refused("ModelInfer", message)
        assert (refused.code(), dict(refused.trailing_metadata())["signalyard-problem"]) == (code, problem)
        assert refused.details().startswith(problem)
    large = protobuf.ModelInferRequest(model_name="rb-trend", raw_input_contents=[bytes(5 * 1024 * 1024)])
    assert client.refused("ModelInfer", large).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    predict = client.method(protobuf.ROUTER, "Predict", protobuf.PredictReply)
    with pytest.raises(grpc.RpcError) as caught:
        predict(protobuf.PredictRequest(json=b"{nope"), timeout=PATIENCE)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    garbage = client.channel.unary_unary(f"/{protobuf.INFERENCE}/ModelInfer")
    with pytest.raises(grpc.RpcError):
        garbage(b"\xff\xff\xff", timeout=PATIENCE)
    for method in (f"{protobuf.INFERENCE}/Nothing", f"{protobuf.ROUTER.replace('v1', 'v9')}/Predict"):
        with pytest.raises(grpc.RpcError) as caught:
            client.channel.unary_unary(f"/{method}")(b"", timeout=PATIENCE)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert models.servers["7"].inferences == []
    assert router.records("call") == []
    assert client.ask("ModelInfer", question((0.7, 1.0))).model_version == "7"
    assert "internal_error" not in router.said()


def test_it_speaks_tls_and_then_nothing_else(router, port, certified):
    certificate, key = certified
    router.start("--grpc-port", str(port), "--grpc-certificate", str(certificate), "--grpc-key", str(key))
    trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
    with BlockingClient(lambda: GrpcWire(f"127.0.0.1:{port}", trusted), PATIENCE) as strategy:
        decision = strategy.predict_one(Snapshot(symbol=NAME, ts_event=time.time_ns(), features={"p": 0.7}))
        assert decision.outcome is Outcome.EMITTED
    for other in (None, grpc.ssl_channel_credentials()):
        with (
            BlockingClient(lambda other=other: GrpcWire(f"127.0.0.1:{port}", other), PATIENCE) as stranger,
            pytest.raises(SignalyardError, match="router_unreachable"),
        ):
            stranger.state()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--grpc-key", "y.pem"], "a certificate and its key go together"),
        (["--grpc-certificate", "x.pem", "--grpc-key", "y.pem"], "the certificate cannot be used"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_refused(router, options, says):
    command = ("router", "--routes", str(router.routes), "--journal", str(router.journal), "--port", "0")
    refused = router.run(*command, "--grpc-port", "0", *options)
    assert refused.returncode == 1
    assert says in refused.stderr
    assert "/grpc-certificate" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_model_error_is_told_and_recorded(router, models, client):
    for version in ("7", "6"):
        models.behave(version, "fail")
    refused = client.refused("ModelInfer", question((0.7, 1.0)))
    assert (refused.code(), refused.details()[:12]) == (grpc.StatusCode.INTERNAL, "model_failed")
    models.behave("7", "bad_input")
    refused = client.refused("ModelInfer", question((0.7, 1.0)))
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [record["problem"]["code"] for record in router.records("call")] == ["model_failed", "invalid_inference"]


def test_deadlines_and_cancelled_calls_leave_nothing_behind(router, models, port):
    def count(line):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and line not in router.get("/metrics")[1].decode():
            time.sleep(0.02)
        assert line in router.get("/metrics")[1].decode()

    # the route leaves a minute, so that what ends sooner was ended by its caller
    text = (router.routes / "rb.yaml").read_text()
    router.write_route(text.replace("deadline: 100ms", "deadline: 60s"))
    router.start("--grpc-port", str(port))
    for version in ("7", "6"):
        models.behave(version, "hang")
    with Client(port) as client:
        refused = client.refused("ModelInfer", question((0.7, 1.0)), timeout=0.05)
        assert refused.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        count("signalyard_grpc_calls_in_flight 0.0")
        call = client.method(protobuf.INFERENCE, "ModelInfer", protobuf.ModelInferResponse)
        under_way = [call.future(question((0.7, 1.0)), timeout=40) for _ in range(20)]
        count("signalyard_grpc_calls_in_flight 20.0")
        for future in under_way:
            future.cancel()
        count("signalyard_grpc_calls_in_flight 0.0")
        count('signalyard_grpc_calls_total{code="CANCELLED",method="ModelInfer"} 20.0')
        for version in ("7", "6"):
            models.behave(version, "good")
        answer = client.ask("ModelInfer", question((0.25, 1.0)), timeout=10)
        assert answer.raw_output_contents[0] == struct.pack("<d", 0.25)
    # what remains of the caller's deadline goes on to the model server
    assert 0 < int(models.servers["7"].inferences[-1].headers["signalyard-budget-us"]) <= 10_000_000
    assert "internal_error" not in router.said()


def test_a_shutdown_under_load_fails_no_call_that_it_took(router, client, port):
    answered, failed, over = [], [], threading.Event()

    def load(number):
        with Client(port) as mine:
            while not over.is_set():
                p = 0.7 if len(answered) % 2 else 0.3
                try:
                    answered.append(mine.predict(router.snapshot(p, f"rb{number}.SHFE"))["proposal_id"])
                except grpc.RpcError as exc:
                    failed.append(exc)
                    return

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + PATIENCE
    while len(answered) < 200 and time.monotonic() < until:
        time.sleep(0.01)
    assert router.terminate() == 0
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
    # one that came too late finds nobody, or is sent back untouched
    assert {exc.code() for exc in failed} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    recorded = {record["proposal_id"] for record in router.records()}
    assert len(answered) >= 200
    assert set(answered) == recorded  # and none that was taken was not answered
    assert "internal_error" not in router.said()


def test_callers_who_heed_the_health_service_lose_no_call_to_a_shutdown(router, client, port):
    answered, told = [], threading.Event()

    def watch():
        for said in health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE):
            if said.status != SERVING:
                told.set()

    def ask(number):
        with Client(port) as mine:
            while not told.is_set():
                p = 0.7 if len(answered) % 2 else 0.3
                answered.append(mine.predict(router.snapshot(p, f"rb{number}.SHFE"))["proposal_id"])

    with ThreadPoolExecutor(5) as callers:
        calls = [callers.submit(watch), *(callers.submit(ask, number) for number in range(4))]
        try:
            until = time.monotonic() + PATIENCE
            while len(answered) < 200 and time.monotonic() < until:
                time.sleep(0.01)
            assert len(answered) >= 200
            assert router.terminate() == 0
            for call in calls:
                call.result(PATIENCE)  # none ended otherwise than with an answer
        finally:
            told.set()
    assert set(answered) == {record["proposal_id"] for record in router.records()}


def test_a_shutdown_tells_those_who_watch_and_does_not_wait_for_them(router, client):
    health = health_pb2_grpc.HealthStub(client.channel)
    watching = health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
    assert next(watching).status == SERVING
    assert router.terminate() == 0
    assert [answer.status for answer in watching] == [
        health_pb2.HealthCheckResponse.NOT_SERVING
    ]  # and ended as a call does
    assert watching.code() is grpc.StatusCode.OK


def test_without_the_flag_there_is_no_grpc(router, port):
    router.start()
    with Client(port) as nobody, pytest.raises(grpc.RpcError) as caught:
        nobody.ask("ServerLive", timeout=2)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_port_that_is_taken_is_told(router):
    router.start()
    other = router.run(
        "router", "--routes", str(router.routes), "--journal", str(router.folder / "other"), "--port", "0",
        "--admin-port", "0", "--grpc-port", str(router.port),
    )  # fmt: skip
    assert other.returncode == 1
    assert "grpc-port" in other.stderr
