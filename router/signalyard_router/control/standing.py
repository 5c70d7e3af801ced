"""What stands in a route's way or beside it: levers, latches, a plan that stepped back. Read off when it is asked for.

So the figures are those of the journal, also right after a restart, and none of them has to be kept up to date.
"""

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from signalyard_router.ports import Journal
from signalyard_router.router import Router
from signalyard_router.rules.levers import Lever, lapsed
from signalyard_router.rules.route import Route

_STOPS = ("halt", "pause")
_MOVES = ("weight", "rollback")


class StandingCollector(Collector):
    """A series a route, and whether something stands or not; a lever without a route stands on every one."""

    def __init__(self, router: Router, journal: Journal) -> None:
        self._router = router
        self._journal = journal

    def describe(self) -> Iterator[GaugeMetricFamily]:
        yield from _families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        levers, latched, back = families = _families()
        now, pulled, latches = self._journal.now, self._journal.levers, self._journal.latches()
        for name, route in self._router.routes.items():
            for (action, scope), count in _standing(route, pulled, now).items():
                levers.add_metric((name, action, scope), count)
            symbols = [symbol for latched_route, symbol in latches if latched_route == name]
            latched.add_metric((name, "throttle"), symbols.count(None))
            latched.add_metric((name, "flips"), len(symbols) - symbols.count(None))
            if route.plan is not None:
                progress = self._journal.plans.get(name)
                stepped = progress is not None and progress.plan == route.plan.id and progress.state == "back"
                back.add_metric((name,), float(stepped))
        yield from families


def _standing(route: Route, pulled: Sequence[Lever], now: int) -> dict[tuple[str, str], int]:
    """How many levers hold on a route, by action and scope."""
    counts = {(action, scope): 0 for action in _STOPS for scope in ("route", "instrument")}
    counts |= {(action, "route"): 0 for action in _MOVES}
    for lever in pulled:
        if lever.route not in (None, route.name):
            continue
        if lever.action in _STOPS and not lever.expired(now):
            counts[lever.action, "instrument" if lever.symbol else "route"] += 1
        elif lever.action in _MOVES and not lapsed(lever, route, now):
            counts[lever.action, "route"] += 1
    return counts


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "signalyard_levers",
            "Levers that hold, by what they do and whether on the whole route or on one of its instruments",
            labels=("route", "action", "scope"),
        ),
        GaugeMetricFamily(
            "signalyard_latched",
            "Limits that latched: throttle, 1 while the route is; flips, how many of its instruments are",
            labels=("route", "latch"),
        ),
        GaugeMetricFamily(
            "signalyard_plan_stepped_back", "1 while the route's plan has stepped back, else 0", labels=("route",)
        ),
    )
