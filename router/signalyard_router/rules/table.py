"""The routing table: immutable; a change builds a new one, and a request keeps the one it started with."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from signalyard.problems import Problem, error
from signalyard.wire import split_instrument
from signalyard.words import Track
from signalyard_router.rules.documents import RouteDocument
from signalyard_router.rules.route import Route, Target
from signalyard_router.rules.split import assign

_CACHED = 65_536
"""Instruments whose routes are kept; beyond it the cache starts anew, so that made-up names cannot fill the memory."""


class Table:
    """Which routes serve an instrument, and which track decides there. Its caches are all that ever changes in it."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes: dict[str, Route] = {route.name: route for route in routes}
        self._matches: dict[str, tuple[Route, ...]] = {}
        self._tracks: dict[tuple[str, str], Track] = {}

    def match(self, instrument: str, route: str | None) -> tuple[Route, ...]:
        """The routes of a snapshot: the one that it names, or all that serve its instrument, in order of their names.

        Raises CallerError: invalid_instrument, unknown_route where the named one does not exist or does not serve the instrument, no_route where
        none does.
        """
        matches = self._matches.get(instrument)
        if matches is None:
            split_instrument(instrument)
            if len(self._matches) >= _CACHED:
                self._matches.clear()
            matches = tuple(
                self.routes[name]
                for name in sorted(self.routes)
                if any(fnmatchcase(instrument, pattern) for pattern in self.routes[name].instruments)
            )
            self._matches[instrument] = matches
        if route is None:
            if not matches:
                raise error(Problem.NO_ROUTE, f"no route serves {instrument!r}", "/symbol")
            return matches
        for candidate in matches:
            if candidate.name == route:
                return (candidate,)
        if route in self.routes:
            patterns = ", ".join(self.routes[route].instruments)
            raise error(Problem.UNKNOWN_ROUTE, f"the route {route!r} serves {patterns}, not {instrument!r}", "/route")
        raise error(Problem.UNKNOWN_ROUTE, f"there is no route named {route!r}", "/route")

    def track(self, route: Route, instrument: str) -> Track:
        """The track that decides for an instrument."""
        key = (route.name, instrument)
        track = self._tracks.get(key)
        if track is None:
            if len(self._tracks) >= _CACHED:
                self._tracks.clear()
            track = self._tracks[key] = assign(route.model, instrument, route.weights, route.pin)
        return track

    def assignment(self, route: Route) -> dict[str, Track]:
        """The instruments that have been seen on a route, and the track of each."""
        return {symbol: track for (name, symbol), track in sorted(self._tracks.items()) if name == route.name}

    def targets(self) -> list[Target]:
        """Every target that some route may call, once each."""
        return list(dict.fromkeys(target for route in self.routes.values() for target in route.targets()))


def refuse_repeated_names(documents: Iterable[tuple[RouteDocument, str]]) -> None:
    """Raise CallerError (invalid_document) where two documents carry one name; each comes with its place."""
    places: dict[str, str] = {}
    for document, place in documents:
        name = document.metadata.name
        if name in places:
            raise error(
                Problem.INVALID_DOCUMENT,
                f"{place}: the route {name!r} is defined in {places[name]} already; give one of them another name",
                "/metadata/name",
            )
        places[name] = place
