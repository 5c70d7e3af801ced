"""What is known of the models: their cards, learnt from the endpoints that serve them."""

import asyncio
import json
import logging
from collections.abc import Iterable

from signalyard.problems import ModelError
from signalyard.profile import ModelCard, decode_metadata
from signalyard_router.adapters.oip.errors import WireError, problem_of
from signalyard_router.adapters.oip.metrics import OK, OipMetrics
from signalyard_router.adapters.oip.pools import Pools
from signalyard_router.adapters.oip.request import endpoint_of, metadata_request
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.ports import World
from signalyard_router.rules.route import Target

_log = logging.getLogger("signalyard.router.oip")


class _Watch:
    """The looks at one target: at most one runs, or else one is due."""

    __slots__ = ("due", "ended", "head", "problem", "target", "task", "timer")

    def __init__(self, target: Target) -> None:
        self.target = target
        self.head = metadata_request(target)
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None
        self.due = 0.0
        self.ended = 0
        self.problem: str | None = None

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if self.task is not None:
            self.task.cancel()


class Prober:
    """Asks each target for its model's metadata: at once, then until it is known, then from time to time.

    A card outlives failed looks and even its target, since requests that hold an older routing table still ask for it: the
    schema of a version does not change. It is replaced when the endpoint answers with another one.
    """

    def __init__(self, world: World, settings: OipSettings, pools: Pools, metrics: OipMetrics) -> None:
        self._now = world.clock.monotonic
        self._pools = pools
        self._metrics = metrics
        self._probe_ns = int(settings.probe_seconds * 1e9)
        self._retry = settings.probe_retry_seconds
        self._refresh = settings.probe_refresh_seconds
        self._cards: dict[Target, ModelCard] = {}
        self._watches: dict[Target, _Watch] = {}
        self._untried: set[Target] = set()
        self.first_round = asyncio.Event()

    def card(self, target: Target) -> ModelCard | None:
        """The card of the target's version, or None while it has not been learnt."""
        return self._cards.get(target)

    def start(self, targets: Iterable[Target]) -> None:
        """Look at all targets now; ``first_round`` is set when each was tried once."""
        wanted = list(targets)
        self._untried = set(wanted)
        self.retarget(wanted)
        if not self._untried:
            self.first_round.set()

    def retarget(self, targets: Iterable[Target]) -> None:
        """Look at these targets from now on; at those that are new, at once."""
        wanted = dict.fromkeys(targets)
        for target in [target for target in self._watches if target not in wanted]:
            self._watches.pop(target).stop()
            self._tried(target)
        for target in wanted:
            if target not in self._watches:
                watch = self._watches[target] = _Watch(target)
                self._begin(watch)

    def answered(self, target: Target, digest: str) -> None:
        """A scoring call was answered under ``digest``; where the card says another, look again soon."""
        card = self._cards.get(target)
        if card is None or card.digest == digest:
            return
        watch = self._watches.get(target)
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
        target = watch.target

        def read(body: bytes) -> ModelCard:
            return decode_metadata(body, model=target.model, version=target.version)

        try:
            until = self._now() + self._probe_ns
            card = await self._pools.of(target).call(watch.head, b"", until, read)
        except WireError as exc:
            self._failed(watch, problem_of(exc))
        except ModelError as exc:
            self._failed(watch, exc)
        else:
            self._learnt(watch, card)
        finally:
            watch.task = None
            watch.ended = self._now()
            if self._watches.get(target) is watch:  # else it was stopped
                self._schedule(watch, self._refresh if target in self._cards else self._retry)
                self._tried(target)

    def _learnt(self, watch: _Watch, card: ModelCard) -> None:
        target = watch.target
        self._metrics.of(target).probed(OK)
        before = self._cards.get(target)
        self._cards[target] = card
        if before != card or watch.problem is not None:
            event = "model_known" if before is None or before == card else "model_changed"
            _log.info(
                "event=%s %s digest=%s calibrated=%s features=%d",
                event,
                _place(target),
                card.digest,
                "true" if card.calibrated else "false",
                len(card.schema.features),
            )
        watch.problem = None

    def _failed(self, watch: _Watch, problem: ModelError) -> None:
        target = watch.target
        self._metrics.of(target).probed(problem.problem)
        if watch.problem != problem.problem:
            watch.problem = problem.problem
            known = "true" if target in self._cards else "false"
            detail = json.dumps(problem.detail)
            _log.warning(
                "event=probe_failed %s problem=%s known=%s detail=%s", _place(target), problem.problem, known, detail
            )

    def _tried(self, target: Target) -> None:
        if target in self._untried:
            self._untried.remove(target)
            if not self._untried:
                self.first_round.set()


def _place(target: Target) -> str:
    return f"model={target.model} version={target.version} endpoint={endpoint_of(target)}"
