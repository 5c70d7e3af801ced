"""A fake of the model servers, for tests of routes and of strategies that use the router in process."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from signalyard.problems import Problem, error
from signalyard.profile import FeatureSchema, ModelCard, ScoredRows
from signalyard_router.rules.route import Target

ScoreFunction = Callable[[dict[str, float | None]], float]


class FakeUpstream:
    """Implements `ports.Upstream`: every version answers ``function(row as a dict)``, or as ``fail`` says.

    ``fail[version]`` is a problem to raise, or ``"hang"`` until `release`. ``calls`` lists what was asked: (version, number of rows).
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
        self._cards: dict[Target, ModelCard] = {}

    def card(self, target: Target) -> ModelCard | None:
        if target.version in self.unknown:
            return None
        card = self._cards.get(target)
        if card is None:
            card = self._cards[target] = ModelCard(
                model=target.model,
                version=target.version,
                digest=f"sha256:{target.version:0>64}",
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

    async def score(
        self, target: Target, columns: tuple[str, ...], rows: Sequence[Sequence[float | None]], until: int
    ) -> ScoredRows:
        self.calls.append((target.version, len(rows)))
        failure = self.fail.get(target.version)
        if failure == "hang":
            # On whatever clock the loop runs; the caller's `until` is kept by the real adapter, here by never answering.
            self._hung.append(asyncio.get_running_loop().create_future())
            await self._hung[-1]
            failure = None
        if failure is not None:
            raise error(Problem(failure), "the fake was told to fail")
        scores: list[float | None] = [self.function(dict(zip(columns, row, strict=True))) for row in rows]
        errors = [self.row_errors.get(index, "") for index in range(len(rows))]
        confidence = None
        if self.confidence is not None:
            confidence = [None if score is None else self.confidence(score) for score in scores]
        return ScoredRows(
            model=target.model,
            version=target.version,
            digest=f"sha256:{target.version:0>64}",
            score=[None if text else score for score, text in zip(scores, errors, strict=True)],
            confidence=confidence,
            row_error=errors,
        )
