"""The router and its models on the event loop of a strategy."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from signalyard._bodies import Snapshots, encode, only
from signalyard.clients import checked
from signalyard.problems import Problem, error
from signalyard.wire import Decision, Snapshot, StateAnswer
from signalyard.words import Outcome
from signalyard_inline.bundles import Bundles
from signalyard_inline.settings import InlineSettings
from signalyard_inline.upstream import BundleUpstream
from signalyard_router.main import Running, running
from signalyard_router.ports import Clock
from signalyard_router.router import Status
from signalyard_router.rules.levers import Lever, Order
from signalyard_router.wire.predicting import Predicting
from signalyard_router.world.real import RealWorld
from signalyard_runtimes.bundle.signature import public_keys


class AsyncInlineRouter:
    """A router in this process, for a strategy on the same event loop; `open_inline` makes one. It is asked and answers as one that is
    asked by HTTP, and its journal is read by the same commands."""

    def __init__(self, running: Running, clock: Clock, max_rows: int) -> None:
        self._router, self._board = running.router, running.board
        self._clock = clock
        self._predicting = Predicting(self._router, max_rows)

    async def decide(self, snapshot: Snapshot, *, deadline: float | None = None) -> Decision:
        """The decision on one snapshot, for instruments that one route serves, or a snapshot that names its route.

        Raises as `predict` does, and SeveralDecisionsError (a CallerError, unknown_route) where several routes decided: their
        decisions stand, and it carries them.
        """
        return only(snapshot, await self.predict(snapshot, deadline=deadline))

    async def predict(self, snapshots: Snapshots, *, deadline: float | None = None) -> list[Decision]:
        """Decisions: one for each row and each route that matches it, in the order of the rows (``Decision.row``).

        ``deadline``: seconds that the caller waits at most; the smaller of it and the route's holds. A single Snapshot that is
        rejected raises CallerError with problem, detail and pointer; among several it is a decision with the outcome
        ``rejected``. Raises RouterError: deadline_exceeded (``deadline`` is not above 0), overloaded, draining.
        """
        return await self.predict_body(encode(snapshots), self._clock.monotonic(), deadline)

    async def predict_body(self, body: bytes, received: int, deadline: float | None) -> list[Decision]:
        """The same for snapshots as JSON; ``received``: since when the caller waits, monotonic nanoseconds."""
        remaining = None if deadline is None else _nanoseconds(deadline)
        decisions, alone = await self._predicting.decisions(body, received, remaining)
        if alone and len(decisions) == 1:
            problem = decisions[0].problem
            if decisions[0].outcome is Outcome.REJECTED and problem is not None:
                raise error(problem.code, problem.detail, problem.pointer)
        return list(decisions)

    def state(self, symbol: str | None = None, route: str | None = None) -> StateAnswer:
        """What the routes last said, of all instruments or ``symbol``, of all routes or ``route``."""
        return self._router.state(symbol, route)

    def status(self) -> Status:
        """The router as it stands, for people."""
        return self._router.status()

    async def pull(self, order: Order) -> Lever:
        """Pull a lever: halt, pause, weight, rollback. Raises CallerError naming the field, RouterError where it is not recorded."""
        return await self._board.pull(order)


@asynccontextmanager
async def open_inline(
    settings: InlineSettings, *, registry: CollectorRegistry | None = None
) -> AsyncIterator[AsyncInlineRouter]:
    """A router and the models of its routes in this process, ready to decide; ``registry`` gets its metrics.

    Documents are watched from then on, and a version that they come to name is loaded before it is asked. Raises SignalyardError where
    documents, folders or the journal are not fit to be used, ModelError where the bundle of a version that a route names is not, or
    was not signed as `InlineSettings.trust` asks.
    """
    world = RealWorld()
    upstream = BundleUpstream(Bundles(settings.models, world.clock, public_keys(settings.trust)))
    try:
        async with running(settings.of_router(), world=world, registry=registry, upstream=upstream) as up:
            targets = up.router.table.targets()
            await upstream.asked(targets)
            upstream.refuse(targets)
            yield AsyncInlineRouter(up, world.clock, settings.max_rows)
    finally:
        await upstream.close()


def _nanoseconds(deadline: float) -> int:
    if deadline <= 0:
        raise error(Problem.DEADLINE_EXCEEDED, "the deadline had passed before the router was asked")
    return int(checked(deadline) * 1e9)
