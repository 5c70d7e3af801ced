"""The router watches itself: it folds every recorded decision into counts, and looks at them each second.

Nothing is counted on the way of a decision: the journal hands over the records that it has confirmed, which are appended to a
list, and counted in a turn of the event loop of their own, a few at a time, so that they are not held for long either: memory
that is used again at once is cheaper than new memory by more than the counting costs. What an earlier process recorded is folded in while the journal opens, so that a restart forgets
neither the last signal nor how many signals a contract gave in earlier sessions.
"""

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence

import msgspec
from prometheus_client import CollectorRegistry

from signalyard.problems import SignalyardError
from signalyard.words import REJECTED
from signalyard_router.control.metrics import AlertMetrics, Seen
from signalyard_router.ports import Journal, Upstream
from signalyard_router.rules.activity import Activity, Tally
from signalyard_router.rules.alarm import (
    Alert,
    AlertKind,
    AlertState,
    Finding,
    degraded,
    drifted,
    excessive,
    late,
    low_confidence,
    silence,
    surged,
)
from signalyard_router.rules.documents import parse_document
from signalyard_router.rules.proposal import Proposal
from signalyard_router.rules.record import SIGNALS, DecisionRecord, Record, RouteRecord
from signalyard_router.rules.route import Route, compile_route
from signalyard_router.rules.surge import Contract, ContractKey, Surge, Surges
from signalyard_router.rules.thresholds import AlertRules
from signalyard_router.rules.units import SECOND

EVERY = 1.0
"""Seconds between two looks."""
_RECORDS_AT_ONCE = 32
_ROUTES_AT_ONCE = 8
"""Records and routes that are seen to before decisions have their turn again."""
_HELD = 10 * SECOND
"""An alert over a window must have been clear for so long before it is over, so that a mean at its threshold does not
flicker."""

_log = logging.getLogger("signalyard.router.alerts")


class _Watched:
    """One route."""

    def __init__(self, route: Route, kinds: list[AlertKind], activity: Activity | None = None, since: int = 0) -> None:
        self.route = route
        self.activity = activity or Activity(route.alerts.window)
        self.since = since
        self.alerts: dict[AlertKind, Alert] = {}
        self.clear: dict[AlertKind, int] = {}
        self.kinds = kinds
        self.is_open = False
        self.surging: list[Surge] = []

    def seen(self) -> Seen:
        """What the last look at it saw, for the metrics."""
        return Seen(self.route.name, self.kinds, self.activity, self.is_open, self.alerts, self.surging)


