"""The router. `Router.decide` reads as a snapshot's way: admit, check, score, propose, commit, answer."""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from datetime import date
from typing import Any, Literal

import msgspec
from prometheus_client import CollectorRegistry

from signalyard.problems import Problem, SignalyardError, error
from signalyard.wire import Columnar, Decision, Observation, ObserveAnswer, Snapshot, StateAnswer
from signalyard.words import Direction, Track
from signalyard_router.flow.asked import Asked
from signalyard_router.flow.batches import Batches
from signalyard_router.flow.case import Case, go_one_way
from signalyard_router.flow.committer import Committer
from signalyard_router.flow.correlation import REQUEST_ID
from signalyard_router.flow.drift import DriftCollector
from signalyard_router.flow.metrics import FlowMetrics, Refusal, rung_names
from signalyard_router.flow.scoring import Scoring
from signalyard_router.flow.shadow import Shadow
from signalyard_router.flow.tracks import TrackCollector
from signalyard_router.ports import EndpointStatus, Journal, Settled, Tracer, Upstream, Watch, World
from signalyard_router.promise import Promise
from signalyard_router.rules.admission import NEVER, Queueing
from signalyard_router.rules.alarm import Alert
from signalyard_router.rules.budget import budget, commit_by
from signalyard_router.rules.groups import GroupStanding
from signalyard_router.rules.levers import Lever, effective
from signalyard_router.rules.plan import Progress
from signalyard_router.rules.proposal import Input, Proposal, columns_json, identity
from signalyard_router.rules.route import Route, ShadowRung, TrackRung
from signalyard_router.rules.rows import BadRow, Row, rows_of
from signalyard_router.rules.sessions import Sessions
from signalyard_router.rules.table import Table
from signalyard_router.rules.units import SECOND
from signalyard_router.rules.verdict import ShadowAnswer, ShadowSummary
from signalyard_router.settings import RouterSettings


class TrackStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One version on a route: the one that the document names, and the one that its endpoints serve.

    ``serving`` and ``digest`` are None while no endpoint has answered; ``drift``: they serve another version. ``mirror`` is a
    shadow's share.
    """

    track: Track
    version: str
    endpoints: list[EndpointStatus]
    weight: float
    serving: str | None
    drift: bool
    digest: str | None
    calibrated: bool | None
    mirror: float | None = None


class SessionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a route's market is open, and when that ends: UTC nanoseconds, None where that is not in sight."""

    open: bool
    trading_day: date | None
    until: int | None


class RouteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One route; ``override`` is the lever that changed its weights, ``document_weights`` what the document says.

    ``assignment`` holds the instruments that have been seen and the track that decides for each. ``session`` is None for a
    route that is always open.
    """

    route: str
    revision: str
    generation: int
    model: str
    mode: Literal["live", "paper"]
    instruments: tuple[str, ...]
    tracks: list[TrackStatus]
    assignment: dict[str, Track]
    override: str
    rolled_back: str | None
    document_weights: dict[Track, float]
    shadows: list[ShadowSummary]
    session: SessionStatus | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of ``GET /v1/status``."""

    ready: bool
    unready: list[str]
    clock: Literal["wall", "event"]
    now: int
    epoch: int
    journal_available: bool
    rows_in_flight: int
    routes: list[RouteStatus]
    levers: list[Lever]
    plans: dict[str, Progress]
    latches: list[tuple[str, str | None]]
    alerts: list[Alert]
    groups: list[GroupStanding] = []


