"""MLServer's gRPC service with the caller's deadline, our readiness, and codes that say whose fault an error was."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from mlserver.errors import MLServerError
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.converters import ModelInferResponseConverter, ModelMetadataResponseConverter
from mlserver.grpc.dataplane_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from mlserver.grpc.servicers import InferenceServicer
from mlserver.handlers import DataPlane, ModelRepositoryHandlers

from signalyard.problems import Problem, error
from signalyard_runtimes.mlserver import budget
from signalyard_runtimes.mlserver.readiness import Readiness

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_Answer = health_pb2.HealthCheckResponse
_WATCH_SECONDS = 1.0
"""How soon somebody who watches hears of a change."""

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class _Servicer(InferenceServicer):  # type: ignore[misc] # MLServer ships no type information
    def __init__(self, data_plane: DataPlane, handlers: ModelRepositoryHandlers, readiness: Readiness) -> None:
        super().__init__(data_plane, handlers)
        self._readiness = readiness

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's name
        return (
            await super().ServerReady(request, context) if self._readiness.open else pb.ServerReadyResponse(ready=False)
        )

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not self._readiness.open:
            return pb.ModelReadyResponse(ready=False)
        try:
            return await super().ModelReady(request, context)
        except MLServerError as exc:
            await _abort(context, exc)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        try:
            metadata = await self._data_plane.model_metadata(name=request.name, version=request.version)
        except MLServerError as exc:
            await _abort(context, exc)
        return ModelMetadataResponseConverter.from_types(metadata)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        with budget.serving(context.time_remaining()):
            try:
                payload = self._InsertHeaders(request, context)
            except (ValueError, TypeError, LookupError, struct.error) as exc:
                await _abort(
                    context, MLServerError(str(error(Problem.MALFORMED_BODY, f"not an inference request: {exc}")))
                )
            try:
                answer = await self._data_plane.infer(
                    payload=payload, name=request.model_name, version=request.model_version
                )
            except MLServerError as exc:
                await _abort(context, exc)
        self._SetTrailingMetadata(answer, context)
        return ModelInferResponseConverter.from_types(answer, use_raw=bool(request.raw_input_contents))


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """The standard health service: of the server and of its one service, read off the readiness when it is asked for."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's name
        if request.service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r}")
        return self._now()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        last = None
        while True:
            now = self._now() if request.service in ("", SERVICE) else _Answer(status=_Answer.SERVICE_UNKNOWN)
            if now != last:
                yield now
                last = now
            await asyncio.sleep(_WATCH_SECONDS)

    def _now(self) -> Any:
        return _Answer(status=_Answer.SERVING if self._readiness.open else _Answer.NOT_SERVING)


async def _abort(context: Any, exc: MLServerError) -> None:
    await context.abort(_CODES.get(exc.status_code, grpc.StatusCode.INTERNAL), str(exc))


def servicer(data_plane: DataPlane, handlers: ModelRepositoryHandlers, readiness: Readiness) -> InferenceServicer:
    """The service behind the protocol."""
    return _Servicer(data_plane, handlers, readiness)


async def start(
    address: str, data_plane: DataPlane, handlers: ModelRepositoryHandlers, readiness: Readiness
) -> tuple[Any, int]:
    """A started ``grpc.aio`` server and the port that it got. Raises CallerError (invalid_setting) where that is taken."""
    # Without this, Linux lets a second server take a share of the first one's connections.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    add_GRPCInferenceServiceServicer_to_server(servicer(data_plane, handlers, readiness), server)
    health_pb2_grpc.add_HealthServicer_to_server(_Health(readiness), server)
    reflection.enable_server_reflection((SERVICE, _HEALTH, reflection.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as exc:
        raise error(Problem.INVALID_SETTING, f"cannot listen for gRPC on {address}; is the port taken?") from exc
    await server.start()
    return server, port
