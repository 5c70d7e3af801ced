"""From what came over Redis to the router and back."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from signalyard.problems import Problem, RouterError, error
from signalyard.wire import Decision, StateAnswer
from signalyard.words import Outcome, Reason
from signalyard_router.adapters.redis.entries import Kind, Request
from signalyard_router.ports import Clock
from signalyard_router.wire.predicting import Decider, Predicting
from signalyard_router.wire.reading import Batch
from signalyard_router.wire.writing import decisions_body

_LATER = frozenset({Problem.OVERLOADED, Problem.DRAINING})
"""What a router says that will take the same request later."""


class Deciding(Decider, Protocol):
    """The router, as the wires over Redis see it."""

    def state(self, symbol: str | None = None, route: str | None = None) -> StateAnswer:
        """What each route last said of each instrument."""
        ...


class StateQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of an entry of the kind ``state``."""

    symbol: str | None = None
    route: str | None = None


class Work(NamedTuple):
    """A request that was read: the rows of a prediction, or a question for the state."""

    asked: Batch | StateQuery
    symbols: tuple[str, ...]
    remaining: int | None


class Answering:
    """Answers requests; ``max_rows`` is how many snapshots one may hold."""

    def __init__(self, router: Deciding, clock: Clock, max_rows: int) -> None:
        self._router = router
        self._clock = clock
        self._predicting = Predicting(router, max_rows)
        self._query = msgspec.json.Decoder(StateQuery)

    def read(self, request: Request) -> Work:
        """What is to be done. Raises CallerError: malformed_body, too_many_rows, invalid_request."""
        if request.kind is Kind.STATE:
            try:
                return Work(self._query.decode(request.body), (), request.remaining)
            except msgspec.ValidationError as exc:
                raise error(
                    Problem.INVALID_REQUEST, f"a question for the state has symbol and route: {exc}", "/body"
                ) from exc
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
                raise error(Problem.MALFORMED_BODY, str(exc), "/body") from exc
        batch = self._predicting.read(request.body)
        return Work(batch, tuple([row.symbol for row in batch.rows]), request.remaining)

    async def answer(self, work: Work) -> bytes | None:
        """The answer as JSON, or None where the journal does not surely have it, so that the same must be done again.

        Its budget begins now: until its turn came, it was the stream that kept it.
        """
        asked = work.asked
        if isinstance(asked, StateQuery):
            return msgspec.json.encode(self._router.state(asked.symbol, asked.route))
        try:
            decisions = await self._predicting.decide(asked, self._clock.monotonic(), work.remaining)
        except RouterError as exc:
            if exc.problem in _LATER:
                return None
            raise
        return decisions_body(decisions, alone=asked.alone) if _recorded(decisions) else None


def _recorded(decisions: Sequence[Decision]) -> bool:
    return not any(
        decision.outcome is Outcome.UNKNOWN or decision.reason is Reason.JOURNAL_UNAVAILABLE for decision in decisions
    )
