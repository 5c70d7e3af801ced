"""Documents that change under a running router. What is bad changes nothing, and says so until it is mended."""

import asyncio
import logging

from prometheus_client import CollectorRegistry, Counter, Gauge

from signalyard.problems import CATALOGUE, CallerError, SignalyardError
from signalyard_router.ports import Journal, RouteStore, Upstream
from signalyard_router.router import Router
from signalyard_router.rules.route import Route

_log = logging.getLogger("signalyard.router.documents")


class Documents:
    """Takes documents from a store into force.

    ``problem`` says why the store's are not in force, "" while they are; ``retryable`` whether the same ones may be good later.
    """

    def __init__(self, store: RouteStore, journal: Journal, registry: CollectorRegistry) -> None:
        self._store = store
        self._journal = journal
        self.problem = ""
        self.retryable = False
        loads = Counter(
            "signalyard_documents_loads_total", "Loads of the route documents, by result", ["result"], registry=registry
        )
        self._accepted = loads.labels("accepted")
        self._refused = loads.labels("refused")
        self._current = Gauge(
            "signalyard_documents_current",
            "1 while the documents in force are those of the store, else 0",
            registry=registry,
        )

    async def first(self) -> list[Route]:
        """The routes to begin with: the store's, or where these are bad the last good ones that the journal holds.

        Raises CallerError (invalid_document, invalid_setting) where the journal holds none either.
        """
        try:
            routes = await self._journal.accept(self._store.load())
        except CallerError as exc:
            last_good = self._journal.documents()
            if not last_good:
                raise
            self._refuse(exc)
            return await self._journal.accept([(document, "the journal") for document in last_good])
        self._accept()
        return routes

    async def again(self) -> list[Route] | None:
        """The routes of the store, or None where they are bad or cannot be recorded: then the last good ones stay."""
        try:
            routes = await self._journal.accept(self._store.load())
        except SignalyardError as exc:
            self._refuse(exc)
            return None
        self._accept()
        return routes

    def _accept(self) -> None:
        if self.problem:
            _log.info("event=documents_good")
        self.problem = ""
        self._accepted.inc()
        self._current.set(1)

    def _refuse(self, exc: SignalyardError) -> None:
        self.problem = str(exc)
        self.retryable = CATALOGUE[exc.problem].retryable
        self._refused.inc()
        self._current.set(0)
        _log.error('event=documents_refused kept=last_good detail="%s"', exc)


class Watch:
    """Looks at the store, and at levers that lapse by time, every ``interval`` seconds."""

    def __init__(
        self, store: RouteStore, documents: Documents, router: Router, upstream: Upstream, interval: float = 0.2
    ) -> None:
        self._store = store
        self._documents = documents
        self._router = router
        self._upstream = upstream
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
            routes = await self._documents.again()
            # Only now: what changed while it was read is looked at again. A journal that was away is tried again, too.
            if routes is not None or not self._documents.retryable:
                self._seen = version
            if routes is not None:
                self._router.take(routes)
                self._upstream.retarget(self._router.table.targets())
                _log.info("event=documents_taken routes=%d", len(routes))
        self._router.refresh_if_lapsed()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 -- whatever a look meets, the next one must come
                _log.exception("event=look_failed")
