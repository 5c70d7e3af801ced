"""Model servers that are called by gRPC, over real sockets: scoring, calls that are passed on, and how they may go wrong."""

import asyncio
import math
import struct

import grpc
import msgspec
import pytest
from prometheus_client import CollectorRegistry

from signalyard import protobuf
from signalyard.problems import CallerError, Problem
from signalyard.profile import Feature, FeatureSchema, ModelCard, metadata
from signalyard_router.adapters.oip import OipSettings, OipUpstream
from signalyard_router.ports import CallFailed
from signalyard_router.rules.breaker import BreakerState
from signalyard_router.rules.inference import Inference
from signalyard_router.rules.route import Endpoint, Target
from signalyard_router.rules.tensors import Tensor, pack
from signalyard_router.wire.tensors_proto import set_parameter
from signalyard_router.world.real import RealWorld

SCHEMA = FeatureSchema((Feature(name="close"), Feature(name="ret_5", missing="native")))
CARD = ModelCard(model="rb-trend", version="7", digest="sha256:aa", calibrated=False, schema=SCHEMA)
SECOND = 1_000_000_000


class Server:
    """A model whose score is a row's first feature; ``behaviour`` says what it does instead."""

    def __init__(self):
        self.behaviour = "good"
        self.asked = []
        self.budgets = []
        self.port = 0

    async def start(self):
        self.called = asyncio.Event()
        self.server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        handlers = {
            "ModelInfer": (self.infer, protobuf.ModelInferRequest),
            "ModelMetadata": (self.metadata, protobuf.ModelMetadataRequest),
        }
        made = {
            name: grpc.unary_unary_rpc_method_handler(
                handler, request_deserializer=message.FromString, response_serializer=lambda m: m.SerializeToString()
            )
            for name, (handler, message) in handlers.items()
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(protobuf.INFERENCE, made),))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    async def stop(self):
        await self.server.stop(0)

    async def metadata(self, asked, context):
        if asked.version not in ("", CARD.version):
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such version")
        described = metadata(CARD, "testing")
        answer = protobuf.ModelMetadataResponse(name=described.name, versions=described.versions, platform="testing")
        for tensor in described.inputs:
            item = answer.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            for name, value in tensor.parameters.items():
                set_parameter(item.parameters, name, value)
        return answer

    async def infer(self, asked, context):
        self.asked.append(asked)
        self.called.set()
        self.budgets.append(int(dict(context.invocation_metadata())["signalyard-budget-us"]))
        match self.behaviour:
            case "hang":
                await asyncio.sleep(60)
            case "fail":
                await context.abort(grpc.StatusCode.INTERNAL, "the model fell over")
            case "bad_input":
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "there is no such column")
            case "unknown":
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
            case "busy":
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too much to do")
        count = asked.inputs[0].shape[0]
        values = struct.unpack(f"<{2 * count}d", asked.raw_input_contents[0])
        version = "8" if self.behaviour == "wrong_version" else asked.model_version
        answer = protobuf.ModelInferResponse(
            model_name=asked.model_name,
            model_version=version,
            id="another" if self.behaviour == "wrong_id" else asked.id,
        )
        answer.parameters["digest"].string_param = CARD.digest
        size = count - 1 if self.behaviour == "wrong_shape" else count
        answer.outputs.add(name="score", datatype="FP64", shape=[size])
        answer.outputs.add(name="row_error", datatype="BYTES", shape=[count])
        answer.raw_output_contents.append(struct.pack(f"<{size}d", *values[::2][:size]))
        answer.raw_output_contents.append(pack("BYTES", (count,), [""] * count))
        return answer


