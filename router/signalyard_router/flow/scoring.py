"""Scoring: the rows that go to one track travel together, in chunks; those that got no answer climb down the ladder together."""

import asyncio
from collections.abc import Iterable, Sequence
from operator import is_

from signalyard.problems import Problem, SignalyardError
from signalyard.profile import ModelCard
from signalyard.words import Reason
from signalyard_router.flow.case import Case
from signalyard_router.flow.metrics import FlowMetrics
from signalyard_router.flow.steps import passed_over, tried
from signalyard_router.ports import CallFailed, Clock, Journal, Scored, Tracer, Upstream
from signalyard_router.rules.budget import Budget
from signalyard_router.rules.check import Checker, refuse_unknown, unknown_feature
from signalyard_router.rules.chunks import chunks
from signalyard_router.rules.proposal import Answer, Step
from signalyard_router.rules.route import FlatRung, LadderRung, ModelRung, Route, Target, TrackRung

_PERHAPS_A_ROW = (
    Problem.MODEL_FAILED,
    Problem.MODEL_ANSWER_MALFORMED,
    Problem.MODEL_ANSWER_WRONG_SHAPE,
    Problem.MODEL_ANSWER_NOT_FINITE,
)
"""Failures that one row of a call may have caused; the other requests' rows have not earned them."""


