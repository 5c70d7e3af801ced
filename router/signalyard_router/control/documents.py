"""Documents that change under a running router. What is bad changes nothing, and says so until it is mended."""

import logging

from prometheus_client import CollectorRegistry, Counter, Gauge

from signalyard.problems import CATALOGUE, CallerError, SignalyardError
from signalyard_router.ports import Journal, RouteStore
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
            routes = await self._journal.accept(await self._store.load())
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
            routes = await self._journal.accept(await self._store.load())
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
