"""Copies of inference calls for shadows, on a budget of their own. Nothing here is awaited by a call."""

import asyncio
import logging

from signalyard.problems import SignalyardError
from signalyard_router.flow.call_metrics import CallMetrics, Copied
from signalyard_router.ports import Clock, Upstream
from signalyard_router.rules.inference import Inference, digest_of
from signalyard_router.rules.route import Route, ShadowRung
from signalyard_router.rules.tensors import TensorError

_log = logging.getLogger("signalyard.router.shadow")


class Copies:
    """Sends copies, as many at once to a shadow as its route says, and compares the answers; what is over that is dropped and counted."""

    def __init__(self, upstream: Upstream, clock: Clock, metrics: CallMetrics) -> None:
        self._upstream = upstream
        self._clock = clock
        self._metrics = metrics
        self._under_way: dict[tuple[str, str], int] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}

    def send(self, route: Route, mirror: int, asked: Inference, output: str) -> None:
        """Copy a call that was answered with ``output`` (`rules.inference.digest_of`) to each shadow whose share ``mirror`` falls in."""
        for rung in route.shadows:
            if mirror >= rung.mirror:
                continue
            version = rung.target.version
            if self._under_way.get((route.name, version), 0) >= route.shadow.concurrency:
                self._metrics.copied(route.name, version, Copied.DROPPED)
                continue
            task = asyncio.get_running_loop().create_task(self._copy(route, rung, asked, output))
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)

    async def close(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _copy(self, route: Route, rung: ShadowRung, asked: Inference, output: str) -> None:
        key = (route.name, rung.target.version)
        self._under_way[key] = self._under_way.get(key, 0) + 1
        try:
            result = await self._compare(route, rung, asked, output)
        except Exception:  # noqa: BLE001 -- nobody awaits it; it is logged and counted
            _log.exception("event=copy_failed route=%s version=%s", *key)
            result = Copied.FAILED
        finally:
            self._under_way[key] -= 1
        self._metrics.copied(*key, result)

    async def _compare(self, route: Route, rung: ShadowRung, asked: Inference, output: str) -> Copied:
        card = self._upstream.card(rung.target)
        if card is None or card.version != rung.target.version:
            return Copied.FAILED
        try:
            until = self._clock.monotonic() + route.shadow.deadline
            passed = await self._upstream.infer(rung.target, card, asked, until)
            same = digest_of(passed.answer.outputs) == output
        except (SignalyardError, TensorError):
            return Copied.FAILED
        return Copied.SAME if same else Copied.DIFFERENT