class Scoring:
    """Finds each case an answer, or establishes that there is none. Remembers since when a track has been out."""

    def __init__(
        self,
        upstream: Upstream,
        journal: Journal,
        clock: Clock,
        metrics: FlowMetrics,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._upstream = upstream
        self._journal = journal
        self._clock = clock
        self._metrics = metrics
        self._checkers: dict[Target, tuple[ModelCard, Checker]] = {}
        self._names: dict[str, _Names] = {}
        self._outages: dict[tuple[str, TrackRung], int] = {}

    def check(self, cases: Iterable[Case]) -> None:
        """Hold rows against the schema of the version that is to score them; a bad one is rejected, not degraded.

        Where that version's schema is not known yet, or another version's is in force that may not answer, rows are not judged.
        """
        route: Route | None = None
        rung: TrackRung | None = None
        checker: Checker | None = None
        for case in cases:
            if case.route is not route or case.rung is not rung:
                # Once for as many rows as go the same way; nothing changes while they are looked at.
                route, rung = case.route, case.rung
                card = self._upstream.card(rung.target)
                allowed = card is not None and _allowed(route, rung.target, card)
                checker = self._checker(rung.target, card) if card is not None and allowed else None
                names = self._names_of(route)
            if checker is None:
                continue
            try:
                names.refuse_unknown(case.row.columns)
                case.vector = checker.vector(case.row.columns, case.row.values)
                case.checker = checker
            except SignalyardError as exc:
                case.problem = exc.details

    async def climb(self, cases: Sequence[Case]) -> None:
        """Score cases of one route and one first rung, down the ladder while there is no answer, within the budget of the first."""
        route, first, budget = cases[0].route, cases[0].rung, cases[0].budget
        rungs: Sequence[LadderRung] = (first, *(rung for rung in route.ladder if rung != first))
        refused = route.on_drift == "refuse" and self._drifted(first.target)
        calls_left = sum(1 for rung in rungs if not isinstance(rung, FlatRung))
        waiting = list(cases)
        for depth, rung in enumerate(rungs):
            if isinstance(rung, FlatRung):
                waiting = self._flatten(rung, route, first, waiting)
            elif depth == 0 or not refused:
                waiting = await self._call(rung, depth, waiting, budget, calls_left)
                calls_left -= 1
            if not waiting:
                return
        for case in waiting:
            case.abstain = Reason.VERSION_DRIFT if refused else Reason.NO_ANSWER
            case.degraded = True
            self._metrics.degraded(route.name, "skip")

    async def _call(
        self, rung: TrackRung | ModelRung, depth: int, cases: list[Case], budget: Budget, calls_left: int
    ) -> list[Case]:
        """Ask one target for the rows that fit its schema, in chunks; the answer is the cases that still wait."""
        route, target = cases[0].route, rung.target
        name = rung.track if isinstance(rung, TrackRung) else "model"
        started = self._clock.monotonic()
        until = budget.rung_until(started, calls_left)
        card = self._upstream.card(target)
        if card is None:
            self._out(cases)
            step = passed_over(
                name, target, Problem.MODEL_UNREACHABLE, "its schema has not been learnt: it never answered"
            )
            return _note(cases, step)
        if not _allowed(route, target, card):
            self._out(cases)
            detail = f"its endpoints have version {card.version}, and onDrift is {route.on_drift}"
            return _note(cases, passed_over(name, target, Reason.VERSION_DRIFT, detail))
        if until <= started:
            self._out(cases)
            return _note(
                cases, passed_over(name, target, Problem.MODEL_TIMEOUT, "the budget was spent before it was asked")
            )
        asked, misfits = _fitting(cases, self._checker(target, card), name, target)
        if not asked:
            return misfits
        if len(asked) == 1:
            unanswered = await self._ask(rung, depth, asked, card, until)
        else:
            unanswered = await self._in_chunks(rung, depth, asked, card, until)
        if unanswered:
            unanswered = await self._again(rung, depth, unanswered, card, until)
        if len(unanswered) == len(asked):
            self._out(cases)
        elif self._outages:
            self._outages.pop((route.name, cases[0].rung), None)
        return unanswered + misfits

    async def _in_chunks(
        self, rung: TrackRung | ModelRung, depth: int, cases: list[Case], card: ModelCard, until: int
    ) -> list[Case]:
        """As many calls as the budget asks for; the answer is the cases that still wait."""
        most = self._upstream.chunk(rung.target, until - self._clock.monotonic())
        if len(cases) <= most:
            return await self._ask(rung, depth, cases, card, until)
        parts = [cases[part] for part in chunks(len(cases), most)]
        left = await asyncio.gather(*(self._ask(rung, depth, part, card, until) for part in parts))
        return [case for part in left for case in part]

    async def _again(
        self, rung: TrackRung | ModelRung, depth: int, cases: list[Case], asked: ModelCard, until: int
    ) -> list[Case]:
        """Ask once more where the track went over to another bundle while its rows were on their way to the one before, which is gone.

        The answer is the cases that still wait.
        """
        route, target = cases[0].route, rung.target
        card = self._upstream.card(target)
        if card is None or (card.version, card.digest) == (asked.version, asked.digest):
            return cases
        if not _allowed(route, target, card) or until <= self._clock.monotonic():
            return cases
        name = rung.track if isinstance(rung, TrackRung) else "model"
        fit, misfit = _fitting(cases, self._checker(target, card), name, target)
        return misfit + (await self._in_chunks(rung, depth, fit, card, until) if fit else [])

    def _out(self, cases: Sequence[Case]) -> None:
        """The track of these gave no answer: if it was not out before, it is from now on."""
        self._outages.setdefault((cases[0].route.name, cases[0].rung), self._time())

    async def _ask(
        self, rung: TrackRung | ModelRung, depth: int, cases: list[Case], card: ModelCard, until: int
    ) -> list[Case]:
        """One call, or where a row of one request may have spoilt it for the others, one more for each; the answer is the cases that
        still wait."""
        name = rung.track if isinstance(rung, TrackRung) else "model"
        started = self._clock.monotonic()
        budget = until - started
        try:
            call = self._upstream.score(rung.target, card, [case.vector or [] for case in cases], until)
            if self._tracer is None:
                scored = await call
            else:
                scored = await self._tracer.span(call, "call", _traced(cases[0].route, name, rung.target, len(cases)))
        except CallFailed as exc:
            elapsed = self._clock.monotonic() - started
            steps = tried(name, card, exc.tries, budget) or [
                passed_over(name, rung.target, exc.problem, exc.detail, budget, elapsed)
            ]
            for step in steps:
                _note(cases, step)
            if exc.problem not in _PERHAPS_A_ROW or until <= self._clock.monotonic():
                return cases
            apart = _by_request(cases)
            if len(apart) == 1:
                return cases
            left = await asyncio.gather(*(self._ask(rung, depth, part, card, until) for part in apart))
            return [case for part in left for case in part]
        elapsed = self._clock.monotonic() - started
        if scored.tries:
            for step in tried(name, card, scored.tries, budget):
                _note(cases, step)
        self._take(rung, depth, cases, scored, budget, elapsed)
        return []

    def _take(
        self,
        rung: TrackRung | ModelRung,
        depth: int,
        cases: Sequence[Case],
        scored: Scored,
        budget: int,
        elapsed: int,
    ) -> None:
        track = rung.track if isinstance(rung, TrackRung) else None
        answer = scored.rows
        step = Step(
            rung=track or "model",
            result="answered",
            model=answer.model,
            version=answer.version,
            endpoint=scored.endpoint,
            digest=answer.digest,
            budget_us=budget // 1000,
            elapsed_us=elapsed // 1000,
            again=bool(scored.tries),
        )
        drift = answer.version != rung.target.version
        for index, case in enumerate(cases):
            case.steps.append(step)
            if depth:
                case.degraded = track is None
                self._metrics.degraded(case.route.name, "standby" if track else "model")
            score = answer.score[index]
            if answer.row_error[index] or score is None:
                case.abstain = Reason.ROW_ERROR
                case.steps.append(
                    Step(
                        rung="row",
                        result=Reason.ROW_ERROR,
                        model=answer.model,
                        version=answer.version,
                        endpoint=scored.endpoint,
                        detail=answer.row_error[index],
                    )
                )
                continue
            confidence = answer.confidence[index] if answer.confidence is not None else None
            case.answer = Answer(
                float(score), confidence, answer.model, answer.version, answer.digest, track, depth > 0, drift
            )

    def _flatten(self, rung: FlatRung, route: Route, first: TrackRung, cases: list[Case]) -> list[Case]:
        """The cases that are not to be closed. Whether something is open, and the ceiling, are judged by the gate again."""
        now = self._time()
        lasted = now - self._outages.get((route.name, first), now)
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

    def _time(self) -> int:
        """What outages are measured by: a clock that never steps, or the events' own time where they are what drives the journal.

        A wall clock set forward would make an outage of a moment look like one of hours, and close what is open.
        """
        return self._journal.now if self._journal.event_time else self._clock.monotonic()

    def _drifted(self, target: Target) -> bool:
        card = self._upstream.card(target)
        return card is not None and card.version != target.version

    def _checker(self, target: Target, card: ModelCard) -> Checker:
        cached = self._checkers.get(target)
        if cached is not None and cached[0] is card:
            return cached[1]
        checker = Checker(card.schema)
        self._checkers[target] = (card, checker)
        return checker

    def _names_of(self, route: Route) -> "_Names":
        names = self._names.get(route.name)
        if (
            names is None
            or names.route is not route
            or not all(map(is_, names.cards, map(self._upstream.card, names.targets)))
        ):
            targets = tuple(route.targets())
            names = self._names[route.name] = _Names(route, targets, tuple(map(self._upstream.card, targets)))
        return names


class _Names:
    """The features that some version of a route knows, as long as its versions have these cards."""

    def __init__(self, route: Route, targets: tuple[Target, ...], cards: tuple[ModelCard | None, ...]) -> None:
        self.route = route
        self.targets = targets
        self.cards = cards
        self._known = frozenset(name for card in cards if card for name in card.schema.names)
        self._good: tuple[str, ...] | None = None

    def refuse_unknown(self, columns: tuple[str, ...]) -> None:
        """Raise CallerError (unknown_feature), unless a version that has not been learnt yet may know the column."""
        # The rows of a request, and mostly those of the next one, share their columns.
        if columns is self._good or None in self.cards:
            return
        if (name := unknown_feature(columns, self._known)) is not None:
            raise refuse_unknown(name, self._known)
        self._good = columns


def _allowed(route: Route, target: Target, card: ModelCard) -> bool:
    """Whether what a target's endpoints serve may answer for the version that the document names."""
    return card.version == target.version or route.on_drift == "serve"


def _traced(route: Route, rung: str, target: Target, rows: int) -> dict[str, str | int]:
    return {
        "signalyard.route": route.name,
        "signalyard.rung": rung,
        "signalyard.model": target.model,
        "signalyard.version": target.version,
        "signalyard.rows": rows,
    }


def _fitting(cases: list[Case], checker: Checker, rung: str, target: Target) -> tuple[list[Case], list[Case]]:
    """Those whose rows fit the version's schema, their vectors in its order, and those whose rows do not."""
    fit: list[Case] = []
    misfit: list[Case] = []
    for case in cases:
        if case.checker is checker:
            fit.append(case)
            continue
        try:
            case.vector = checker.vector(case.row.columns, case.row.values)
        except SignalyardError as exc:
            case.steps.append(passed_over(rung, target, exc.problem, exc.detail))
            misfit.append(case)
        else:
            case.checker = checker
            fit.append(case)
    return fit, misfit


def _by_request(cases: list[Case]) -> list[list[Case]]:
    """Cases by the requests that they came in."""
    parts: dict[int, list[Case]] = {}
    for case in cases:
        parts.setdefault(case.request, []).append(case)
    return list(parts.values())


def _note(cases: list[Case], step: Step) -> list[Case]:
    for case in cases:
        case.steps.append(step)
    return cases