class Stage:
    def __init__(self, server, upstream, target, world):
        self.server, self.upstream, self.target, self.world = server, upstream, target, world

    async def score(self, *values, seconds=1.0):
        card = self.upstream.card(self.target)
        until = self.world.clock.monotonic() + int(seconds * SECOND)
        return (await self.upstream.score(self.target, card, [(value, None) for value in values], until)).rows

    async def failure(self, *values, seconds=1.0):
        with pytest.raises(CallFailed) as caught:
            await self.score(*(values or (0.5,)), seconds=seconds)
        return caught.value.problem

    async def infer(self, seconds=1.0):
        data = msgspec.json.encode([0.25, None])
        tensor = Tensor(name="features", datatype="FP64", shape=(1, 2), written=data, parameters={"columns": "[]"})
        asked = Inference(model="rb-trend", version=None, id="mine", inputs=(tensor,), parameters={"symbol": "a.B"})
        until = self.world.clock.monotonic() + int(seconds * SECOND)
        return await self.upstream.infer(self.target, self.upstream.card(self.target), asked, until)


def play(body, **settings):
    async def run():
        world, server = RealWorld(), Server()
        await server.start()
        upstream = OipUpstream(world, OipSettings(**settings), CollectorRegistry())
        target = Target("rb-trend", "7", (Endpoint("127.0.0.1", server.port, grpc=True),))
        await upstream.start([target])
        await upstream.first_round.wait()
        try:
            await body(Stage(server, upstream, target, world))
        finally:
            await upstream.close()
            await server.stop()

    asyncio.run(run())


def test_rows_are_scored_and_calls_passed_on():
    async def body(stage):
        assert stage.upstream.card(stage.target) == CARD
        scored = await stage.score(0.25, 0.75)
        assert (scored.score, scored.digest, scored.row_error) == ([0.25, 0.75], "sha256:aa", ["", ""])
        asked = stage.server.asked[-1]
        assert asked.inputs[0].parameters["columns"].string_param == '["close","ret_5"]'
        assert math.isnan(struct.unpack("<4d", asked.raw_input_contents[0])[1])
        passed = await stage.infer()
        assert passed.answer.outputs[0].as_written() == b"[0.25]"
        assert stage.server.asked[-1].parameters["symbol"].string_param == "a.B"
        assert stage.server.asked[-1].id != "mine"
        assert all(0 < budget <= 1_000_000 for budget in stage.server.budgets)

    play(body)


@pytest.mark.parametrize(
    ("behaviour", "problem"),
    [
        ("hang", Problem.MODEL_TIMEOUT),
        ("fail", Problem.MODEL_FAILED),
        ("unknown", Problem.MODEL_UNKNOWN),
        ("busy", Problem.MODEL_OVERLOADED),
        ("wrong_id", Problem.MODEL_ANSWER_WRONG_ID),
        ("wrong_version", Problem.MODEL_ANSWER_WRONG_VERSION),
        ("wrong_shape", Problem.MODEL_ANSWER_WRONG_SHAPE),
    ],
)
def test_no_answer_but_its_own(behaviour, problem):
    async def body(stage):
        stage.server.behaviour = behaviour
        assert await stage.failure(seconds=0.3) is problem
        stage.server.behaviour = "good"
        assert (await stage.score(0.125)).score == [0.125]

    play(body)


def test_a_bad_input_is_the_callers():
    async def body(stage):
        stage.server.behaviour = "bad_input"
        for _ in range(8):
            with pytest.raises(CallerError, match="no such column"):
                await stage.infer()
        assert stage.upstream.endpoints(stage.target)[0].breaker is BreakerState.CLOSED

    play(body)


def test_a_server_that_is_gone_is_unreachable_and_soon_back():
    async def body(stage):
        await stage.server.stop()
        assert await stage.failure() is Problem.MODEL_UNREACHABLE
        await stage.server.start()
        async with asyncio.timeout(20):
            while True:
                try:
                    scored = await stage.score(0.5)
                    break
                except CallFailed:
                    await asyncio.sleep(0.05)
        assert scored.score == [0.5]

    play(body, probe_retry_seconds=0.05)


def test_a_cancelled_call_is_given_up():
    async def body(stage):
        stage.server.behaviour = "hang"
        task = asyncio.create_task(stage.score(0.5, seconds=30))
        async with asyncio.timeout(20):
            await stage.server.called.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stage.upstream.endpoints(stage.target)[0].in_flight == 0
        stage.server.behaviour = "good"
        assert (await stage.score(0.5)).score == [0.5]

    play(body)
