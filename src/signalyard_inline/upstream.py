"""The model servers, as the router's flow sees them, where there are none: bundles in this process."""

import asyncio
import logging
from collections.abc import Iterable, Sequence

from signalyard.problems import Problem, SignalyardError, error
from signalyard.profile import ModelCard
from signalyard_inline.bundles import Bundles
from signalyard_inline.model import ENDPOINT, LoadedModel
from signalyard_router.ports import CallFailed, EndpointStatus, Passed, Scored
from signalyard_router.rules.breaker import BreakerState
from signalyard_router.rules.inference import Inference
from signalyard_router.rules.route import Target

_AGAIN_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 10.0
_LINGER_SECONDS = 60.0
"""How long a bundle stays loaded after the last route that names it: requests under way may be about to ask it."""

_Key = tuple[str, str]
_log = logging.getLogger("signalyard.inline")


class BundleUpstream:
    """Implements :class:`signalyard_router.ports.Upstream`. A document's endpoints say nothing here: a target is its model's version,
    and the folder has its bundle.

    A bundle that is not there, or is bad, is tried again with growing pauses as long as a route names it.
    """

    def __init__(self, bundles: Bundles) -> None:
        self._bundles = bundles
        self._models: dict[_Key, LoadedModel] = {}
        self._errors: dict[_Key, SignalyardError] = {}
        self._wanted: set[_Key] = set()
        self._loading: dict[_Key, asyncio.Task[None]] = {}
        self._tried: dict[_Key, asyncio.Event] = {}

    def card(self, target: Target) -> ModelCard | None:
        model = self._models.get((target.model, target.version))
        return None if model is None else model.card

    def retarget(self, targets: Iterable[Target]) -> None:
        self._wanted = {(target.model, target.version) for target in targets}
        for key in self._wanted - self._models.keys() - self._loading.keys():
            self._tried[key] = asyncio.Event()
            task = self._loading[key] = asyncio.get_running_loop().create_task(self._load(key))
            task.add_done_callback(lambda _, key=key: self._loading.pop(key))  # type: ignore[misc]
        for key in self._models.keys() - self._wanted:
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._forget, key)

    async def asked(self, targets: Iterable[Target]) -> None:
        for target in targets:
            await self._tried[target.model, target.version].wait()

    async def score(
        self, target: Target, card: ModelCard, rows: Sequence[Sequence[float | None]], until: int
    ) -> Scored:
        model = self._models.get((target.model, target.version))
        if model is None or model.card is not card:
            raise CallFailed(Problem.MODEL_UNREACHABLE, "its bundle was taken away")
        return await model.score(rows, until)

    async def infer(self, target: Target, card: ModelCard, asked: Inference, until: int) -> Passed:
        """No call is passed on: no wire leads here, and who has the bundle in his process asks it himself (`signalyard_runtimes.inline`).

        Raises CallerError (invalid_inference).
        """
        raise error(Problem.INVALID_INFERENCE, "a router in process passes no calls on to its models")

    def chunk(self, target: Target, budget: int) -> int:
        model = self._models.get((target.model, target.version))
        return 1 if model is None else model.chunk(budget)

    def share(self, target: Target, rows: int) -> int:
        model = self._models.get((target.model, target.version))
        return 1 if model is None else model.share(rows)

    def endpoints(self, target: Target) -> list[EndpointStatus]:
        key = (target.model, target.version)
        model, wrong = self._models.get(key), self._errors.get(key)
        return [
            EndpointStatus(
                endpoint=ENDPOINT,
                breaker=BreakerState.CLOSED,
                in_flight=0 if model is None else model.in_flight,
                ready=model is not None,
                version=None if model is None else model.card.version,
                digest=None if model is None else model.card.digest,
                problem=None if wrong is None else str(wrong),
            )
        ]

    def refuse(self, targets: Iterable[Target]) -> None:
        """Raise the ModelError of the first of these targets that has no bundle. They have been asked."""
        for target in targets:
            key = (target.model, target.version)
            if key not in self._models:
                raise self._errors.get(key) or error(
                    Problem.INTERNAL, f"loading {target} ended; the log has the reason"
                )

    async def close(self) -> None:
        """Load no more, and let go of every bundle."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for model in self._models.values():
            model.close()
        self._models.clear()

    async def _load(self, key: _Key) -> None:
        pause = _AGAIN_SECONDS
        while key in self._wanted:
            try:
                self._models[key] = await asyncio.to_thread(self._bundles.load, *key)
            except SignalyardError as exc:
                if str(self._errors.get(key)) != str(exc):
                    _log.warning("event=bundle_refused model=%s version=%s problem=%s", *key, exc)
                self._errors[key] = exc
            else:
                self._errors.pop(key, None)
                _log.info("event=bundle_loaded model=%s version=%s", *key)
                return
            finally:
                self._tried[key].set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _forget(self, key: _Key) -> None:
        if key not in self._wanted and (model := self._models.pop(key, None)) is not None:
            model.close()
