"""What runs beside the decisions and has no part in them: mirrored calls, observations, comparisons."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry

from signalyard.problems import Problem, SignalyardError, error
from signalyard.wire import Observation, ObserveAnswer
from signalyard.words import Direction, Outcome, Reason
from signalyard_router.flow.case import Case
from signalyard_router.flow.comparisons import Comparisons
from signalyard_router.flow.mirror import Lane
from signalyard_router.ports import Clock, Journal, Settled, Upstream
from signalyard_router.rules.compare import Kind, Live, Pair
from signalyard_router.rules.pairing import Match, Pairing
from signalyard_router.rules.record import ShadowNote
from signalyard_router.rules.route import Route
from signalyard_router.rules.table import Table
from signalyard_router.rules.tally import NONE, Excluded
from signalyard_router.rules.verdict import ShadowAnswer, ShadowSummary

_RECENT = 1_024
"""Decisions that are kept for a route's first observation; from then on the route has a memory of its own."""
_SOURCES = 8
"""Baselines of one route: each is a set of metrics and a memory."""

_UNSETTLED = (Reason.OUT_OF_ORDER, Reason.SUPERSEDED, Reason.PAST_COMMIT_BY, Reason.JOURNAL_UNAVAILABLE)

_log = logging.getLogger("signalyard.router.shadow")


