"""Scoring: the rows that go to one track travel in one call; where it gives no answer they climb down the ladder together."""

from collections.abc import Sequence
from operator import is_

from signalyard.problems import ModelError, Problem, SignalyardError
from signalyard.profile import ModelCard, ScoredRows
from signalyard.words import Reason
from signalyard_router.flow.case import Case
from signalyard_router.flow.metrics import FlowMetrics
from signalyard_router.ports import Clock, Journal, Upstream
from signalyard_router.rules.budget import Budget
from signalyard_router.rules.check import Checker, refuse_unknown, unknown_feature
from signalyard_router.rules.proposal import Answer, Step
from signalyard_router.rules.route import FlatRung, ModelRung, Route, Target, TrackRung


class Scoring:
    """Finds each case an answer, or establishes that there is none. Remembers since when a track has been out."""

    def __init__(self, upstream: Upstream, journal: Journal, clock: Clock, metrics: FlowMetrics) -> None:
        self._upstream = upstream
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._checkers: dict[Target, tuple[ModelCard, Checker]] = {}
        self._names: dict[str, tuple[tuple[ModelCard | None, ...], frozenset[str] | None]] = {}
        self._outages: dict[tuple[str, TrackRung], int] = {}

    def check(self, case: Case) -> None:
        """Hold the row against the schema of the version that is to score it; a bad one is rejected, not degraded.

        Where that version's schema is not known yet, the row is not judged.
        """
        checker = self._checker(case.rung.target)
        if checker is None:
            return
        try:
            known = self._known(case.route)
            if known is not None and (name := unknown_feature(case.row.columns, known)) is not None:
                raise refuse_unknown(name, known)
            case.vector = checker.vector(case.row.columns, case.row.values)
        except SignalyardError as exc:
            case.problem = exc.details

    async def climb(self, cases: Sequence[Case]) -> None:
        """Score cases of one route, one first rung and one budget, down the ladder while there is no answer."""
        route, first, budget = cases[0].route, cases[0].rung, cases[0].budget
        rungs = (first, *(rung for rung in route.ladder if rung != first))
        calls_left = sum(1 for rung in rungs if not isinstance(rung, FlatRung))
        waiting = list(cases)
        for depth, rung in enumerate(rungs):
            if isinstance(rung, FlatRung):
                waiting = self._flatten(rung, route, first, waiting)
            else:
                waiting = await self._call(rung, depth, waiting, budget, calls_left)
                calls_left -= 1
            if not waiting:
                return
        for case in waiting:
            case.abstain = Reason.NO_ANSWER
            case.degraded = True
            self._metrics.degraded(route.name, "skip")

    async def _call(
        self, rung: TrackRung | ModelRung, depth: int, cases: list[Case], budget: Budget, calls_left: int
    ) -> list[Case]:
        """Ask one target for the rows that fit its schema; the answer is the cases that still wait."""
        route, target = cases[0].route, rung.target
        name = rung.track if isinstance(rung, TrackRung) else "model"
        started = self._clock.monotonic()
        until = budget.rung_until(started, calls_left)
        checker = self._checker(target)
        if checker is None:
            step = _step(name, target, Problem.MODEL_UNREACHABLE, "its schema has not been learnt: it never answered")
            return _note(cases, step)
        if until <= started:
            return _note(cases, _step(name, target, Problem.MODEL_TIMEOUT, "the budget was spent before it was asked"))
        asked, passed_over = _fitting(cases, checker, name, target) if depth else (cases, [])
        if not asked:
            return passed_over
        vectors = [case.vector for case in asked if case.vector is not None]
        try:
            answer = await self._upstream.score(target, checker.columns, vectors, until)
        except ModelError as exc:
            elapsed = self._clock.monotonic() - started
            self._outages.setdefault((route.name, cases[0].rung), self._journal.now)
            step = _step(name, target, exc.problem, exc.detail, until - started, elapsed)
            return _note(asked, step) + passed_over
        elapsed = self._clock.monotonic() - started
        self._outages.pop((route.name, cases[0].rung), None)
        step = _step(name, target, "answered", "", until - started, elapsed, answer.digest)
        self._take(rung, depth, asked, answer, step)
        return passed_over

    def _take(
        self, rung: TrackRung | ModelRung, depth: int, cases: Sequence[Case], answer: ScoredRows, step: Step
    ) -> None:
        track = rung.track if isinstance(rung, TrackRung) else None
        for index, case in enumerate(cases):
            case.steps.append(step)
            if depth:
                case.degraded = track is None
                self._metrics.degraded(case.route.name, "standby" if track else "model")
            score = answer.score[index]
            if answer.row_error[index] or score is None:
                case.abstain = Reason.ROW_ERROR
                case.steps.append(_step("row", rung.target, Reason.ROW_ERROR, answer.row_error[index]))
                continue
            confidence = answer.confidence[index] if answer.confidence is not None else None
            case.answer = Answer(
                float(score), confidence, answer.model, answer.version, answer.digest, track, failover=depth > 0
            )

    def _flatten(self, rung: FlatRung, route: Route, first: TrackRung, cases: list[Case]) -> list[Case]:
        """The cases that are not to be closed. Whether something is open, and the ceiling, are judged by the gate again."""
        since = self._outages.setdefault((route.name, first), self._journal.now)
        lasted = self._journal.now - since
        if lasted < rung.after:
            step = Step(
                rung="flat", result="waiting", detail=f"out for {lasted / 1e9:.3f} s, asked is {rung.after / 1e9:g} s"
            )
            return _note(cases, step)
        for case in cases:
            case.flat = case.degraded = True
            case.steps.append(Step(rung="flat", result="answered", detail=f"out for {lasted / 1e9:.3f} s"))
            self._metrics.degraded(route.name, "flat")
        return []

    def _checker(self, target: Target) -> Checker | None:
        card = self._upstream.card(target)
        if card is None:
            return None
        cached = self._checkers.get(target)
        if cached is not None and cached[0] is card:
            return cached[1]
        checker = Checker(card.schema)
        self._checkers[target] = (card, checker)
        return checker

    def _known(self, route: Route) -> frozenset[str] | None:
        """Every feature that some version of the route knows, or None while one of the versions has not been learnt."""
        cards = tuple(self._upstream.card(target) for target in route.targets())
        cached = self._names.get(route.name)
        if cached is not None and all(map(is_, cached[0], cards)) and len(cached[0]) == len(cards):
            return cached[1]
        names = None if None in cards else frozenset(name for card in cards if card for name in card.schema.names)
        self._names[route.name] = (cards, names)
        return names


def _fitting(cases: list[Case], checker: Checker, rung: str, target: Target) -> tuple[list[Case], list[Case]]:
    """Those whose rows fit another version's schema, their vectors made anew, and those whose rows do not."""
    fit: list[Case] = []
    misfit: list[Case] = []
    for case in cases:
        try:
            case.vector = checker.vector(case.row.columns, case.row.values)
        except SignalyardError as exc:
            case.steps.append(_step(rung, target, exc.problem, exc.detail))
            misfit.append(case)
        else:
            fit.append(case)
    return fit, misfit


def _note(cases: list[Case], step: Step) -> list[Case]:
    for case in cases:
        case.steps.append(step)
    return cases


def _step(
    rung: str, target: Target, result: str, detail: str, budget: int = 0, elapsed: int = 0, digest: str = ""
) -> Step:
    return Step(
        rung=rung,
        result=result,
        model=target.model,
        version=target.version,
        endpoint=f"{target.host}:{target.port}",
        digest=digest,
        budget_us=budget // 1000,
        elapsed_us=elapsed // 1000,
        detail=detail,
    )