class Router:
    """Decides on snapshots. All that it touches outside its memory is given to it; it keeps no state at module level."""

    def __init__(
        self,
        world: World,
        settings: RouterSettings,
        routes: Sequence[Route],
        journal: Journal,
        upstream: Upstream,
        registry: CollectorRegistry,
        watch: Watch | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._clock = world.clock
        self._settings = settings
        self._journal = journal
        self._upstream = upstream
        self._metrics = FlowMetrics(registry)
        self._queueing = Queueing(settings.max_wait_share, settings.wait_settle)
        self._metrics.watch_wait(lambda: self._queueing.mean / SECOND)
        self._scoring = Scoring(upstream, journal, world.clock, self._metrics, tracer)
        self._committer = Committer(journal, world.clock, watch, tracer)
        # a trace is one request's
        self._gathers = settings.gather and tracer is None
        self._batches = Batches(self._decide, upstream, self._metrics.shared)
        self._watch = watch
        self._shadow = Shadow(upstream, journal, world.clock, registry)
        self._routes: dict[str, Route] = {}
        self._table = Table(())
        self._refresh_at: int | None = None
        registry.register(DriftCollector(lambda: self._table, upstream))
        registry.register(TrackCollector(lambda: self._table, upstream))
        self.take(routes)
        self._in_flight = 0
        self._requests = 0
        self._metrics.watch(lambda: self._in_flight)
        self._asked = False
        self._draining = False

    async def predict(self, request: Snapshot | Sequence[Snapshot] | Columnar) -> list[Decision]:
        """Decide on snapshots from within the process; see `decide`."""
        return await self.decide(rows_of(request))

    def admit(self, received: int, remaining: int | None = None) -> None:
        """Refuse a request that would be answered late, before anything is spent on it.

        To be called once a request, as soon as it is its turn; the arguments are those of `decide`. What requests wait for
        their turn says how long their next ones take. Raises RouterError: overloaded.
        """
        now = self._clock.monotonic()
        wait = now - received
        self._queueing.observe(wait, now)
        deadline = self._loosest if remaining is None else min(self._loosest, remaining)
        if self._queueing.refuses(wait, deadline):
            raise self._too_late(wait)

    async def decide(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> list[Decision]:
        """A decision for every row on every route that it goes to, in the order of the rows.

        ``received``: when the request was fully read, monotonic nanoseconds; now, if not given. ``remaining``: how long the
        caller still waits, nanoseconds. Bad rows are rejected, never raised. Raises RouterError: overloaded, draining.
        """
        asked = self._take_in(rows, received, remaining)
        if self._gathers:
            return await self._batches.join(asked).outcome()
        ((_, decisions),) = await self._decide([asked])
        return decisions

    def submit(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> Promise[list[Decision]]:
        """The same for a caller without a task: what `decide` refuses is raised at once, all else is in the promise.

        Whoever does not wait any longer cancels it.
        """
        return self._batches.join(self._take_in(rows, received, remaining))

    def _take_in(self, rows: Sequence[Row | BadRow], received: int | None, remaining: int | None) -> Asked:
        """A request that is to be decided; it is in flight until it is."""
        now = self._clock.monotonic()
        if received is None:
            received = now
        if self._queueing.too_long(now - received, self._tightest):
            self._refuse_late(rows, now - received)
        self._enter(len(rows))
        try:
            self._requests += 1
            wall = self._clock.wall() - (now - received)
            asked = Asked(
                self._requests,
                len(rows),
                self._table,
                received,
                remaining,
                wall,
                self._journal.now,
                REQUEST_ID.get(),
            )
            for row in rows:
                self._admit(row, asked)
            self._share_deadline(asked)
        except BaseException:
            self._in_flight -= len(rows)
            raise
        return asked

    # The way of a snapshot -------------------------------------------------------------------------------------------

    def _admit(self, row: Row | BadRow, asked: Asked) -> None:
        """A case for each route of the row; the stored decision where it was decided before; a proposal to reject."""
        if isinstance(row, BadRow):
            exc = error(row.problem.code, row.problem.detail, row.problem.pointer)
            asked.add(row, self._rejection(row, exc, asked))
            return
        try:
            if len(row.values) != len(row.columns):
                raise error(
                    Problem.INVALID_SNAPSHOT,
                    f"{len(row.columns)} features are named and {len(row.values)} values given",
                    "/features",
                )
            routes = asked.table.match(row.symbol, row.route)
        except SignalyardError as exc:
            asked.add(row, self._rejection(row, exc, asked))
            return
        for route in routes:
            proposal_id = identity(route.name, row)
            stored = self._journal.settled(proposal_id)
            if stored is not None:
                self._metrics.repeated.inc()
                asked.add(row, stored)
                continue
            rung = asked.table.rung(route, row.symbol, self._journal.owner(route.name, row.symbol))
            case = Case(row, route, rung, asked.budget(route), proposal_id, asked.number)
            age = asked.now - row.ts_event
            if not -route.max_skew <= age <= route.max_age:
                self._check_age(case, age)
            asked.add(row, case)
            asked.cases.append(case)

    def _check_age(self, case: Case, age: int) -> None:
        """Reject a snapshot out of its time."""
        route = case.route
        if age > route.max_age:
            text = f"it is {age / 1e9:.3f} s old, the route takes up to {route.max_age / 1e9:g} s"
            if case.row.ts_event < 10**17:
                text += "; ts_event is in nanoseconds, and this looks like seconds or milliseconds"
            case.problem = error(Problem.SNAPSHOT_TOO_OLD, text, "/ts_event").details
        elif -age > route.max_skew and not self._journal.event_time:
            text = f"it is {-age / 1e9:.3f} s ahead, clocks may differ by {route.max_skew / 1e9:g} s"
            case.problem = error(Problem.SNAPSHOT_FROM_FUTURE, text, "/ts_event").details

    def _share_deadline(self, asked: Asked) -> None:
        """One request has one answer, so the shortest deadline of its routes holds for all of its rows.

        Else a slow model on one route would make the signals of another one late, and the gate refuses what is late.
        Rows that reached no route follow the others; on their own they have the deadline of rejections.
        """
        if len(asked.budgets) == 1 and len(asked.cases) == len(asked.entries):
            return
        received, routes = asked.received, asked.table.routes
        totals = [budget.total for budget in asked.budgets.values()]
        totals += [routes[entry.route].deadline for entry in asked.entries if isinstance(entry, Decision)]
        shortest = min(totals) if totals else self._settings.rejection_deadline
        if asked.remaining is not None:
            shortest = min(shortest, asked.remaining)
        for entry in asked.entries:
            if isinstance(entry, Case) and entry.budget.total > shortest:
                entry.budget = budget(entry.route, received, shortest)
            elif isinstance(entry, Proposal):
                entry.commit_by = commit_by(received, shortest)

    async def _decide(self, batch: Sequence[Asked]) -> list[tuple[Asked, list[Decision]]]:
        """The decisions of requests that come together, the one that must be answered first before the others; none for those that
        have gone."""
        try:
            cases = [case for asked in batch if not asked.gone for case in asked.cases]
            self._scoring.check(cases)
            climbs = self._climbs([case for case in cases if case.problem is None])
            if len(climbs) == 1:
                await climbs[0]
            elif climbs:
                await asyncio.gather(*climbs)
            return await self._settle(batch)
        finally:
            self._in_flight -= sum([asked.rows for asked in batch])

    def _climbs(self, cases: Sequence[Case]) -> list[Coroutine[Any, Any, None]]:
        """One climb for each route and first rung; the rows of a climb share its calls."""
        if not cases:
            return []
        if go_one_way(cases):
            return [self._scoring.climb(cases)]
        groups: dict[tuple[str, TrackRung], list[Case]] = {}
        for case in cases:
            groups.setdefault((case.route.name, case.rung), []).append(case)
        return [self._scoring.climb(group) for group in groups.values()]

    async def _settle(self, batch: Sequence[Asked]) -> list[tuple[Asked, list[Decision]]]:
        """Commit what has not been decided before; the answers to those who still wait, in the order of the rows."""
        waiting = [asked for asked in batch if not asked.gone]
        proposals = [
            self._propose(entry, asked) if isinstance(entry, Case) else entry
            for asked in waiting
            for entry in asked.entries
            if not isinstance(entry, Decision)
        ]
        settled: list[Settled] = []
        if proposals:
            until = min([proposal.commit_by for proposal in proposals])
            alone = self._in_flight == sum([asked.rows for asked in batch])
            settled = await self._committer.commit(proposals, until, alone=alone)
        answers = iter(settled)
        now = self._clock.monotonic()
        made: list[tuple[Case, Settled]] = []
        given = [(asked, self._given(asked, answers, now - asked.received, made)) for asked in waiting]
        self._shadow.decided(made)
        return given

    def _given(
        self, asked: Asked, answers: Iterator[Settled], elapsed: int, made: list[tuple[Case, Settled]]
    ) -> list[Decision]:
        """A request's decisions, its own of ``answers`` taken; what was decided for the first time is put into ``made``."""
        decisions: list[Decision] = []
        for entry, place in zip(asked.entries, asked.places, strict=True):
            if isinstance(entry, Decision):
                decision = entry
            else:
                answer = next(answers)
                decision = answer.decision
                if answer.repeated:
                    self._metrics.repeated.inc()
                else:
                    self._metrics.decided(decision)
                    if isinstance(entry, Case):
                        made.append((entry, answer))
            decisions.append(msgspec.structs.replace(decision, row=place, elapsed_us=elapsed // 1000))
        self._observe(decisions, elapsed)
        return decisions

    def _observe(self, decisions: Sequence[Decision], elapsed: int) -> None:
        seconds = elapsed / 1e9
        routes = self._table.routes
        for decision in decisions:
            metrics = self._metrics.route(decision.route)
            metrics.seconds.observe(seconds)
            route = routes.get(decision.route)
            if route is not None and elapsed > route.deadline:
                metrics.late.inc()

    def _propose(self, case: Case, asked: Asked) -> Proposal:
        """What the journal is asked to settle. The direction is found there, for it depends on what was settled before."""
        route, row = case.route, case.row
        proposal = Proposal(
            case.proposal_id,
            row.symbol,
            row.ts_event,
            asked.ts_recv,
            asked.received,
            route.name,
            route.revision,
            route.generation,
            row.sequence,
            row.consumer,
            Input(columns_json(row.columns), row.values),
            case.problem,
            case.abstain,
            case.answer,
            route.model,
            case.rung.target.version,
            case.degraded,
            case.steps,
            case.budget.commit_by,
            case.budget.total,
            asked.request_id,
            route.gate,
        )
        if case.flat:
            proposal.direction, proposal.reduce_only = Direction.FLAT, True
        elif case.answer is not None and case.answer.confidence is not None:
            self._metrics.route(route.name).confidence.observe(case.answer.confidence)
        return proposal

    def _rejection(self, row: Row | BadRow, exc: SignalyardError, asked: Asked) -> Proposal:
        """The proposal of a row that reached no route."""
        proposal = Proposal(
            proposal_id="",
            symbol=row.symbol,
            ts_event=row.ts_event,
            ts_recv=asked.ts_recv,
            received=asked.received,
            problem=exc.details,
            request_id=asked.request_id,
        )
        if isinstance(row, Row):
            proposal.consumer = row.consumer
            proposal.input = Input(columns_json(row.columns), row.values)
            if len(row.values) == len(row.columns):
                proposal.proposal_id = identity("", row)
        return proposal

    # Answers ---------------------------------------------------------------------------------------------------------

    def state(self, symbol: str | None = None, route: str | None = None) -> StateAnswer:
        """What each route last said of each instrument, or of the one that is asked for; what it said on paper apart."""
        found = [
            opinion
            for opinion in self._journal.opinions()
            if symbol in (None, opinion.symbol) and route in (None, opinion.route)
        ]
        return StateAnswer(
            now=self._journal.now,
            epoch=self._journal.epoch,
            opinions=[opinion for opinion in found if not opinion.paper],
            paper=[opinion for opinion in found if opinion.paper],
        )

    def observe(self, observations: Sequence[Observation]) -> ObserveAnswer:
        """Compare what a strategy outside the router did; see `Shadow.observe`."""
        return self._shadow.observe(observations, self._table)

    def shadow(self, route: str | None = None) -> ShadowAnswer:
        """How shadows and baselines compare with the decisions; see `Shadow.report`."""
        return self._shadow.report(route)

    def disagreement(self, route: str, version: str) -> float | None:
        """A shadow's share of disagreement within the last hour, None while it has compared too little to be judged."""
        return self._shadow.disagreement(route, version)

    def status(self) -> Status:
        """The router as it stands, for people."""
        unready = self.unready()
        now = self._journal.now
        signalled = self.signalled()
        return Status(
            ready=not unready,
            unready=unready,
            clock="event" if self._journal.event_time else "wall",
            now=now,
            epoch=self._journal.epoch,
            journal_available=self._journal.available,
            rows_in_flight=self._in_flight,
            routes=[
                self._route_status(route, now, signalled.get(route.name, set()))
                for _, route in sorted(self._table.routes.items())
            ],
            levers=[lever for lever in self._journal.levers if not lever.expired(now)],
            plans={name: plan for name, plan in self._journal.plans.items() if name in self._routes},
            latches=self._journal.latches(),
            alerts=self._watch.alerts(now) if self._watch is not None else [],
            groups=self._journal.groups(),
        )

    def signalled(self) -> dict[str, set[str]]:
        """The instruments on which each route has had a say."""
        found: dict[str, set[str]] = {}
        for opinion in self._journal.opinions():
            found.setdefault(opinion.route, set()).add(opinion.symbol)
        return found

    def assignment(self, route: Route, signalled: set[str]) -> dict[str, Track]:
        """The track that decides for each instrument that was seen on a route."""
        return {
            symbol: self._table.rung(route, symbol, self._journal.owner(route.name, symbol)).track
            for symbol in sorted(self._table.seen(route) | signalled)
        }

    def tracks(self, route: Route) -> list[TrackStatus]:
        """A route's versions as they stand."""
        tracks: list[TrackStatus] = []
        rungs: tuple[TrackRung | ShadowRung, ...] = (*route.tracks.values(), *route.standbys, *route.shadows)
        for rung in rungs:
            card = self._upstream.card(rung.target)
            tracks.append(
                TrackStatus(
                    track=rung.track,
                    version=rung.target.version,
                    endpoints=self._upstream.endpoints(rung.target),
                    weight=route.weights.get(rung.track, 0) / 100,
                    serving=card.version if card else None,
                    drift=card is not None and card.version != rung.target.version,
                    digest=card.digest if card else None,
                    calibrated=card.calibrated if card else None,
                    mirror=rung.mirror / 100 if isinstance(rung, ShadowRung) else None,
                )
            )
        return tracks

    def _route_status(self, route: Route, now: int, signalled: set[str]) -> RouteStatus:
        return RouteStatus(
            route=route.name,
            revision=route.revision,
            generation=route.generation,
            model=route.model,
            mode="paper" if route.gate.paper else "live",
            instruments=route.instruments,
            tracks=self.tracks(route),
            assignment=self.assignment(route, signalled),
            override=route.override,
            rolled_back=route.rolled_back.target.version if route.rolled_back else None,
            document_weights={track: slots / 100 for track, slots in self._routes[route.name].weights.items()},
            session=_session_status(route.sessions, now) if route.sessions is not None else None,
            shadows=self._shadow.summary(route),
        )

    # Life ------------------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> int:
        """How many requests were taken in so far."""
        return self._requests

    @property
    def table(self) -> Table:
        """The routing table in force."""
        return self._table

    @property
    def routes(self) -> dict[str, Route]:
        """The routes as their documents say, before levers."""
        return self._routes

    def prepare(self, route: Route) -> None:
        """Do for a route what need not be done in the moment in which it is put in force; see `take`."""
        self._metrics.initialise(route.name, rung_names(route))
        if self._watch is not None:
            self._watch.put(route)

    def take(self, routes: Sequence[Route]) -> None:
        """Put these routes in force, in one swap; requests under way keep the table that they began with.

        Decisions wait meanwhile. Of hundreds of routes each should have been prepared before, a few at a time.
        """
        for route in routes:
            self.prepare(route)
        self._routes = {route.name: route for route in routes}
        if self._watch is not None:
            self._watch.keep(self._routes)
        self._shadow.adopt(routes)
        self.refresh()

    def refresh(self) -> None:
        """Put the levers that hold now in force, in one swap."""
        levers, now = self._journal.levers, self._journal.now
        plans = self._journal.plans
        self._table = Table([effective(route, levers, now, plans.get(route.name)) for route in self._routes.values()])
        deadlines = {route.deadline for route in self._routes.values()} or {self._settings.rejection_deadline}
        self._loosest = max(deadlines)
        # where all are the same, `admit` has said all there is to say
        self._tightest = min(deadlines) if len(deadlines) > 1 else NEVER
        ends = [lever.expires for lever in levers if lever.expires is not None and lever.expires > now]
        self._refresh_at = min(ends, default=None)

    def refresh_if_lapsed(self) -> None:
        """The same, if a lever's time has come to its end since."""
        if self._refresh_at is not None and self._journal.now >= self._refresh_at:
            self.refresh()

    def unready(self) -> list[str]:
        """Why the router should get no traffic; empty when it should."""
        reasons: list[str] = []
        if self._draining:
            reasons.append("the router is shutting down")
        if not self._asked:
            reasons.append("the model servers have not been asked yet")
        if not self._table.routes and self._settings.needs_routes:
            reasons.append("there are no routes")
        if not self._journal.available:
            reasons.append("the journal cannot record decisions")
        return reasons

    def asked(self) -> None:
        """Every model server was asked once, whatever it answered: from now on the router degrades by rule."""
        self._asked = True

    async def close(self) -> None:
        """Give up what runs beside the requests. The journal and the way to the model servers are closed by whoever opened them."""
        await self._shadow.close()
        await self._batches.close()

    def drain(self) -> None:
        """Turn unready. What comes all the same is still decided: a load balancer needs time to notice."""
        self._draining = True

    def _refuse_late(self, rows: Sequence[Row | BadRow], wait: int) -> None:
        """The second look: `admit` could not know the rows' routes, and theirs may be tighter than the loosest one."""
        deadlines: list[int] = []
        for row in rows:
            if isinstance(row, Row):
                with suppress(SignalyardError):
                    deadlines += [route.deadline for route in self._table.match(row.symbol, row.route)]
        if deadlines and self._queueing.too_long(wait, min(deadlines)):
            raise self._too_late(wait)

    def _too_late(self, wait: int) -> SignalyardError:
        self._metrics.refused[Refusal.WAIT].inc()
        text = f"requests wait {wait / 1e6:.1f} ms for their turn, too long to be answered in time"
        return error(Problem.OVERLOADED, text)

    def _enter(self, rows: int) -> None:
        if self._in_flight + rows > self._settings.max_rows_in_flight and self._in_flight:
            self._metrics.refused[Refusal.ROWS].inc()
            raise error(
                Problem.OVERLOADED,
                f"{self._in_flight} rows are in flight, at most {self._settings.max_rows_in_flight} may be",
            )
        self._in_flight += rows


def _session_status(sessions: Sessions, now: int) -> SessionStatus:
    span = sessions.span_at(now)
    return SessionStatus(
        open=span is not None, trading_day=span.trading_day if span else None, until=sessions.next_change(now)
    )
