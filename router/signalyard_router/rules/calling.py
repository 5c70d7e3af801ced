"""Where a call that is passed through goes: a route of its model, and the rungs that may answer it."""

from collections.abc import Callable

import msgspec

from signalyard.problems import Problem, SignalyardError, error
from signalyard_router.rules.inference import ROUTE, SYMBOL, Inference
from signalyard_router.rules.route import LadderRung, Route, TrackRung
from signalyard_router.rules.split import SLOTS, assign
from signalyard_router.rules.table import Table


class Choice(msgspec.Struct, frozen=True):
    """``rungs`` in the order in which they are asked; ``mirror`` a number below 10,000 by which shadows take their share."""

    route: Route
    rungs: tuple[LadderRung, ...]
    mirror: int

    @property
    def assigned(self) -> str:
        """The version that is to answer."""
        first = self.rungs[0]
        assert isinstance(first, TrackRung), "the first rung is a track's"
        return first.target.version


def choose(
    asked: Inference, table: Table, owner: Callable[[str, str], str | None], random: Callable[[int], bytes]
) -> Choice:
    """The route and the rungs of a call.

    A call that names an instrument goes where the instrument's snapshots go; one that does not is split by its id, and one
    without an id at random. Of several routes with the model the first by name has it, unless the call names one. A call that
    names a version gets that one or no answer. ``owner`` is `ports.Journal.owner`.

    Raises CallerError: unknown_model, unknown_route, no_route, invalid_instrument, invalid_inference.
    """
    routes = _routes(asked, table)
    mirror = int.from_bytes(random(4), "big") % SLOTS
    if asked.version is not None:
        for route in routes:
            rung = route.rung_of(asked.version)
            if rung is not None:
                return Choice(route, (rung,), mirror)
        known = ", ".join(sorted({version for route in routes for version in versions(route)}))
        text = f"no track of {routes[0].name!r} has version {asked.version!r}; there are {known}"
        raise error(Problem.UNKNOWN_MODEL, text)
    route, symbol = routes[0], asked.text(SYMBOL)
    if symbol is not None:
        first = table.rung(route, symbol, owner(route.name, symbol))
    else:
        first = route.rung(assign(route.model, asked.id or random(8).hex(), route.weights, {}))
    return Choice(route, (first, *(rung for rung in route.ladder if rung != first)), mirror)


def versions(route: Route) -> list[str]:
    """The versions that may be asked for on a route, the stable one first."""
    return [rung.target.version for rung in (*route.tracks.values(), *route.standbys)]


def routes_of(model: str, table: Table) -> list[Route]:
    """The routes of a model, in order of their names. Raises CallerError: unknown_model."""
    found = [route for _, route in sorted(table.routes.items()) if route.model == model]
    if not found:
        raise error(Problem.UNKNOWN_MODEL, f"no route has the model {model!r}")
    return found


def _routes(asked: Inference, table: Table) -> list[Route]:
    found = routes_of(asked.model, table)
    name, symbol = asked.text(ROUTE), asked.text(SYMBOL)
    if symbol is not None:
        try:
            serving = table.match(symbol, name)
        except SignalyardError as exc:
            raise error(exc.problem, exc.detail, f"/parameters{exc.pointer}") from exc
        found = [route for route in found if route in serving]
        if not found:
            text = f"no route of the model {asked.model!r} serves {symbol!r}"
            raise error(Problem.NO_ROUTE, text, f"/parameters/{SYMBOL}")
    elif name is not None:
        found = [route for route in found if route.name == name]
        if not found:
            text = f"no route of the model {asked.model!r} is named {name!r}"
            raise error(Problem.UNKNOWN_ROUTE, text, f"/parameters/{ROUTE}")
    return found
