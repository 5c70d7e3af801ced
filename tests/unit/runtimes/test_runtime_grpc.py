"""The gRPC service, in process: what its context says of the caller's deadline, and what it answers."""

import asyncio
from typing import Any

import grpc
import pytest
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.servicers import InferenceServicer

from signalyard_runtimes.mlserver.grpc import servicer
from signalyard_runtimes.mlserver.readiness import Readiness

# MLServer's converters call a method that pydantic has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The `construct` method is deprecated")


class AbortedError(Exception):
    pass


class Context:
    def __init__(self, remaining: float | None) -> None:
        self.remaining = remaining
        self.code: grpc.StatusCode | None = None
        self.details = ""

    def time_remaining(self) -> float | None:
        return self.remaining

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def set_trailing_metadata(self, metadata: object) -> None:
        pass

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code, self.details = code, details
        raise AbortedError


def request(**more: Any) -> Any:
    features = pb.ModelInferRequest.InferInputTensor(
        name="features",
        datatype="FP64",
        shape=[1, 2],
        parameters={"columns": pb.InferParameter(string_param='["close","ret_5"]')},
    )
    return pb.ModelInferRequest(model_name="golden", model_version="7", inputs=[features], **more)


RAW = {"raw_input_contents": [b"\0" * 16]}


@pytest.fixture
def service(rest: Any) -> InferenceServicer:
    readiness = Readiness()
    readiness.admit()
    return servicer(rest.data_plane, rest.handlers, readiness)


@pytest.mark.parametrize("remaining", [None, 5.0])
def test_raw_contents_are_answered_raw(service: Any, remaining: float | None) -> None:
    answer = asyncio.run(service.ModelInfer(request(**RAW), Context(remaining)))
    assert len(answer.raw_output_contents) == 3


def test_calls_in_flight_are_those_that_are_not_answered(
    service: Any, rest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    infer = rest.data_plane.infer

    async def work() -> None:
        go = asyncio.Event()

        async def held(**asked: Any) -> Any:
            await go.wait()
            return await infer(**asked)

        monkeypatch.setattr(rest.data_plane, "infer", held)
        calls = [asyncio.ensure_future(service.ModelInfer(request(**RAW), Context(None))) for _ in range(2)]
        with pytest.raises(AbortedError):
            await service.ModelInfer(request(raw_input_contents=[b"\0"]), Context(None))
        await asyncio.sleep(0)
        assert service.in_flight == 2
        go.set()
        await asyncio.gather(*calls)

    asyncio.run(work())
    assert service.in_flight == 0


@pytest.mark.parametrize("remaining", [0.0, -0.5])
def test_a_call_whose_deadline_has_passed_is_dropped_unscored(service: Any, rest: Any, remaining: float) -> None:
    context, calls = Context(remaining), rest.engine.calls
    with pytest.raises(AbortedError):
        asyncio.run(service.ModelInfer(request(**RAW), context))
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert rest.engine.calls == calls


def test_raw_contents_of_the_wrong_length(service: Any) -> None:
    context = Context(None)
    with pytest.raises(AbortedError):
        asyncio.run(service.ModelInfer(request(raw_input_contents=[b"\0" * 15]), context))
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert context.details.startswith("malformed_body")


def test_nobody_is_ready_before_the_server_is(rest: Any) -> None:
    service = servicer(rest.data_plane, rest.handlers, Readiness())
    assert not asyncio.run(service.ServerReady(pb.ServerReadyRequest(), None)).ready
    assert not asyncio.run(service.ModelReady(pb.ModelReadyRequest(name="golden", version="7"), None)).ready