class Alerts:
    """Implements `ports.Watch`, and the journal's memory. It hears of earlier decisions through `remember` while the journal opens, and
    of new ones through `observe`; what else it looks at is attached."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._metrics = AlertMetrics(registry, lambda: [watched.seen() for watched in self._watched.values()])
        self._surges = Surges()
        self._journal: Journal | None = None
        self._upstream: Upstream | None = None
        self._waiting: list[DecisionRecord] = []
        self._scheduled = False
        self._watched: dict[str, _Watched] = {}

    def attach(self, journal: Journal, upstream: Upstream) -> None:
        """Take the time and halts from this journal, and the versions that answer from these model servers."""
        self._journal, self._upstream = journal, upstream

    def put(self, route: Route) -> None:
        """Watch this route from now on. What is known of it is kept, as far as it still means the same."""
        known = self._watched.get(route.name)
        if known is not None and known.route is route:
            return
        kinds = list(_kinds(route.alerts))
        if known is None:
            watched = _Watched(route, kinds)
        else:
            same_window = known.route.alerts.window == route.alerts.window
            watched = _Watched(route, kinds, known.activity if same_window else None, known.since)
            if not same_window:
                watched.activity.resume(known.activity)
            if (known.route.sessions, known.route.alerts.surge_part) != (route.sessions, route.alerts.surge_part):
                self._surges.forget(route.name)
            watched.alerts = {kind: alert for kind, alert in known.alerts.items() if kind in kinds}
            watched.is_open = known.is_open
        self._watched[route.name] = watched

    def keep(self, names: Collection[str]) -> None:
        """Watch no other routes."""
        for name in [name for name in self._watched if name not in names]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        del self._watched[name]
        self._surges.forget(name)

    # Being told ------------------------------------------------------------------------------------------------------

    def remember(self, record: Record) -> None:
        """A record of an earlier process, in the order of the journal. The documents that were in force come with it."""
        match record:
            case DecisionRecord():
                self._fold(record)
            case RouteRecord(document=None):
                if record.name in self._watched:
                    self._drop(record.name)
            case RouteRecord():
                try:
                    self.put(compile_route(parse_document(record.document, f"the journal's record {record.seq}")))
                except SignalyardError:
                    _log.info("event=document_of_old route=%s record=%d", record.name, record.seq)
            case _:
                return

    def contracts(self) -> Sequence[tuple[ContractKey, Contract]]:
        """What is remembered of surges, up to the newest record that was told of."""
        self._count()
        return self._surges.snapshot()

    def resume(self, contracts: Sequence[tuple[ContractKey, Contract]]) -> None:
        """Go on from what an earlier process remembered, under the documents that `remember` was told of."""
        floors = {
            name: watched.route.alerts.surge_floor
            for name, watched in self._watched.items()
            if watched.route.alerts.surge is not None
        }
        self._surges.restore(contracts, floors)

    def observe(self, records: Sequence[DecisionRecord]) -> None:
        """Decisions that the journal has just confirmed, in its order."""
        self._waiting.extend(records)
        if len(self._waiting) >= _RECORDS_AT_ONCE and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._count)

    def unrecorded(self, proposals: Sequence[Proposal], now: int, *, late: bool) -> None:
        for proposal in proposals:
            watched = self._watched.get(proposal.route)
            if watched is not None and proposal.problem is None:
                watched.activity.unrecorded(now, answered=proposal.answer is not None, late=late)

    # Looking ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look each second, until cancelled. Decisions have their turn in between."""
        while True:
            try:
                self._count()
                for place, name in enumerate(list(self._watched), start=1):
                    watched = self._watched.get(name)
                    if watched is not None and self._journal is not None:
                        self._look(watched, self._journal.now)
                    if place % _ROUTES_AT_ONCE == 0:
                        await asyncio.sleep(0)
                self._metrics.looks.inc()
            except Exception:  # noqa: BLE001 -- who watches must not be who stops; it is logged, and tried again
                _log.exception("event=alerts_failed")
            await asyncio.sleep(EVERY)

    def alerts(self, now: int) -> list[Alert]:
        self._count()
        for watched in self._watched.values():
            self._look(watched, now)
        return [
            watched.alerts[kind]
            for _, watched in sorted(self._watched.items())
            for kind in watched.kinds
            if kind in watched.alerts
        ]

    def _count(self) -> None:
        self._scheduled = False
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self._fold(record)
            if record.outcome in SIGNALS and record.direction is not None and record.route in self._watched:
                self._metrics.signal(record.route, record.symbol, record.direction)

    def _fold(self, record: DecisionRecord) -> None:
        watched = self._watched.get(record.route)
        if watched is None:
            return
        watched.activity.fold(record)
        rules = watched.route.alerts
        if rules.surge is not None and record.outcome is not REJECTED:
            self._surges.fold(
                record.route,
                record.symbol,
                record.t,
                record.outcome in SIGNALS,
                watched.route.sessions,
                rules.surge_part,
                rules.surge_floor,
            )

    def _look(self, watched: _Watched, now: int) -> None:
        if not now:
            return  # on event time nothing has happened yet
        if not watched.since:
            watched.since = now
        route, name = watched.route, watched.route.name
        watched.is_open = route.sessions is None or route.sessions.open_at(now)
        if route.alerts.surge is not None:
            watched.surging = excessive(route.alerts.surge, self._surges.above_floor(name, now))
        seen = watched.activity.totals(now)
        for kind in watched.kinds:
            finding = self._find(kind, watched, seen, now)
            before = watched.alerts.get(kind)
            after = watched.alerts[kind] = self._step(watched, kind, before, finding, now)
            if after.state is not (before.state if before is not None else AlertState.OK):
                self._changed(before, after)

    def _find(self, kind: AlertKind, watched: _Watched, seen: Tally, now: int) -> Finding:
        route, rules = watched.route, watched.route.alerts
        if kind is AlertKind.NO_SIGNAL and rules.no_signal is not None:
            halted = self._halted(route.name, now)
            return silence(rules.no_signal, route.sessions, watched.activity, watched.since, now, halted)
        if kind is AlertKind.LOW_CONFIDENCE and rules.min_confidence is not None:
            return low_confidence(rules.min_confidence, rules.at_least, seen)
        if kind is AlertKind.SURGE and rules.surge is not None:
            return surged(rules.surge, rules.surge_floor, self._surges.above_floor(route.name, now))
        if kind is AlertKind.DEGRADED and rules.degraded is not None:
            return degraded(rules.degraded, rules.at_least, seen)
        if kind is AlertKind.LATE and rules.late is not None:
            return late(rules.late, rules.at_least, seen)
        return drifted(self._drift(route))

    def _halted(self, route: str, now: int) -> str | None:
        """Who stopped the whole route, and why."""
        for lever in self._journal.levers if self._journal is not None else ():
            whole = lever.symbol is None and lever.route in (None, route)
            if whole and lever.action in _STOPPED and not lever.expired(now):
                return f"{_STOPPED[lever.action]} by {lever.by}: {lever.why}"
        return None

    def _drift(self, route: Route) -> list[str]:
        """The tracks whose model servers serve another version than the document names."""
        if self._upstream is None:
            return []
        return [
            f"{rung.track} serves {card.version} instead of {rung.target.version}"
            for rung in (*route.tracks.values(), *route.standbys)
            if (card := self._upstream.card(rung.target)) is not None and card.version != rung.target.version
        ]

    def _step(self, watched: _Watched, kind: AlertKind, before: Alert | None, finding: Finding, now: int) -> Alert:
        """The alert after a look."""
        state, since = finding.state, now
        if before is not None:
            if before.state is AlertState.FIRING and state is not AlertState.FIRING and kind in _OVER_A_WINDOW:
                if now < watched.clear.setdefault(kind, now) + _HELD:
                    return msgspec.structs.replace(before, value=finding.value)
            else:
                watched.clear.pop(kind, None)
            if before.state is state:
                since = before.since
        return Alert(
            route=watched.route.name,
            alert=kind,
            state=state,
            since=since,
            value=finding.value,
            threshold=finding.threshold,
            message=finding.message,
            cause=finding.cause,
        )

    def _changed(self, before: Alert | None, after: Alert) -> None:
        fired = before is not None and before.state is AlertState.FIRING
        level = (
            logging.WARNING if after.state is AlertState.FIRING else logging.INFO if fired else logging.DEBUG
        )  # that it may come to something is for those who look
        _log.log(
            level,
            "event=alert route=%s alert=%s state=%s value=%s threshold=%s message=%r",
            after.route,
            after.alert,
            after.state,
            "-" if after.value is None else f"{after.value:g}",
            "-" if after.threshold is None else f"{after.threshold:g}",
            after.message,
        )


_STOPPED = {"halt": "halted", "pause": "paused"}
_OVER_A_WINDOW = (AlertKind.LOW_CONFIDENCE, AlertKind.DEGRADED, AlertKind.LATE)


def _kinds(rules: AlertRules) -> Iterable[AlertKind]:
    """Those that the route has on."""
    for kind, threshold in (
        (AlertKind.NO_SIGNAL, rules.no_signal),
        (AlertKind.LOW_CONFIDENCE, rules.min_confidence),
        (AlertKind.SURGE, rules.surge),
        (AlertKind.DEGRADED, rules.degraded),
        (AlertKind.LATE, rules.late),
    ):
        if threshold is not None:
            yield kind
    if rules.drift:
        yield AlertKind.DRIFT
