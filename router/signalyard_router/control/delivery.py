"""Plans on the move: counts what the canary does, and takes the steps that its plan's rules allow."""

import logging
from collections.abc import Callable, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, Counter

from signalyard.problems import RouterError
from signalyard_router.ports import Journal
from signalyard_router.router import Router
from signalyard_router.rules.levers import lapsed
from signalyard_router.rules.plan import Evidence, Plan, Progress, State, judge
from signalyard_router.rules.record import DecisionRecord
from signalyard_router.rules.route import Route
from signalyard_router.rules.split import SLOTS

Disagreement = Callable[[str, str], float | None]

_log = logging.getLogger("signalyard.router.delivery")


def _unknown(route: str, version: str) -> float | None:
    return None


class Delivery:
    """Moves plans. `observe` is told of every decision; `look` takes at most one step a route.

    ``disagreement`` gives a shadow's share of disagreement by route and version, None while it has compared too little.
    """

    def __init__(
        self, router: Router, journal: Journal, registry: CollectorRegistry, disagreement: Disagreement = _unknown
    ) -> None:
        self._router = router
        self._journal = journal
        self._disagreement = disagreement
        self._evidence: dict[str, tuple[Progress, Evidence]] = {}
        self._told: dict[str, Progress] = {}
        self._steps = Counter(
            "signalyard_plan_steps_total", "Steps of plans, by where they led", ["route", "state"], registry=registry
        )

    def observe(self, records: Sequence[DecisionRecord]) -> None:
        """Count decisions that the journal has confirmed."""
        plans = self._journal.plans
        if not plans:
            return
        routes = self._router.routes
        for record in records:
            route = routes.get(record.route)
            plan = route.plan if route is not None else None
            progress = plans.get(record.route)
            if plan is None or progress is None or progress.plan != plan.id or record.assigned != plan.version:
                continue
            if record.t >= progress.at:
                self._of(record.route, progress).count(
                    record.outcome,
                    record.reason,
                    failover=record.failover,
                    degraded=record.degraded,
                    confidence=record.confidence,
                    elapsed_us=record.elapsed_us,
                )

    async def look(self) -> None:
        """Take the steps that are due. A step that cannot be recorded is not taken, and tried again at the next look."""
        for route in list(self._router.routes.values()):
            if route.plan is None:
                continue
            try:
                await self._look_at(route, route.plan)
            except RouterError as exc:
                _log.warning('event=plan_step_not_recorded route=%s detail="%s"', route.name, exc)

    async def _look_at(self, route: Route, plan: Plan) -> None:
        for state in get_args(State):
            self._steps.labels(route.name, state)
        progress = self._journal.plans.get(route.name)
        current = progress is not None and progress.plan == plan.id
        if current and progress is not None and progress.state == "interrupted":
            self._tell_interrupted(route, progress)
            return
        if self._by_hand(route):
            return
        if not current or progress is None:
            await self._take(route, plan, 0, "running", plan.steps[0].canary, "the plan begins")
            return
        if progress.state != "running":
            return
        disagreement = self._disagreement(route.name, plan.version) if plan.checks.disagreement is not None else None
        verdict = judge(plan, progress, self._of(route.name, progress), self._journal.now, disagreement)
        match verdict.move:
            case "advance":
                step = progress.step + 1
                await self._take(route, plan, step, "running", plan.steps[step].canary, verdict.why)
            case "finish":
                await self._take(route, plan, progress.step, "done", progress.canary, verdict.why)
            case "back":
                await self._take(route, plan, progress.step, "back", 0, verdict.why)
            case "stay":
                return

    async def _take(self, route: Route, plan: Plan, step: int, state: State, canary: int, why: str) -> None:
        before = self._journal.plans.get(route.name)
        summary = self._of(route.name, before).summary() if before is not None and before.plan == plan.id else {}
        progress = Progress(plan=plan.id, step=step, state=state, canary=canary, at=0, why=why)
        if not await self._journal.step(route.name, progress, summary):
            return
        self._router.refresh()
        self._steps.labels(route.name, state).inc()
        level = logging.ERROR if state == "back" else logging.INFO
        _log.log(
            level,
            'event=plan_%s route=%s plan=%s step=%d canary=%g detail="%s"',
            state,
            route.name,
            plan.id,
            step + 1,
            100 * canary / SLOTS,
            why,
        )

    def _tell_interrupted(self, route: Route, progress: Progress) -> None:
        """The gate interrupts, for the lever's own record is what does it; it is counted and logged here, once."""
        if self._told.get(route.name) == progress:
            return
        self._told[route.name] = progress
        self._steps.labels(route.name, "interrupted").inc()
        _log.info(
            'event=plan_interrupted route=%s plan=%s step=%d canary=%g detail="%s"',
            route.name,
            progress.plan,
            progress.step + 1,
            100 * progress.canary / SLOTS,
            progress.why,
        )

    def _by_hand(self, route: Route) -> bool:
        """Whether a weight that was pulled by hand holds: then no plan begins."""
        return any(
            lever.route == route.name
            and lever.action in ("weight", "rollback")
            and not lapsed(lever, route, self._journal.now)
            for lever in self._journal.levers
        )

    def _of(self, route: str, progress: Progress) -> Evidence:
        """The evidence of a step; a new step begins with none."""
        known = self._evidence.get(route)
        if known is None or known[0] != progress:
            known = self._evidence[route] = (progress, Evidence())
        return known[1]
