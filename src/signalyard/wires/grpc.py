"""gRPC, for coroutines: requests alone. It needs the extra ``grpc``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from signalyard import protobuf
from signalyard.following import Wanted
from signalyard.problems import Problem, error
from signalyard.wire import Signal

_PROBLEM = "signalyard-problem"
"""The key of the trailing metadata that holds a problem's code."""


class GrpcWire:
    """The service `signalyard.protobuf.ROUTER` at ``address``, HOST:PORT. Signals do not come this way.

    ``credentials`` are those of a port that speaks TLS, such as ``grpc.ssl_channel_credentials(AUTHORITY)``; None: plain text.
    """

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> None:
        self._address = address
        self._credentials = credentials
        self._channel: Any = None

    async def predict(self, body: bytes, budget: int) -> bytes:
        asked = protobuf.PredictRequest(json=body)
        return await self._ask("Predict", asked, protobuf.PredictReply, budget / 1e6)

    async def state(self, symbol: str | None = None, route: str | None = None) -> bytes:
        asked = protobuf.StateRequest(symbol=symbol or "", route=route or "")
        return await self._ask("State", asked, protobuf.StateReply, None)

    @asynccontextmanager
    async def signals(self, wanted: Wanted) -> AsyncIterator[AsyncIterator[Signal]]:
        raise error(
            Problem.INVALID_SETTING, "signals do not come over gRPC: subscribe by REST, ZeroMQ or Redis", "/wire"
        )
        yield  # pragma: no cover -- it is a generator

    async def close(self) -> None:
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()

    async def _ask(self, method: str, message: Any, reply: Any, seconds: float | None) -> bytes:
        if self._channel is None:
            # made where its loop runs
            options = (("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0))
            if self._credentials is None:
                self._channel = grpc.aio.insecure_channel(self._address, options=options)
            else:
                self._channel = grpc.aio.secure_channel(self._address, self._credentials, options=options)
        call = self._channel.unary_unary(
            f"/{protobuf.ROUTER}/{method}",
            request_serializer=type(message).SerializeToString,
            response_deserializer=reply.FromString,
        )
        try:
            answer = await call(message, timeout=seconds)
        except grpc.aio.AioRpcError as exc:
            code = dict(exc.trailing_metadata() or ()).get(_PROBLEM)
            if code in set(Problem):
                raise error(Problem(code), (exc.details() or "").partition(": ")[2]) from exc
            if exc.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise error(Problem.DEADLINE_EXCEEDED, "the router did not answer within the budget") from exc
            raise ConnectionError(f"{exc.code().name}: {exc.details()}") from exc
        found: bytes = answer.json
        return found
