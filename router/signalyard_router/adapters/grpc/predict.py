"""Predictions over gRPC: the JSON of ``POST /v1/predict`` in a message, and that of its answer in another; the same of the state."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from signalyard import protobuf
from signalyard.problems import Problem, error
from signalyard.wire import StateAnswer
from signalyard_router.adapters.grpc.methods import Methods
from signalyard_router.wire.predicting import Predicting


class PredictService:
    """`signalyard.protobuf.ROUTER`. Rejected snapshots are decisions, as in a list over REST, and no errors.

    A caller that gives up ends its wait and not the decision, as one that closes its connection over REST.
    """

    def __init__(self, predicting: Predicting, state: Callable[[str | None, str | None], StateAnswer]) -> None:
        self._predicting = predicting
        self._state = state
        self._under_way: dict[asyncio.Task[bytes], None] = {}

    def handlers(self, methods: Methods) -> dict[str, Any]:
        """The service's methods."""
        return {
            "Predict": methods.unary("Predict", self._predict, protobuf.PredictRequest),
            "State": methods.unary("State", self._told, protobuf.StateRequest),
        }

    async def close(self) -> None:
        """Wait for the decisions whose callers have gone."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def _predict(self, message: Any, received: int, remaining: int | None) -> Any:
        if remaining == 0:
            raise error(Problem.DEADLINE_EXCEEDED, "the call's time was over when it came")
        task = asyncio.get_running_loop().create_task(self._predicting.answer(message.json, received, remaining))
        self._under_way[task] = None
        task.add_done_callback(self._ended)
        return protobuf.PredictReply(json=await asyncio.shield(task))

    async def _told(self, message: Any, received: int, remaining: int | None) -> Any:
        answer = self._state(message.symbol or None, message.route or None)
        return protobuf.StateReply(json=msgspec.json.encode(answer))

    def _ended(self, task: asyncio.Task[bytes]) -> None:
        del self._under_way[task]
        if not task.cancelled():
            task.exception()  # seen: where its caller has gone, nobody else looks
