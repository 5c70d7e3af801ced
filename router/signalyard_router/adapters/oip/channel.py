"""The connection to an endpoint that is called by gRPC. Needs the extra ``grpc``."""

import asyncio
from typing import Any

import grpc

from signalyard.protobuf import INFERENCE
from signalyard.wire import BUDGET_HEADER
from signalyard_router.adapters.oip.errors import (
    ConnectError,
    EndedError,
    ExpiredError,
    StatusError,
    UnreadableError,
    WireError,
)
from signalyard_router.adapters.oip.pool import Pool
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.ports import World

_STATUSES = {
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
}
"""What a status would be over REST; any other is a 500."""


class Channel(Pool):
    """One HTTP/2 connection, which grpcio opens and opens again, instead of a pool of them.

    Calls have streams of their own in it, so that no answer can be another call's; their ids are held against the answers all the
    same. grpcio makes no call twice by itself.
    """

    def __init__(self, world: World, settings: OipSettings, host: str, port: int) -> None:
        super().__init__(world, settings, host, port)
        self._world = world
        self._target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._channel: Any = None

    async def unary(self, method: str, message: Any, reply: Any, until: int) -> Any:
        """Call a method of the protocol's service, and give its answer, both by ``until``. Raises WireError."""
        if self._closed:
            raise ConnectError("the router is closing")
        remaining = until - self._now()
        if remaining < 1000:
            raise ExpiredError("the budget was spent before the request could be sent")
        call = self._connected().unary_unary(
            f"/{INFERENCE}/{method}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=reply.FromString,
        )
        budget = ((BUDGET_HEADER, str(remaining // 1000)),)
        try:
            answer = await call(message, timeout=remaining / 1e9, metadata=budget)
        except grpc.aio.AioRpcError as exc:
            raise _failure(exc) from exc
        except (grpc.aio.UsageError, asyncio.CancelledError):
            if self._closed:
                raise EndedError("the connection was closed here", answering=False) from None
            raise
        if self._now() > until:
            raise ExpiredError("the answer was read after the budget was spent")
        return answer

    async def closed(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    def _connected(self) -> Any:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(
                self._target,
                options=(
                    ("grpc.max_receive_message_length", self._settings.max_answer_bytes),
                    ("grpc.max_send_message_length", -1),
                    ("grpc.enable_retries", 0),
                    ("grpc.enable_http_proxy", 0),
                    ("grpc.use_local_subchannel_pool", 1),
                    # a server that was restarted is soon back
                    ("grpc.initial_reconnect_backoff_ms", 100),
                    ("grpc.min_reconnect_backoff_ms", 100),
                    ("grpc.max_reconnect_backoff_ms", 1_000),
                ),
            )
        return self._channel


def _failure(exc: Any) -> WireError:
    code, text = exc.code(), exc.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ExpiredError("no answer within the budget")
    if code is grpc.StatusCode.UNAVAILABLE:
        # grpcio says by its text alone whether there was a connection
        if "connect" in text.lower():
            return ConnectError(text)
        return EndedError(f"the connection ended before an answer: {text}", answering=False)
    if code is grpc.StatusCode.CANCELLED:
        return EndedError("the server gave the call up", answering=False)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in text:
        return UnreadableError(text)
    if code is grpc.StatusCode.INTERNAL and "deserializ" in text.lower():
        return UnreadableError(text)
    return StatusError(_STATUSES.get(code, 500), text.encode())
