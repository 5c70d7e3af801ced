"""Levers: operational overrides on routes. The effective route is the document plus the levers that hold.

A halt stops every signal and ends only by a resume that names it. A pause lets exits through, and may expire. A weight or a
rollback moves instruments between tracks, and ends when another one is pulled or when the document's own weights or versions
change. A reset frees a latch.
"""

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from signalyard.problems import Problem, SignalyardError, error
from signalyard.words import Track
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.route import Route
from signalyard_router.rules.split import SLOTS

Action = Literal["halt", "pause", "resume", "weight", "rollback", "end", "reset", "replan"]
Latch = Literal["throttle", "flips"]

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What somebody asks for. ``by`` and ``why`` are never empty.

    ``route`` and ``symbol`` are the scope; without them a halt or a pause holds everywhere. ``lever`` is the id that a resume
    or an end speaks of. ``canary`` is a percentage. ``expires_in`` is nanoseconds. ``proved``: ``by`` was authenticated.
    """

    action: Action
    by: Text
    why: Text
    route: str | None = None
    symbol: str | None = None
    lever: str | None = None
    canary: float | None = None
    version: str | None = None
    latch: Latch | None = None
    expires_in: int | None = None
    proved: bool = False


class Lever(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An order that holds. ``id`` names it; ``base`` is what the document said when it was pulled."""

    id: str
    action: Action
    by: str
    why: str
    at: int
    proved: bool = False
    route: str | None = None
    symbol: str | None = None
    canary: float | None = None
    version: str | None = None
    expires: int | None = None
    base: str = ""

    def covers(self, route: str, symbol: str) -> bool:
        """Whether a halt or a pause is meant for an instrument on a route."""
        return self.route in (None, route) and self.symbol in (None, symbol)

    def expired(self, now: int) -> bool:
        """Whether its time is over."""
        return self.expires is not None and now >= self.expires


def base(route: Route) -> str:
    """What a weight lever stands against: the document's weights, and the versions that carry them. It ends when they change.

    Not the standbys: a promotion adds one while its lever holds all weight on the canary.
    """
    parts = [
        f"{track}:{rung.target.version}={route.weights.get(track, 0)}" for track, rung in sorted(route.tracks.items())
    ]
    return " ".join(parts)


def check(order: Order, routes: dict[str, Route], levers: Iterable[Lever]) -> None:
    """Refuse an order that makes no sense. Raises CallerError (invalid_lever, unknown_route) naming the field."""
    held = {lever.id: lever for lever in levers}
    if order.route is not None and order.route not in routes:
        raise error(Problem.UNKNOWN_ROUTE, f"there is no route named {order.route!r}", "/route")
    if order.expires_in is not None and order.expires_in <= 0:
        raise _refuse("must be more than zero", "/expires_in")
    match order.action:
        case "halt":
            _none(order, "lever", "canary", "version", "latch")
            if order.expires_in is not None:
                raise _refuse("a halt does not expire: it ends by a resume that names it", "/expires_in")
        case "pause":
            _none(order, "lever", "canary", "version", "latch")
        case "resume" | "end":
            _none(order, "canary", "version", "latch", "expires_in", "route", "symbol")
            wanted = ("halt", "pause") if order.action == "resume" else ("weight", "rollback")
            if order.lever is None or order.lever not in held or held[order.lever].action not in wanted:
                known = ", ".join(lever.id for lever in held.values() if lever.action in wanted) or "none"
                raise _refuse(f"name a {' or '.join(wanted)} that holds; those that do: {known}", "/lever")
        case "weight":
            _none(order, "lever", "version", "latch", "symbol")
            route = _route(order, routes)
            if order.canary is None or not 0 <= order.canary <= 100:
                raise _refuse("give the canary's percentage, 0 to 100", "/canary")
            if abs(order.canary * 100 - round(order.canary * 100)) > 1e-6:
                raise _refuse("a weight has at most two decimals", "/canary")
            if Track.CANARY not in route.tracks:
                raise _refuse(f"the route {route.name!r} has no canary", "/route")
        case "rollback":
            _none(order, "lever", "canary", "latch", "symbol")
            route = _route(order, routes)
            versions = [rung.target.version for rung in (*route.tracks.values(), *route.standbys)]
            if order.version not in versions:
                raise _refuse(f"name a version that the route holds: {', '.join(versions)}", "/version")
        case "replan":
            _none(order, "lever", "canary", "version", "latch", "symbol", "expires_in")
            if _route(order, routes).plan is None:
                raise _refuse(f"the route {order.route!r} has no plan", "/route")
        case "reset":
            _none(order, "lever", "canary", "version", "expires_in")
            _route(order, routes)
            if order.latch is None:
                raise _refuse("name the latch: throttle or flips", "/latch")
            if (order.latch == "flips") != (order.symbol is not None):
                raise _refuse("flips latch an instrument, throttle latches the route", "/symbol")


def effective(route: Route, levers: Iterable[Lever], now: int, progress: Progress | None = None) -> Route:
    """The route with the weights that hold: the newest weight or rollback that has not lapsed, else its plan's."""
    newest: Lever | None = None
    for lever in levers:
        if lever.route == route.name and lever.action in ("weight", "rollback") and not lapsed(lever, route, now):
            newest = lever
    if newest is None:
        return _planned(route, progress)
    if newest.action == "weight":
        canary = round((newest.canary or 0.0) * 100)
        return msgspec.structs.replace(
            route, weights={Track.STABLE: SLOTS - canary, Track.CANARY: canary}, override=newest.id
        )
    for track, rung in route.tracks.items():
        if rung.target.version == newest.version:
            others = dict.fromkeys(route.weights, 0)
            return msgspec.structs.replace(
                route, weights=others | {track: SLOTS}, pin={}, handover_now=True, override=newest.id
            )
    rung = next(rung for rung in route.standbys if rung.target.version == newest.version)
    return msgspec.structs.replace(route, rolled_back=rung, pin={}, handover_now=True, override=newest.id)


def _planned(route: Route, progress: Progress | None) -> Route:
    """The route with the weights of its plan. After a step back open positions leave the canary at once."""
    if route.plan is None or progress is None or progress.plan != route.plan.id or progress.state == "interrupted":
        return route
    weights = {Track.STABLE: SLOTS - progress.canary, Track.CANARY: progress.canary}
    back = progress.state == "back"
    return msgspec.structs.replace(
        route,
        weights=weights,
        handover_now=route.handover_now or back,
        override=f"plan {progress.plan}, step {progress.step + 1}, {progress.state}",
    )


def lapsed(lever: Lever, route: Route | None, now: int) -> bool:
    """Whether a weight or rollback has ended by itself: its time is over, or the document moved under it."""
    if lever.expired(now) or route is None or _carriers(lever.base) != _carriers(base(route)):
        return True
    return lever.action == "rollback" and route.rung_of(lever.version or "") is None


def _carriers(text: str) -> list[str]:
    """The words of a base that count; older journals have the standbys' in it, too."""
    return [word for word in text.split(" ") if not word.startswith("standby:")]


def _route(order: Order, routes: dict[str, Route]) -> Route:
    if order.route is None:
        raise _refuse("name the route", "/route")
    return routes[order.route]


def _none(order: Order, *names: str) -> None:
    for name in names:
        if getattr(order, name) is not None:
            raise _refuse(f"means nothing to a {order.action}", f"/{name}")


def _refuse(text: str, pointer: str) -> SignalyardError:
    return error(Problem.INVALID_LEVER, text, pointer)
