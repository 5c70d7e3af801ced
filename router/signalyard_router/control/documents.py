"""Documents that change under a running router. What is bad changes nothing, and says so until it is mended."""

import logging
from collections.abc import Awaitable, Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from signalyard.problems import CATALOGUE, CallerError, Problem, RouterError, SignalyardError
from signalyard_router.ports import Journal, RouteStore
from signalyard_router.rules.documents import Document, GroupDocument, RouteDocument
from signalyard_router.rules.groups import refuse_shared_routes
from signalyard_router.rules.route import Route, compile_route

Meet = Callable[[Sequence[Route]], Awaitable[None]]
"""Gets to know the model servers of routes that are about to be taken."""

_log = logging.getLogger("signalyard.router.documents")


class Documents:
    """Takes documents from a store into force.

    ``problem`` says why the store's are not in force, all of them, "" while they are; ``retryable`` whether the same ones may be good
    later. ``known`` is False as long as neither the store nor the journal has said which routes there are.
    """

    def __init__(self, store: RouteStore, journal: Journal, registry: CollectorRegistry) -> None:
        self._store = store
        self._journal = journal
        self._in_force: list[tuple[Document, str]] | None = None
        self.problem = ""
        self.retryable = False
        self.known = False
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
        """The routes to begin with: the store's, or where these are bad or away the last good ones that the journal holds; or none,
        where they are away and the journal is new.

        Raises CallerError (invalid_document, invalid_setting) where the store's are bad and the journal holds none.
        """
        try:
            routes = await self._take()
        except (CallerError, RouterError) as exc:
            away = exc.problem is Problem.ROUTES_UNAVAILABLE
            last_good = self._last_good()
            if not away and (isinstance(exc, RouterError) or not last_good):
                raise
            self._refuse(exc)
            self.known = bool(last_good)
            return await self._journal.accept(last_good)
        self._accept()
        return routes

    async def again(self, meet: Meet) -> list[Route] | None:
        """The routes of the store, or None where they are bad or cannot be recorded: then the last good ones stay.

        ``meet`` is given those that are new or have changed, before they are recorded: from their record on, decisions that are made by
        the old ones are superseded.
        """
        try:
            routes = await self._take(meet)
        except SignalyardError as exc:
            self._refuse(exc)
            return None
        self._accept()
        return routes

    def adopt(self) -> None:
        """Another replica took documents into force; from now on those are the last good ones."""
        self._in_force = self._journal.documents()
        self.known = True

    async def _take(self, meet: Meet | None = None) -> list[Route]:
        """The store's documents, and what was last good where it has only a bad one, taken into force."""
        documents = await self._store.load()
        refused = self._store.refused
        if refused:
            documents += [(document, place) for document, place in self._last_good() if place in refused]
            documents = self._groups_apart(documents)
        if meet is not None:
            known = {document.metadata.name: document for document, _ in _routes(self._last_good())}
            changed = [pair for pair in _routes(documents) if known.get(pair[0].metadata.name) != pair[0]]
            if changed:
                await meet([compile_route(document, place=place) for document, place in changed])
        routes = await self._journal.accept(documents)
        self._in_force = documents
        return routes

    def _groups_apart(self, documents: list[tuple[Document, str]]) -> list[tuple[Document, str]]:
        """The documents, with all groups as they are in force where one that stays as it was shares a route with one that changes.

        To leave either out would let its routes contradict one another; and no group may keep the routes from changing.
        """
        try:
            refuse_shared_routes([(group, place) for group, place in documents if isinstance(group, GroupDocument)])
        except CallerError as exc:
            _log.error('event=groups_refused kept=last_good detail="%s"', exc)
            routes = [item for item in documents if not isinstance(item[0], GroupDocument)]
            return routes + [item for item in self._last_good() if isinstance(item[0], GroupDocument)]
        return documents

    def _last_good(self) -> list[tuple[Document, str]]:
        """What is in force; at the beginning, what was when the journal was written last."""
        if self._in_force is None:
            self._in_force = self._journal.documents()
        return self._in_force

    def _accept(self) -> None:
        self.known = True
        refused = self._store.refused
        if refused:
            self._say("; ".join(refused.values()), retryable=False)
            return
        if self.problem:
            _log.info("event=documents_good")
        self.problem = ""
        self._accepted.inc()
        self._current.set(1)

    def _refuse(self, exc: SignalyardError) -> None:
        self._say(str(exc), retryable=CATALOGUE[exc.problem].retryable)

    def _say(self, problem: str, *, retryable: bool) -> None:
        if problem != self.problem:
            _log.error('event=documents_refused kept=last_good detail="%s"', problem)
        self.problem, self.retryable = problem, retryable
        self._refused.inc()
        self._current.set(0)


def _routes(documents: Sequence[tuple[Document, str]]) -> list[tuple[RouteDocument, str]]:
    return [(document, place) for document, place in documents if isinstance(document, RouteDocument)]
