"""MLServer's gRPC service with the caller's deadline, our readiness, and codes that say whose fault an error was."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from time import monotonic_ns
from typing import Any
from urllib.parse import unquote

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from mlserver.errors import MLServerError
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.converters import ModelInferResponseConverter, ModelMetadataResponseConverter
from mlserver.grpc.dataplane_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from mlserver.grpc.servicers import InferenceServicer
from mlserver.handlers import DataPlane, ModelRepositoryHandlers

from signalyard._server.quiet import quiet
from signalyard.problems import Problem, SignalyardError, error
from signalyard_runtimes.mlserver import budget
from signalyard_runtimes.mlserver import changing as changes
from signalyard_runtimes.mlserver.changing import Changing
from signalyard_runtimes.mlserver.errors import to_mlserver
from signalyard_runtimes.mlserver.readiness import Readiness

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_Answer = health_pb2.HealthCheckResponse
_WATCH_SECONDS = 0.25
"""How soon somebody who watches hears of a change."""

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}


class _Servicer(InferenceServicer):  # type: ignore[misc] # MLServer ships no type information
    def __init__(
        self, data_plane: DataPlane, handlers: ModelRepositoryHandlers, readiness: Readiness, changing: Changing
    ) -> None:
        super().__init__(data_plane, handlers)
        self._readiness = readiness
        self._changing = changing
        self.asked = 0
        """When the last call for scores came, nanoseconds of the monotonic clock."""
        self.in_flight = 0
        """Calls for scores that are not answered yet."""

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
        self.asked = monotonic_ns()
        self.in_flight += 1
        try:
            return await self._infer(request, context)
        finally:
            self.in_flight -= 1

    async def _infer(self, request: Any, context: Any) -> Any:
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

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._change(self._model_repository_handlers.load, request, context)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._change(self._model_repository_handlers.unload, request, context)
        return pb.RepositoryModelUnloadResponse()

    async def _change(self, change: Callable[..., Awaitable[bool]], request: Any, context: Any) -> None:
        try:
            try:
                changes.check(self._changing, _client(context.peer()))
                given = {
                    name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
                    for name, value in request.parameters.items()
                }
                version = changes.version_of(given)
            except SignalyardError as exc:
                raise to_mlserver(exc) from exc
            await change(request.model_name, version)
        except MLServerError as exc:
            await _abort(context, exc)


class _Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """The standard health service: of the server and of its one service, read off the readiness when it is asked for."""

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Tell those who watch, and let them go."""
        self._ended.set()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's name
        if request.service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service!r}")
        return self._now()

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        last = None
        while True:
            ended = self._ended.is_set()
            now = self._now() if request.service in ("", SERVICE) else _Answer(status=_Answer.SERVICE_UNKNOWN)
            if now != last:
                yield now
                last = now
            if ended:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _WATCH_SECONDS)

    def _now(self) -> Any:
        return _Answer(status=_Answer.SERVING if self._readiness.open else _Answer.NOT_SERVING)


def _client(peer: str) -> str:
    """The IP address in gRPC's words for who calls: ``ipv4:127.0.0.1:50100``, ``ipv6:%5B::1%5D:50100``."""
    family, _, rest = peer.partition(":")
    return unquote(rest).rpartition(":")[0].strip("[]") if family in ("ipv4", "ipv6") else ""


async def _abort(context: Any, exc: MLServerError) -> None:
    await context.abort(_CODES.get(exc.status_code, grpc.StatusCode.INTERNAL), str(exc))


class GrpcServer:
    """Serves until it is drained. ``port`` is the one that it got."""

    def __init__(self, server: Any, port: int, service: _Servicer, health: _Health) -> None:
        self._server = server
        self.port = port
        self._service = service
        self._health = health

    @property
    def in_flight(self) -> int:
        """Calls for scores that are not answered yet."""
        return self._service.in_flight

    async def drain(self, grace_seconds: float) -> None:
        """Answer on while somebody asks, for half the grace at most; then no new calls, and what is in hand answered within the
        rest; then all is cancelled."""
        self._health.end()
        await self._server.stop(await quiet(lambda: self._service.asked, monotonic_ns, grace_seconds))


def servicer(
    data_plane: DataPlane,
    handlers: ModelRepositoryHandlers,
    readiness: Readiness,
    changing: Changing = Changing.OFF,
) -> _Servicer:
    """The service behind the protocol."""
    return _Servicer(data_plane, handlers, readiness, changing)


async def start(
    address: str,
    data_plane: DataPlane,
    handlers: ModelRepositoryHandlers,
    readiness: Readiness,
    changing: Changing = Changing.OFF,
) -> GrpcServer:
    """A started server. Raises CallerError (invalid_setting) where its port is taken."""
    # Without this, Linux lets a second server take a share of the first one's connections.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service, health = servicer(data_plane, handlers, readiness, changing), _Health(readiness)
    add_GRPCInferenceServiceServicer_to_server(service, server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection((SERVICE, _HEALTH, reflection.SERVICE_NAME), server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as exc:
        raise error(Problem.INVALID_SETTING, f"cannot listen for gRPC on {address}; is the port taken?") from exc
    await server.start()
    return GrpcServer(server, port, service, health)
