"""The routing table: immutable; a change builds a new one, and a request keeps the one it started with."""

from collections.abc import Iterable

from signalyard.problems import Problem, error
from signalyard.wire import split_instrument
from signalyard.words import Track
from signalyard_router.rules.documents import Document
from signalyard_router.rules.patterns import matcher
from signalyard_router.rules.route import Route, Target, TrackRung
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
                if any(matcher(pattern)(instrument) for pattern in self.routes[name].instruments)
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

    def rung(self, route: Route, instrument: str, owner: str | None) -> TrackRung:
        """The rung that decides for an instrument: that of its track, or of the version that holds its open position.

        ``owner`` is that version, None while the instrument is flat. Rule: an instrument changes hands when it is flat,
        unless the route or a rollback says now.
        """
        if owner is not None and not route.handover_now:
            held = route.rung_of(owner)
            if held is not None:
                return held
        return route.rung(self.track(route, instrument))

    def track(self, route: Route, instrument: str) -> Track:
        """The track that the split assigns to an instrument."""
        key = (route.name, instrument)
        track = self._tracks.get(key)
        if track is None:
            if len(self._tracks) >= _CACHED:
                self._tracks.clear()
            track = self._tracks[key] = assign(route.model, instrument, route.weights, route.pin)
        return track

    def seen(self, route: Route) -> set[str]:
        """The instruments that this table has been asked about on a route."""
        return {symbol for name, symbol in self._tracks if name == route.name}

    def targets(self) -> list[Target]:
        """Every target that some route may call, once each."""
        return list(dict.fromkeys(target for route in self.routes.values() for target in route.targets()))

    def live_targets(self) -> list[Target]:
        """Every target whose answer may become a decision, once each."""
        return list(dict.fromkeys(target for route in self.routes.values() for target in route.live_targets()))


def refuse_repeated_names(documents: Iterable[tuple[Document, str]]) -> None:
    """Raise CallerError (invalid_document) where two documents of a kind carry one name; each comes with its place."""
    places: dict[tuple[str, str], str] = {}
    for document, place in documents:
        name = (document.kind, document.metadata.name)
        if name in places:
            noun = {"SignalRoute": "route", "SignalGroup": "group"}[document.kind]
            text = f"the {noun} {name[1]!r} is defined in {places[name]} already; give one of them another name"
            raise error(Problem.INVALID_DOCUMENT, f"{place}: {text}", "/metadata/name")
        places[name] = place
