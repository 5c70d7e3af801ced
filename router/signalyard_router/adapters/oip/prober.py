"""Learning what the endpoints serve: looks at their models' metadata."""

import asyncio
import json
import logging
from collections.abc import Iterable

from signalyard.problems import ModelError
from signalyard.profile import ModelCard
from signalyard_router.adapters.oip.errors import ConnectError, StatusError, WireError, problem_of
from signalyard_router.adapters.oip.metrics import OK
from signalyard_router.adapters.oip.peer import Peer
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.ports import World

_log = logging.getLogger("signalyard.router.oip")


_GOLDEN = 0.6180339887498949
"""The golden ratio's fractional part: multiples of it spread any number of looks over the interval, with no randomness."""


class _Watch:
    """The looks at one peer: at most one runs, or else one is due."""

    __slots__ = ("due", "ended", "peer", "phase", "task", "timer")

    def __init__(self, peer: Peer, phase: float) -> None:
        self.peer = peer
        self.phase = phase
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.due = 0.0
        self.ended = 0

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.task is not None:
            self.task.cancel()


class Prober:
    """Asks each peer for the metadata of its version: at once, then until it is known, then from time to time.

    Where the endpoint has not got the version, it is asked which one it has: while pods roll, that is what a track may go on
    with. The first looks are all made at once, later ones are spread over the interval.
    """

    def __init__(self, world: World, settings: OipSettings) -> None:
        self._now = world.clock.monotonic
        self._probe_ns = int(settings.probe_seconds * 1e9)
        self._retry = settings.probe_retry_seconds
        self._refresh = settings.probe_refresh_seconds
        self._watches: dict[Peer, _Watch] = {}
        self._untried: set[Peer] = set()
        self._begun = 0
        self.first_round = asyncio.Event()

    def start(self, peers: Iterable[Peer]) -> None:
        """Look at all of them now; ``first_round`` is set when each was tried once."""
        wanted = list(peers)
        self._untried = set(wanted)
        self.retarget(wanted)
        if not self._untried:
            self.first_round.set()

    def retarget(self, peers: Iterable[Peer]) -> None:
        """Look at these from now on; at those that are new, at once."""
        wanted = dict.fromkeys(peers)
        for peer in [peer for peer in self._watches if peer not in wanted]:
            self._watches.pop(peer).stop()
            self._tried(peer)
        for peer in wanted:
            if peer not in self._watches:
                watch = self._watches[peer] = _Watch(peer, 1.0 - self._begun * _GOLDEN % 1.0)
                self._begun += 1
                self._begin(watch)

    def soon(self, peer: Peer) -> None:
        """Something happened that a look would explain; the least pause between two looks is kept."""
        watch = self._watches.get(peer)
        if watch is not None and watch.task is None:
            rested = (self._now() - watch.ended) / 1e9
            self._schedule(watch, max(0.0, self._retry - rested))

    async def close(self) -> None:
        """Stop looking."""
        tasks = [watch.task for watch in self._watches.values() if watch.task is not None]
        for watch in self._watches.values():
            watch.stop()
        self._watches.clear()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _schedule(self, watch: _Watch, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if watch.timer is not None:
            if watch.due <= due:
                return
            watch.timer.cancel()
        watch.due = due
        watch.timer = loop.call_later(seconds, self._begin, watch)

    def _begin(self, watch: _Watch) -> None:
        watch.timer = None
        watch.task = asyncio.get_running_loop().create_task(self._probe(watch))

    async def _probe(self, watch: _Watch) -> None:
        peer = watch.peer
        try:
            card = await self._look(peer, self._now() + self._probe_ns)
        except WireError as exc:
            self._failed(watch, problem_of(exc), refused=isinstance(exc, ConnectError))
        except ModelError as exc:
            self._failed(watch, exc, refused=False)
        else:
            self._learnt(watch, card)
        finally:
            watch.task = None
            watch.ended = self._now()
            if self._watches.get(peer) is watch:  # else it was stopped
                pause = self._refresh if peer.problem is None else self._retry
                self._schedule(watch, pause * watch.phase)
                watch.phase = 1.0
                self._tried(peer)

    async def _look(self, peer: Peer, until: int) -> ModelCard:
        try:
            return await peer.look(peer.key.version, until)
        except StatusError as exc:
            if exc.status != 404:
                raise
        return await peer.look(None, until)

    def _learnt(self, watch: _Watch, card: ModelCard) -> None:
        peer = watch.peer
        peer.metrics.probed(OK)
        if peer.card is None or peer.problem is not None:
            _log.info(
                "event=model_known %s serves=%s digest=%s calibrated=%s features=%d",
                _place(peer),
                card.version,
                card.digest,
                "true" if card.calibrated else "false",
                len(card.schema.features),
            )
        peer.learnt(card)

    def _failed(self, watch: _Watch, problem: ModelError, *, refused: bool) -> None:
        peer = watch.peer
        peer.metrics.probed(problem.problem)
        if peer.problem != problem.problem:
            known = "true" if peer.card is not None else "false"
            detail = json.dumps(problem.detail)
            _log.warning(
                "event=probe_failed %s problem=%s known=%s detail=%s", _place(peer), problem.problem, known, detail
            )
        peer.missed(problem.problem, refused=refused)

    def _tried(self, peer: Peer) -> None:
        peer.asked.set()
        if peer in self._untried:
            self._untried.remove(peer)
            if not self._untried:
                self.first_round.set()


def _place(peer: Peer) -> str:
    return f"model={peer.key.model} version={peer.key.version} endpoint={peer.name}"
