"""The board of levers: what people do to routes while they run. Every pull is a record before it has an effect."""

from typing import TypedDict

import msgspec

from signalyard.problems import Problem, error
from signalyard.words import Track
from signalyard_router.control.documents import Documents
from signalyard_router.ports import Journal, Upstream
from signalyard_router.router import Router, RouteStatus
from signalyard_router.rules.groups import GroupStanding
from signalyard_router.rules.levers import Lever, Order, base, check
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.route import Target


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """Where a promotion stands. ``next`` is the step to take, ``done`` those that were; ``advice`` says how it goes on."""

    route: str
    version: str
    done: list[str]
    next: str | None
    advice: str
    lever: str | None = None


class Shown(TypedDict):
    """What the board shows."""

    routes: list[RouteStatus]
    levers: list[Lever]
    latches: list[tuple[str, str | None]]
    plans: dict[str, Progress]
    groups: list[GroupStanding]
    documents_problem: str


class Board:
    """Pulls levers on a router."""

    def __init__(self, router: Router, journal: Journal, upstream: Upstream, documents: Documents) -> None:
        self._router = router
        self._journal = journal
        self._upstream = upstream
        self._documents = documents

    def levers(self) -> list[Lever]:
        """Those that hold, oldest first."""
        now = self._journal.now
        return [lever for lever in self._journal.levers if not lever.expired(now)]

    def show(self) -> Shown:
        """Routes as they are in force, levers, latches, and whether the documents are those of the store."""
        status = self._router.status()
        return {
            "routes": status.routes,
            "levers": self.levers(),
            "latches": self._journal.latches(),
            "plans": status.plans,
            "groups": status.groups,
            "documents_problem": self._documents.problem,
        }

    async def pull(self, order: Order) -> Lever:
        """Record the order and put it in force, on this router at once.

        Raises CallerError (invalid_lever, unknown_route) naming the field; RouterError (journal_unavailable) where it could
        not be recorded, and then it is not in force.
        """
        check(order, self._router.routes, self.levers())
        route = self._router.routes.get(order.route or "")
        if order.action == "rollback" and route is not None:
            rung = route.rung_of(order.version or "")
            if rung is not None and not self._known(rung.target):
                raise error(
                    Problem.INVALID_LEVER,
                    f"the server of version {order.version} has never answered: a rollback to it would be an outage",
                    "/version",
                )
        lever = await self._journal.pull(order, base(route) if route is not None else "")
        self._router.refresh()
        return lever

    async def promote(self, name: str, version: str, by: str, why: str, *, proved: bool = False) -> Promotion:
        """Take the next step of making the canary's version the stable one.

        The steps, so that the way back is never unloaded: all weight to the canary (a lever); the old version ready as a
        standby; only then stable may roll (a change of the document, or of the chart's values). Each call takes one step, and
        none is skipped. Raises CallerError: unknown_route, invalid_lever, step_skipped.
        """
        route = self._router.routes.get(name)
        if route is None:
            raise error(Problem.UNKNOWN_ROUTE, f"there is no route named {name!r}", "/route")
        stable = route.tracks[Track.STABLE].target
        if stable.version == version:
            return Promotion(
                route=name,
                version=version,
                done=["weight", "standby", "stable"],
                next=None,
                advice="it is stable already",
            )
        canary = route.tracks.get(Track.CANARY)
        if canary is None or canary.target.version != version:
            held = canary.target.version if canary else "none"
            raise error(
                Problem.STEP_SKIPPED,
                f"only the canary is promoted, first with little weight; the canary is {held}",
                "/version",
            )
        if not self._known(canary.target):
            raise error(Problem.STEP_SKIPPED, f"the server of version {version} has never answered", "/version")
        in_force = self._router.table.routes[name]
        if in_force.weights.get(Track.CANARY) != sum(in_force.weights.values()) or in_force.rolled_back is not None:
            lever = await self.pull(Order(action="weight", route=name, canary=100.0, by=by, why=why, proved=proved))
            return Promotion(
                route=name,
                version=version,
                done=["weight"],
                next="standby",
                advice=f"version {version} decides for everything; version {stable.version} is still loaded as stable. "
                f"Add it as a standby, then promote again",
                lever=lever.id,
            )
        standby = next((rung.target for rung in route.standbys if rung.target.version == stable.version), None)
        if standby is None or not self._known(standby):
            state = "there is no such standby" if standby is None else "its server has never answered"
            raise error(
                Problem.STEP_SKIPPED,
                f"version {stable.version} must be ready as a standby before stable rolls, or the way back is unloaded: {state}",
                "/version",
            )
        return Promotion(
            route=name,
            version=version,
            done=["weight", "standby"],
            next="stable",
            advice=f"set stable's version to {version} and its weight to 100 in the document, and keep {stable.version} as a "
            "standby; the weight lever ends with that change",
        )

    def _known(self, target: Target) -> bool:
        card = self._upstream.card(target)
        return card is not None and card.version == target.version  # or its endpoints have another one