class Shadow:
    """The second opinions of a router."""

    def __init__(self, upstream: Upstream, journal: Journal, clock: Clock, registry: CollectorRegistry) -> None:
        self._upstream = upstream
        self._journal = journal
        self._clock = clock
        self._comparisons = Comparisons(registry, self._lapse)
        self._routes: dict[str, Route] = {}
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._pairings: dict[str, Pairing] = {}
        self._recent: deque[tuple[Case, Settled, int]] = deque(maxlen=_RECENT)
        self._leaving: dict[asyncio.Task[None], None] = {}

    def adopt(self, routes: Iterable[Route]) -> None:
        """These are the routes from now on. Counts and memories of what stays go on."""
        self._routes = {route.name: route for route in routes}
        self._comparisons.adopt(self._routes.values())
        gone = dict(self._lanes)
        for route in self._routes.values():
            for rung in route.shadows:
                key = (route.name, rung.target.version)
                lane = gone.pop(key, None) or self._lane(route, rung.target.version)
                lane.steer(rung, route.shadow)
        for key, lane in gone.items():
            del self._lanes[key]
            task = asyncio.get_running_loop().create_task(lane.close())
            self._leaving[task] = None
            task.add_done_callback(self._leaving.pop)
        for name in [name for name in self._pairings if name not in self._routes]:
            del self._pairings[name]

    def decided(self, cases: list[tuple[Case, Settled]]) -> None:
        """Hand over what a request decided. All that follows happens once its answer has been written: when the request's
        task next pauses."""
        if not cases:
            return
        if self._lanes or self._pairings:
            asyncio.get_running_loop().call_soon(self._take, cases)
        else:
            self._remember(cases, self._journal.now)  # which is less than another turn of the loop costs

    def observe(self, observations: Sequence[Observation], table: Table) -> ObserveAnswer:
        """Take what a strategy outside the router did; all of it, or none.

        Raises CallerError, whose pointer begins with the observation's place: invalid_instrument, no_route, unknown_route, and
        invalid_observation where a route has too many sources.
        """
        now = self._journal.now
        found: list[tuple[Observation, Route]] = []
        sources: dict[str, set[str]] = {}
        for index, observation in enumerate(observations):
            try:
                for route in table.match(observation.symbol, observation.route):
                    known = self._pairings.get(route.name)
                    named = sources.setdefault(route.name, set(known.sources if known else ()))
                    named.add(observation.source)
                    if len(named) > _SOURCES:
                        text = f"the route {route.name!r} is compared with {_SOURCES} sources already, the most there may be"
                        raise error(Problem.INVALID_OBSERVATION, text, "/source")
                    found.append((observation, route))
            except SignalyardError as exc:
                raise error(exc.problem, exc.detail, f"/{index}{exc.pointer}") from exc
        self._lapse()
        matched = waiting = repeated = 0
        for observation, route in found:
            pairing = self._pairing(route)
            source, symbol, ts_event = observation.source, observation.symbol, observation.ts_event
            if source not in pairing.sources:
                pairing.begin(source, now)
                self._comparisons.of(route, Kind.BASELINE, source)
                key = (route.name, Kind.BASELINE, source)
                self._comparisons.waiting[key] = partial(pairing.waiting, source)
            if pairing.known(source, symbol, ts_event):
                repeated += 1
                continue
            direction = None if observation.signal == NONE else Direction(observation.signal)
            match = pairing.observed(source, symbol, ts_event, direction, now)
            if match is None:
                waiting += 1
            else:
                matched += 1
                self._matched(route, match, now)
        return ObserveAnswer(matched=matched, waiting=waiting, repeated=repeated)

    def report(self, route: str | None = None) -> ShadowAnswer:
        """Every comparison, or those of a route. Raises CallerError: unknown_route."""
        if route is not None and route not in self._routes:
            raise error(Problem.UNKNOWN_ROUTE, f"there is no route named {route!r}", "/route")
        now = self._journal.now
        return ShadowAnswer(now=now, comparisons=self._comparisons.report(now, self._digest, route))

    def summary(self, route: Route) -> list[ShadowSummary]:
        """A route's comparisons in a line each."""
        return self._comparisons.summary(route)

    def disagreement(self, route: str, version: str) -> float | None:
        """A shadow's share of disagreement within the last hour, None below the route's ``minimum`` of compared pairs."""
        if route not in self._routes:
            return None
        asked = self._routes[route].shadow.thresholds.minimum
        return self._comparisons.disagreement((route, Kind.SHADOW, version), self._journal.now, asked)

    async def close(self) -> None:
        """Give up what is under way."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()), *self._leaving)

    def _take(self, cases: list[tuple[Case, Settled]]) -> None:
        try:
            now = self._journal.now
            self._remember(cases, now)
            self._mirror(cases, [_live(case, settled, now) for case, settled in cases])
        except Exception:  # noqa: BLE001 -- nothing of this may reach a request; it is logged and counted
            self._comparisons.errors += 1
            _log.exception("event=shadow_failed")

    def _remember(self, cases: list[tuple[Case, Settled]], now: int) -> None:
        """Keep what was decided for a route's first observation."""
        self._recent += [(case, settled, now) for case, settled in cases]

    def _mirror(self, cases: list[tuple[Case, Settled]], lives: list[Live]) -> None:
        lanes: dict[Lane, None] = {}
        for (case, _), live in zip(cases, lives, strict=True):
            route = case.route
            for rung in route.shadows:
                lane = self._lanes.get((route.name, rung.target.version))
                if lane is not None:  # else a reload has just taken it away
                    lane.offer(case.row, live)
                    lanes[lane] = None
            pairing = self._pairings.get(route.name)
            if pairing is not None:
                for match in pairing.decided(live, live.at):
                    self._matched(route, match, live.at)
        for lane in lanes:
            lane.depart()
        self._lapse()

    def _matched(self, route: Route, match: Match, now: int) -> None:
        pair = self._comparisons.of(route, Kind.BASELINE, match.source).observed(match.live, match.direction, now)
        if pair is not None:
            self._note(route.name, match.source, Kind.BASELINE, pair, "")

    def _lapse(self) -> None:
        now = self._journal.now
        for name, pairing in self._pairings.items():
            for lapsed in pairing.lapse(now):
                reason = Excluded.UNMATCHED if lapsed.observed else Excluded.UNOBSERVED
                self._comparisons.of(self._routes[name], Kind.BASELINE, lapsed.source).exclude(reason, now)

    def _pairing(self, route: Route) -> Pairing:
        pairing = self._pairings.get(route.name)
        if pairing is None:
            pairing = self._pairings[route.name] = Pairing()
            for case, settled, at in self._recent:
                if case.route.name == route.name:
                    pairing.decided(_live(case, settled, at), at)
        return pairing

    def _lane(self, route: Route, version: str) -> Lane:
        comparison = self._comparisons.of(route, Kind.SHADOW, version)
        record = partial(self._scored, route.name, version)
        lane = Lane(self._upstream, self._journal, self._clock, comparison, record)
        self._lanes[route.name, version] = lane
        self._comparisons.waiting[route.name, Kind.SHADOW, version] = lambda: lane.held
        return lane

    def _scored(self, route: str, version: str, pair: Pair, digest: str) -> None:
        self._note(route, version, Kind.SHADOW, pair, digest)

    def _note(self, route: str, name: str, kind: Kind, pair: Pair, digest: str) -> None:
        if route in self._routes and self._routes[route].shadow.journal:
            note = ShadowNote(route, name, kind is Kind.BASELINE, digest, pair)
            self._comparisons.notes_dropped += 1 - self._journal.note([note])

    def _digest(self, route: Route, version: str) -> str | None:
        for rung in route.shadows:
            if rung.target.version == version:
                card = self._upstream.card(rung.target)
                return card.digest if card else None
        return None


def _live(case: Case, settled: Settled, at: int) -> Live:
    """What a decision has to compare with."""
    decision, answer = settled.decision, case.answer
    excluded: Excluded | None = None
    if decision.outcome is Outcome.REJECTED:
        excluded = Excluded.REJECTED
    elif decision.outcome is Outcome.UNKNOWN or decision.reason in _UNSETTLED:
        excluded = Excluded.UNSETTLED
    elif answer is None and not case.flat:
        excluded = Excluded.NO_ANSWER
    elif answer is None or case.degraded or answer.failover:
        excluded = Excluded.DEGRADED
    return Live(
        symbol=case.row.symbol,
        ts_event=case.row.ts_event,
        at=at,
        route=case.route.name,
        proposal_id=case.proposal_id,
        direction=settled.direction,
        held=settled.held,
        score=answer.score if answer else None,
        confidence=answer.confidence if answer else None,
        excluded=excluded,
    )
