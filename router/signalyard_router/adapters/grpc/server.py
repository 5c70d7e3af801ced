"""The gRPC server: it listens, and it drains. Signals are not its business."""

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from prometheus_client import CollectorRegistry

from signalyard import protobuf
from signalyard._server.quiet import quiet
from signalyard_router.adapters.grpc.health import HealthService
from signalyard_router.adapters.grpc.inference import InferenceService
from signalyard_router.adapters.grpc.methods import Methods
from signalyard_router.adapters.grpc.metrics import GrpcMetrics
from signalyard_router.adapters.grpc.predict import PredictService
from signalyard_router.adapters.grpc.settings import GrpcSettings
from signalyard_router.ports import World

_HEALTH = "grpc.health.v1.Health"


class GrpcServer:
    """Serves predictions and the Open Inference Protocol, with the standard health service and reflection."""

    def __init__(
        self,
        world: World,
        settings: GrpcSettings,
        registry: CollectorRegistry,
        inference: InferenceService,
        predict: PredictService,
        health: HealthService,
    ) -> None:
        self._world = world
        self._settings = settings
        self._methods = Methods(world.clock, GrpcMetrics(registry), world.random_bytes(4).hex())
        self._inference = inference
        self._predict = predict
        self._health = health
        self._server: Any = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises OSError."""
        settings = self._settings
        self._server = server = grpc.aio.server(
            maximum_concurrent_rpcs=settings.max_calls,
            options=(
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", settings.max_metadata_bytes),
                ("grpc.so_reuseport", 0),  # a second router on the port is a mistake, and is told so
            ),
        )
        for service, handlers in (
            (protobuf.INFERENCE, self._inference.handlers(self._methods)),
            (protobuf.ROUTER, self._predict.handlers(self._methods)),
        ):
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        named = (protobuf.INFERENCE, protobuf.ROUTER, _HEALTH, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(named, server, _shown())
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        try:
            self.port = self._add_port(f"{host}:{settings.port or 0}")
        except RuntimeError as exc:
            raise OSError(str(exc)) from exc
        await server.start()

    def _add_port(self, address: str) -> int:
        certificate, key = self._settings.certificate, self._settings.key
        if certificate is None or key is None:
            return int(self._server.add_insecure_port(address))
        pair = (key.read_bytes(), certificate.read_bytes())
        return int(self._server.add_secure_port(address, grpc.ssl_server_credentials((pair,))))

    async def drain(self, grace_seconds: float) -> None:
        """Answer on while somebody asks, for half the grace at most; then no new calls, and what is in hand answered within the
        rest; then all is cancelled."""
        if self._server is None:
            return
        self._health.end()
        left = await quiet(lambda: self._methods.asked, self._world.clock.monotonic, grace_seconds)
        await self._server.stop(left)
        await self._predict.close()


def _shown() -> Any:
    """All that reflection shows, in one pool."""
    pool = descriptor_pool.DescriptorPool()
    found = (
        protobuf.ModelInferRequest.DESCRIPTOR.file,
        protobuf.PredictRequest.DESCRIPTOR.file,
        health_pb2.DESCRIPTOR,
        reflection_pb2.DESCRIPTOR,
    )
    for file in found:
        made = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(made)
        pool.Add(made)
    return pool
