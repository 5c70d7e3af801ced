"""The standard health service: the router's readiness, read off when it is asked for.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from signalyard.protobuf import INFERENCE, ROUTER

SERVICES = ("", INFERENCE, ROUTER)

_WATCH_SECONDS = 0.5

_Answer = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # the package has no types
    """Every service is as ready as the router is; the name "" stands for all of them."""

    def __init__(self, unready: Callable[[], Collection[str]]) -> None:
        self._unready = unready
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Say so to those who watch, and end their calls: a shutdown waits for calls, and theirs have no end of their own."""
        self._ended.set()

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 -- the protocol's name
        """The status now. Aborts with NOT_FOUND for a service that is not there."""
        if request.service not in SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"the services are {', '.join(SERVICES[1:])}")
        return _Answer(status=self._status(request.service))

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 -- the protocol's name
        """The status now, and whenever it changes, within half a second."""
        said = None
        while True:
            ended = self._ended.is_set()
            status = self._status(request.service)
            if status != said:
                yield _Answer(status=status)
                said = status
            if ended:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _WATCH_SECONDS)

    def _status(self, service: str) -> Any:
        if service not in SERVICES:
            return _Answer.SERVICE_UNKNOWN
        return _Answer.NOT_SERVING if self._unready() else _Answer.SERVING
