"""The Open Inference Protocol's gRPC form: calls that are passed through, and what the protocol says of models and server.

Source: https://github.com/kserve/open-inference-protocol (inference_grpc).
"""

from typing import Any, Protocol

from signalyard import protobuf
from signalyard._release import release
from signalyard.oip import MetadataTensor, ModelMetadata
from signalyard.problems import Problem, error
from signalyard_router.adapters.grpc.methods import Methods
from signalyard_router.flow.passthrough import Answered
from signalyard_router.rules.inference import Inference
from signalyard_router.wire.tensors_proto import read_inference, set_parameter, write_inferred


class Passing(Protocol):
    """Who passes calls on."""

    async def infer(self, asked: Inference, *, received: int, remaining: int | None = None) -> Answered:
        """The model's answer and its record. Raises SignalyardError."""
        ...


class Models(Protocol):
    """What may be called."""

    def metadata(self, model: str, version: str | None) -> ModelMetadata:
        """A model's description. Raises SignalyardError."""
        ...

    def ready(self, model: str, version: str | None) -> bool:
        """Whether somebody would answer. Raises CallerError."""
        ...


class Gatekeeper(Protocol):
    """The router, as calls see it."""

    def admit(self, received: int, remaining: int | None = None) -> None:
        """Called once a call. Raises RouterError: overloaded."""
        ...

    def unready(self) -> list[str]:
        """Why the router should get no traffic; empty when it should."""
        ...


class InferenceService:
    """`signalyard.protobuf.INFERENCE`."""

    def __init__(self, passing: Passing, models: Models, router: Gatekeeper) -> None:
        self._passing = passing
        self._models = models
        self._router = router

    def handlers(self, methods: Methods) -> dict[str, Any]:
        """The service's methods."""
        made = {
            "ServerLive": (self._server_live, protobuf.ServerLiveRequest),
            "ServerReady": (self._server_ready, protobuf.ServerReadyRequest),
            "ModelReady": (self._model_ready, protobuf.ModelReadyRequest),
            "ServerMetadata": (self._server_metadata, protobuf.ServerMetadataRequest),
            "ModelMetadata": (self._model_metadata, protobuf.ModelMetadataRequest),
            "ModelInfer": (self._model_infer, protobuf.ModelInferRequest),
        }
        return {name: methods.unary(name, handler, message) for name, (handler, message) in made.items()}

    async def _model_infer(self, message: Any, received: int, remaining: int | None) -> Any:
        if remaining == 0:
            raise error(Problem.DEADLINE_EXCEEDED, "the call's time was over when it came")
        self._router.admit(received, remaining)
        asked = read_inference(message)
        answered = await self._passing.infer(asked, received=received, remaining=remaining)
        raw = bool(message.raw_input_contents)
        return write_inferred(answered.answer, asked.id, answered.record.id, raw=raw)

    async def _model_metadata(self, message: Any, received: int, remaining: int | None) -> Any:
        described = self._models.metadata(message.name, message.version or None)
        answer = protobuf.ModelMetadataResponse(
            name=described.name, versions=described.versions or [], platform=described.platform
        )
        for place, tensors in ((answer.inputs, described.inputs), (answer.outputs, described.outputs)):
            for tensor in tensors or ():
                _describe(place, tensor)
        return answer

    async def _model_ready(self, message: Any, received: int, remaining: int | None) -> Any:
        return protobuf.ModelReadyResponse(ready=self._models.ready(message.name, message.version or None))

    async def _server_metadata(self, message: Any, received: int, remaining: int | None) -> Any:
        return protobuf.ServerMetadataResponse(name="signalyard", version=release())

    async def _server_live(self, message: Any, received: int, remaining: int | None) -> Any:
        return protobuf.ServerLiveResponse(live=True)

    async def _server_ready(self, message: Any, received: int, remaining: int | None) -> Any:
        return protobuf.ServerReadyResponse(ready=not self._router.unready())


def _describe(place: Any, tensor: MetadataTensor) -> None:
    item = place.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    for name, value in (tensor.parameters or {}).items():
        set_parameter(item.parameters, name, value)
