"""A track's endpoints as one: which digest they serve, and which of them is asked."""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from signalyard.problems import ModelError, Problem
from signalyard.profile import ModelCard
from signalyard_router.adapters.oip.errors import ConnectError
from signalyard_router.adapters.oip.metrics import OipMetrics
from signalyard_router.adapters.oip.peer import TOO_SLOW, Peer
from signalyard_router.adapters.oip.request import Answer, Request
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.ports import CallFailed, Clock, Try
from signalyard_router.rules.breaker import BreakerState
from signalyard_router.rules.chunks import rows_together, rows_within
from signalyard_router.rules.latency import Recent, RowTime, Sharing
from signalyard_router.rules.retries import RetryBudget
from signalyard_router.rules.route import Target
from signalyard_router.rules.serving import Identity, in_force

Made = TypeVar("Made")

_log = logging.getLogger("signalyard.router.oip")


class Group:
    """The peers of one target. ``card`` is of what they serve now, None while nothing has been learnt."""

    def __init__(
        self,
        target: Target,
        peers: Sequence[Peer],
        in_use: Identity | None,
        clock: Clock,
        settings: OipSettings,
        metrics: OipMetrics,
    ) -> None:
        self._now = clock.monotonic
        self._settings = settings
        self._cutovers = metrics.cutovers.labels(target.model, target.version)
        self._exhausted = metrics.exhausted.labels(target.model, target.version)
        self._retries = RetryBudget(settings.retry_ratio, settings.retry_burst)
        self._recent = Recent()
        self._row_time = RowTime()
        self._sharing = Sharing(settings.share_nanoseconds, settings.chunk_rows)
        self._columns: tuple[ModelCard, tuple[str, ...]] | None = None
        self._turn = 0
        self.target = target
        self.peers = tuple(peers)
        self.in_use = in_use
        self.card: ModelCard | None = None
        self.review()

    def review(self) -> None:
        """Look at the peers' reports again: is it time to serve another digest?"""
        before = self.in_use
        after = in_force(
            self.target.version, before, [peer.report() for peer in self.peers], self._settings.cutover_share
        )
        if after is None:
            return
        self.in_use = after
        card = next((peer.card for peer in self.peers if peer.card is not None and _identity(peer.card) == after), None)
        if card is not None:
            self.card = card
        if after != before:
            if before is not None:
                self._cutovers.inc()
            _log.log(
                logging.WARNING if after.version != self.target.version else logging.INFO,
                "event=serving model=%s pinned=%s version=%s digest=%s before=%s drift=%s",
                self.target.model,
                self.target.version,
                after.version,
                after.digest,
                json.dumps(str(before) if before else None),
                "true" if after.version != self.target.version else "false",
            )

    def change(self, peers: Sequence[Peer]) -> None:
        """These are its peers from now on. Calls to others end as they end."""
        self.peers = tuple(peers)
        self.review()

    def columns(self, card: ModelCard) -> tuple[str, ...]:
        """The card's features, worked out once as long as it stays in force."""
        if self._columns is None or self._columns[0] is not card:
            self._columns = card, card.schema.names
        return self._columns[1]

    def chunk(self, budget: int) -> int:
        """How many rows a call should carry to be answered within ``budget`` nanoseconds."""
        settings = self._settings
        return rows_within(budget, self._row_time.nanoseconds, settings.chunk_rows, settings.chunk_rows_least)

    def share(self, rows: int) -> int:
        """How many rows a call should carry of ``rows`` that several requests have at once; see `Upstream.share`."""
        return rows_together(rows, len(self.peers), self._sharing.rows)

    async def score(self, request: Request[Answer], made: Callable[[Answer, str, tuple[Try, ...]], Made]) -> Made:
        """Ask one endpoint after the other, as far as time and the retry budget go; ``made`` of the answer, the endpoint that gave it,
        and those asked in vain. Raises CallFailed, and CallerError as `Peer.score` does."""
        self._retries.deposit()
        asked: list[Peer] = []
        tries: list[Try] = []
        while True:
            now = self._now()
            if request.until - now < 1000:
                raise CallFailed(
                    Problem.MODEL_TIMEOUT, "the budget was spent before the request could be sent", tuple(tries)
                )
            peer = self._take(request, asked)
            if peer is None:
                raise self._nobody(request)
            try:
                if self.target.hedge is None or len(self.peers) == 1:
                    scored = await self._ask(peer, request, asked, tries)
                else:
                    peer, scored = await self._hedged(peer, request, asked, tries)
            except ModelError as exc:
                over = exc.problem is Problem.MODEL_TIMEOUT or self._choose(request, asked) is None
                # A refused connection has put no load on anybody, so it is not a second call.
                if over or not (isinstance(exc.__cause__, ConnectError) or self._pay()):
                    raise CallFailed(exc.problem, exc.detail, tuple(tries)) from exc
                peer.metrics.retries.inc()
            else:
                return made(scored, peer.name, tuple(tries))

    async def _ask(self, peer: Peer, request: Request[Answer], asked: Sequence[Peer], tries: list[Try]) -> Answer:
        """Ask one endpoint, and note it in ``tries`` where it fails."""
        started = self._now()
        try:
            scored, elapsed = await peer.score(request)
            if request.rows:
                if self.target.hedge is not None:
                    self._recent.observe(elapsed)
                self._row_time.observe(elapsed, request.rows)
                self._sharing.observe(elapsed, request.rows)
            self._hold_to_digest(peer, scored, asked)
        except ModelError as exc:
            tries.append(Try(peer.name, exc.problem, exc.detail, self._now() - started))
            raise
        return scored

    def _choose(self, request: Request[Answer], asked: Sequence[Peer]) -> Peer | None:
        """The endpoint to ask: one that is due to be tried again, else the one with the least under way, and the longest idle of those."""
        now, most = self._now(), self._settings.max_in_flight
        chosen: Peer | None = None
        for peer in self.peers:
            load = peer.pool.in_flight
            if load >= most or peer in asked or not self._serves(peer, request.card):
                continue
            if peer.breaker.state is not BreakerState.CLOSED:
                if peer.admits(now):
                    return peer
                continue
            if chosen is None or (peer.doubted, load, peer.turn) < (
                chosen.doubted,
                chosen.pool.in_flight,
                chosen.turn,
            ):
                chosen = peer
        return chosen

    def _take(self, request: Request[Answer], asked: list[Peer]) -> Peer | None:
        """Choose an endpoint, and remember that it was asked."""
        peer = self._choose(request, asked)
        if peer is not None:
            self._turn += 1
            peer.turn = self._turn
            asked.append(peer)
        return peer

    def _serves(self, peer: Peer, card: ModelCard) -> bool:
        """Whether the endpoint has what the call is for: the digest in use. One that was never looked at may have it."""
        if peer.identity is None:
            return not peer.asked.is_set()
        if peer.identity.version != card.version:
            return False
        wanted = self.in_use
        if wanted is None or wanted.version != card.version:
            return peer.identity.digest == card.digest
        return peer.identity is wanted or peer.identity == wanted

    def _nobody(self, request: Request[Answer]) -> CallFailed:
        if not self.peers:
            return CallFailed(Problem.MODEL_UNREACHABLE, "no endpoint is there to be asked")
        now = self._now()
        serving = [peer for peer in self.peers if self._serves(peer, request.card)]
        if not serving:
            return CallFailed(Problem.MODEL_UNKNOWN, f"no endpoint serves version {request.card.version} now")
        if any(peer.admits(now) for peer in serving):
            most = self._settings.max_in_flight
            return CallFailed(Problem.MODEL_OVERLOADED, f"each endpoint has {most} calls under way")
        return CallFailed(Problem.MODEL_UNREACHABLE, "every endpoint failed lately and is left alone for now")

    def _hold_to_digest(self, peer: Peer, scored: Answer, asked: Sequence[Peer]) -> None:
        """Refuse an answer under another digest than the one in use, while another endpoint still has that."""
        wanted = self.in_use
        if wanted is None or wanted.version != scored.version or wanted.digest == scored.digest:
            return
        peer.doubt()
        now = self._now()
        if any(
            other.identity == wanted and not other.doubted and other not in asked and other.admits(now)
            for other in self.peers
        ):
            text = f"answered under {scored.digest}, in use is {wanted.digest}"
            raise ModelError(Problem.MODEL_ANSWER_WRONG_VERSION, text)

    def _pay(self) -> bool:
        if self._retries.withdraw():
            return True
        self._exhausted.inc()
        return False

    async def _hedged(
        self, first: Peer, request: Request[Answer], asked: list[Peer], tries: list[Try]
    ) -> tuple[Peer, Answer]:
        """Ask ``first`` and, where it is slower than usual, one more; the first right answer wins, the other call is cancelled."""
        task = asyncio.create_task(self._ask(first, request, asked, tries))
        calls = {task: first}
        try:
            after = self._hedge_after()
            if after is not None:
                await asyncio.wait(calls, timeout=after / 1e9)
                if not task.done() and self._choose(request, asked) is not None and self._pay():
                    second = self._take(request, asked)
                    assert second is not None
                    calls[asyncio.create_task(self._ask(second, request, asked, tries))] = second
            winner = await _first_good(list(calls))
            for call, peer in calls.items():
                if peer is not first:
                    (peer.metrics.hedges_won if call is winner else peer.metrics.hedges_lost).inc()
            if winner is not task:
                task.cancel(TOO_SLOW)
            return calls[winner], winner.result()
        finally:
            for call in calls:
                if not call.cancelling():
                    call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)

    def _hedge_after(self) -> int | None:
        hedge = self.target.hedge
        if hedge is not None and hedge.after is not None:
            return hedge.after
        usual = self._recent.p95
        # a little more, or where all calls take equally long every one of them would be hedged
        return None if usual is None else usual + usual // 8


def _identity(card: ModelCard) -> Identity:
    return Identity(card.version, card.digest)


async def _first_good(calls: list[asyncio.Task[Answer]]) -> asyncio.Task[Answer]:
    """The first of the calls that ends well, or else one that ended last."""
    pending = set(calls)
    ended = calls[0]
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for call in calls:  # in their order, so that a simulation repeats
            if call in done:
                ended = call
                if call.exception() is None:
                    return call
    return ended
