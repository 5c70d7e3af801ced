"""A version of a model at an endpoint that is called by gRPC. Needs the extra ``grpc``.

Requests and answers are the JSON of the REST form turned into messages and back, so that what is asked, and how an answer is
judged, is said once; that costs some microseconds a call, and REST is the quicker way.
"""

from collections.abc import Awaitable, Mapping
from typing import Any, cast

import msgspec

from signalyard import protobuf
from signalyard.oip import MetadataTensor, ModelMetadata
from signalyard.profile import ModelCard, decode_metadata
from signalyard_router.adapters.oip.channel import Channel
from signalyard_router.adapters.oip.peer import Peer
from signalyard_router.adapters.oip.request import Answer, Request
from signalyard_router.wire.tensors_json import answer_body
from signalyard_router.wire.tensors_json import read_inference as read_json
from signalyard_router.wire.tensors_proto import parameters_of, read_inferred, write_inference


class GrpcPeer(Peer):
    """The same as its base by the protocol's gRPC form."""

    async def look(self, version: str | None, until: int) -> ModelCard:
        asked = protobuf.ModelMetadataRequest(name=self.key.model, version=version or "")
        answer = await self._channel.unary("ModelMetadata", asked, protobuf.ModelMetadataResponse, until)
        return decode_metadata(msgspec.json.encode(_metadata(answer)), model=self.key.model, version=version)

    def _send(self, request: Request[Answer]) -> Awaitable[Answer]:
        return self._infer(request)

    async def _infer(self, request: Request[Answer]) -> Answer:
        card = request.card
        asked = read_json(request.body, None, card.model, card.version)
        message = write_inference(asked, card.model, card.version, request.id)
        answer = await self._channel.unary("ModelInfer", message, protobuf.ModelInferResponse, request.until)
        inferred = read_inferred(
            answer, request_id=request.id, model=card.model, version=card.version, digest=card.digest
        )
        return request.read(answer_body(inferred, request.id))

    @property
    def _channel(self) -> Channel:
        return cast(Channel, self.pool)


def _metadata(message: Any) -> ModelMetadata:
    return ModelMetadata(
        name=message.name,
        platform=message.platform,
        versions=list(message.versions),
        inputs=[_tensor(item) for item in message.inputs],
        outputs=[_tensor(item) for item in message.outputs],
    )


def _tensor(item: Any) -> MetadataTensor:
    parameters: Mapping[str, Any] = parameters_of(item.parameters)
    return MetadataTensor(
        name=item.name, datatype=item.datatype, shape=list(item.shape), parameters=dict(parameters) or None
    )
