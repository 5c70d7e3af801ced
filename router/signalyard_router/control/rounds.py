"""The rounds that a running router makes: documents that changed, levers whose time is over, plans that go on."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from signalyard_router.control.delivery import Delivery
from signalyard_router.control.documents import Documents
from signalyard_router.ports import RouteStore, Upstream
from signalyard_router.router import Router
from signalyard_router.rules.route import Route

_ROUTES_AT_ONCE = 8
"""Routes that are prepared between two turns of the loop, so that hundreds of them hold up no decision."""
_MEETING_SECONDS = 2.0
"""How long routes wait for the first look at their model servers: as long as one look may take."""

_log = logging.getLogger("signalyard.router.control")


class Rounds:
    """Looks at everything that changes by itself, every ``interval`` seconds."""

    def __init__(
        self,
        store: RouteStore,
        documents: Documents,
        router: Router,
        upstream: Upstream,
        delivery: Delivery,
        interval: float = 0.2,
    ) -> None:
        self._store = store
        self._documents = documents
        self._router = router
        self._upstream = upstream
        self._delivery = delivery
        self._interval = interval
        self._seen = store.version()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def look(self) -> None:
        """One look."""
        version = self._store.version()
        if version != self._seen:
            routes = await self._documents.again(self._meet)
            # Only now: what changed while it was read is looked at again. A journal that was away is tried again, too.
            if routes is not None or not self._documents.retryable:
                self._seen = version
            if routes is not None:
                for place, route in enumerate(routes, start=1):
                    self._router.prepare(route)
                    if place % _ROUTES_AT_ONCE == 0:
                        await asyncio.sleep(0)
                self._router.take(routes)
                self._router.asked()
                self._upstream.retarget(self._router.table.targets())
                _log.info("event=documents_taken routes=%d", len(routes))
        self._router.refresh_if_lapsed()
        await self._delivery.look()

    def heard(self, routes: Sequence[Route] | None) -> None:
        """Another replica recorded something: levers or steps of plans, and with ``routes`` documents that are in force as they are.

        At once: what the old routes decide is superseded, and a lever that somebody pulled there holds here as well.
        """
        if routes is None:
            self._router.refresh()
            return
        self._documents.adopt()
        self._router.take(routes)
        self._router.asked()
        self._upstream.retarget(self._router.table.targets())
        _log.info("event=documents_adopted routes=%d", len(routes))

    async def _meet(self, routes: Sequence[Route]) -> None:
        """Look at the model servers of routes that are to come while the old ones still decide: a version of which nothing is known yet
        answers nobody."""
        new = [target for route in routes for target in route.targets()]
        self._upstream.retarget([*self._router.table.targets(), *new])
        # Whoever does not answer in time must not hold the other routes up.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MEETING_SECONDS):
                await self._upstream.asked(dict.fromkeys(target for route in routes for target in route.live_targets()))

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 -- whatever a look meets, the next one must come
                _log.exception("event=look_failed")
