"""The models of the routes as the Open Inference Protocol describes them."""

from collections.abc import Callable

import msgspec

from signalyard.oip import ModelMetadata
from signalyard.problems import Problem, error
from signalyard.profile import metadata
from signalyard_router.ports import Upstream
from signalyard_router.rules.breaker import BreakerState
from signalyard_router.rules.calling import routes_of, versions
from signalyard_router.rules.route import Route, TrackRung
from signalyard_router.rules.table import Table

PLATFORM = "signalyard_router"


class Catalogue:
    """What may be called, by the routing table in force and what the model servers say of themselves."""

    def __init__(self, table: Callable[[], Table], upstream: Upstream) -> None:
        self._table = table
        self._upstream = upstream

    def metadata(self, model: str, version: str | None) -> ModelMetadata:
        """A model's inputs and outputs, by the version or, where none is given, by the stable one; and all versions that may be asked for.

        Raises CallerError (unknown_model); RouterError (not_ready) while nothing is known of the version.
        """
        rungs = self._rungs(model, version)
        routes = routes_of(model, self._table())
        known = list(dict.fromkeys(name for route in routes for name in versions(route)))
        for rung in rungs:
            card = self._upstream.card(rung.target)
            if card is not None:
                return msgspec.structs.replace(metadata(card, PLATFORM), versions=known)
        raise error(Problem.NOT_READY, f"no endpoint of {model!r} has said yet what it serves")

    def ready(self, model: str, version: str | None) -> bool:
        """Whether a call would find somebody to answer it. Raises CallerError (unknown_model)."""
        return any(
            endpoint.ready and endpoint.breaker is not BreakerState.OPEN
            for rung in self._rungs(model, version)
            for endpoint in self._upstream.endpoints(rung.target)
        )

    def _rungs(self, model: str, version: str | None) -> list[TrackRung]:
        routes = routes_of(model, self._table())
        if version is None:
            return [rung for route in routes for rung in _rungs(route)]
        found = [rung for route in routes if (rung := route.rung_of(version)) is not None]
        if not found:
            known = ", ".join(sorted({name for route in routes for name in versions(route)}))
            raise error(Problem.UNKNOWN_MODEL, f"no track of {model!r} has version {version!r}; there are {known}")
        return found


def _rungs(route: Route) -> tuple[TrackRung, ...]:
    return (*route.tracks.values(), *route.standbys)
