"""A fake of the model servers, for tests of routes and of strategies that use the router in process."""

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from signalyard.problems import Problem
from signalyard.profile import FeatureSchema, ModelCard, ScoredRows
from signalyard_router.ports import CallFailed, EndpointStatus, Passed, Scored, Try
from signalyard_router.rules.breaker import BreakerState
from signalyard_router.rules.inference import Inference, Inferred
from signalyard_router.rules.route import Target
from signalyard_router.rules.tensors import Tensor

ScoreFunction = Callable[[dict[str, float | None]], float]


class FakeUpstream:
    """Implements `ports.Upstream`: every version answers ``function(row as a dict)``, or as ``fail`` says.

    ``fail[version]`` is a problem to raise, or ``"hang"`` until `release`; ``script`` says it of the next calls, one entry each, None
    for an answer. ``drift[version]`` is what its endpoints have instead. ``calls`` lists what was asked: (version, number of rows).
    """

    def __init__(
        self,
        schema: FeatureSchema,
        function: ScoreFunction,
        *,
        confidence: Callable[[float], float] | None = lambda score: max(score, 1.0 - score),
    ) -> None:
        self.schema = schema
        self.function = function
        self.confidence = confidence
        self.fail: dict[str, Problem | str] = {}
        self.unknown: set[str] = set()
        self.row_errors: dict[int, str] = {}
        self.calls: list[tuple[str, int]] = []
        self._hung: list[asyncio.Future[None]] = []
        self.script: deque[Problem | str | None] = deque()
        self.drift: dict[str, str] = {}
        self.chunk_rows = 256
        self.share_rows = 1
        self._cards: dict[tuple[str, str], ModelCard] = {}

    async def asked(self, targets: Iterable[Target]) -> None:
        """At once."""

    def card(self, target: Target) -> ModelCard | None:
        if target.version in self.unknown:
            return None
        version = self.drift.get(target.version, target.version)
        card = self._cards.get((target.model, version))
        if card is None:
            card = self._cards[target.model, version] = ModelCard(
                model=target.model,
                version=version,
                digest=f"sha256:{version:0>64}",
                calibrated=self.confidence is not None,
                schema=self.schema,
            )
        return card

    def release(self) -> None:
        """Answer every call that hangs."""
        for hung in self._hung:
            if not hung.done():
                hung.set_result(None)
        self._hung.clear()

    def retarget(self, targets: Iterable[Target]) -> None:
        """Every target is served anyway."""

    def chunk(self, target: Target, budget: int) -> int:
        return self.chunk_rows

    def share(self, target: Target, rows: int) -> int:
        return self.share_rows

    def endpoints(self, target: Target) -> list[EndpointStatus]:
        card = self.card(target)
        return [
            EndpointStatus(
                endpoint=str(endpoint),
                breaker=BreakerState.CLOSED,
                in_flight=0,
                ready=card is not None,
                version=card.version if card else None,
                digest=card.digest if card else None,
                problem=None,
            )
            for endpoint in target.endpoints
        ]

    async def score(
        self, target: Target, card: ModelCard, rows: Sequence[Sequence[float | None]], until: int
    ) -> Scored:
        endpoint = await self._called(target, card, len(rows))
        columns = card.schema.names
        scores: list[float | None] = [self.function(dict(zip(columns, row, strict=True))) for row in rows]
        errors = [self.row_errors.get(index, "") for index in range(len(rows))]
        confidence = None
        if self.confidence is not None:
            confidence = [None if score is None else self.confidence(score) for score in scores]
        answer = ScoredRows(
            model=card.model,
            version=card.version,
            digest=card.digest,
            score=[None if text else score for score, text in zip(scores, errors, strict=True)],
            confidence=confidence,
            row_error=errors,
        )
        return Scored(answer, endpoint)

    async def infer(self, target: Target, card: ModelCard, asked: Inference, until: int) -> Passed:
        """The scores of its first input, whose columns are the schema's, as the output ``score``."""
        (count, _), columns = asked.inputs[0].shape, card.schema.names
        endpoint = await self._called(target, card, count)
        flat = asked.inputs[0].as_packed()
        rows = struct.iter_unpack(f"<{len(columns)}d", flat)
        scores = [self.function(dict(zip(columns, row, strict=True))) for row in rows]
        output = Tensor(name="score", datatype="FP64", shape=(count,), packed=struct.pack(f"<{count}d", *scores))
        answer = Inferred(model=card.model, version=card.version, digest=card.digest, outputs=(output,))
        return Passed(answer, endpoint)

    async def _called(self, target: Target, card: ModelCard, rows: int) -> str:
        """The endpoint that answers a call, once it does."""
        self.calls.append((card.version, rows))
        endpoint = str(target.endpoints[0])
        failure = self.fail.get(card.version)
        if self.script:
            failure = self.script.popleft()
        if failure == "hang":
            # On whatever clock the loop runs; the caller's `until` is kept by the real adapter, here by never answering.
            self._hung.append(asyncio.get_running_loop().create_future())
            await self._hung[-1]
            failure = None
        if failure is not None:
            problem, text = Problem(failure), "the fake was told to fail"
            raise CallFailed(problem, text, (Try(endpoint, problem, text, 0),))
        return endpoint
