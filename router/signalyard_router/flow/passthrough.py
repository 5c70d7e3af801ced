"""Inference calls that are passed through: split, budget, ladder and shadow as for signals, and no signal.

A call is in the journal before it is answered, as a decision is: an answer that is in no record could be attributed to nobody.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from signalyard.problems import CallerError, Problem, SignalyardError, error
from signalyard.profile import ModelCard
from signalyard_router.flow.call_metrics import CallMetrics
from signalyard_router.flow.copies import Copies
from signalyard_router.flow.correlation import REQUEST_ID
from signalyard_router.flow.steps import passed_over, tried
from signalyard_router.ports import CallFailed, Journal, Passed, Upstream, World
from signalyard_router.rules.budget import Budget, budget
from signalyard_router.rules.calling import Choice, choose
from signalyard_router.rules.inference import SYMBOL, Call, Inference, Inferred, digest_of
from signalyard_router.rules.proposal import Step
from signalyard_router.rules.record import CallRecord
from signalyard_router.rules.route import FlatRung, ModelRung, Route, Target, TrackRung
from signalyard_router.rules.table import Table
from signalyard_router.rules.tensors import Tensor, TensorError


class Answered(msgspec.Struct, frozen=True):
    """An answer, and the record that it stands in."""

    answer: Inferred
    record: CallRecord


class _Climb(msgspec.Struct):
    """How far a call has come on the ladder: who answered it, or why the last rung did not."""

    steps: list[Step] = []
    failure: SignalyardError | None = None
    answer: Inferred | None = None
    output: str = ""
    rung: TrackRung | ModelRung | None = None
    failover: bool = False


class Passthrough:
    """Passes calls on to the tracks of the routes of a model. ``table`` gives the routing table in force."""

    def __init__(
        self,
        world: World,
        table: Callable[[], Table],
        journal: Journal,
        upstream: Upstream,
        metrics: CallMetrics,
        *,
        keep_inputs: bool = False,
    ) -> None:
        self._clock = world.clock
        self._random = world.random_bytes
        self._table = table
        self._journal = journal
        self._upstream = upstream
        self._metrics = metrics
        self._keep_inputs = keep_inputs
        self._copies = Copies(upstream, world.clock, metrics)

    async def close(self) -> None:
        """Give up what runs beside the calls."""
        await self._copies.close()

    async def infer(self, asked: Inference, *, received: int, remaining: int | None = None) -> Answered:
        """The model's answer, and its record.

        ``received`` is when the call was fully read, monotonic nanoseconds; ``remaining`` how long its caller waits. Raises CallerError
        where the call is bad (see `rules.calling.choose`), or the model server says so; ModelError where no rung answers: both are
        recorded once the call has a route. RouterError where it could not be recorded in time: journal_unavailable, deadline_exceeded.
        """
        try:
            fingerprint = digest_of(asked.inputs)
        except TensorError as exc:
            raise error(Problem.INVALID_INFERENCE, str(exc), "/inputs") from exc
        said = asked.timeout()
        if said is not None:
            remaining = said if remaining is None else min(said, remaining)
        choice = choose(asked, self._table(), self._journal.owner, self._random)
        times = budget(choice.route, received, remaining)
        climb = _Climb()
        await self._climb(climb, choice, asked, times)
        record = await self._record(self._call(climb, choice, asked, times, fingerprint), times)
        self._metrics.ended(record, self._clock.monotonic() - received)
        if climb.answer is None:
            assert climb.failure is not None, "there is an answer or a failure"
            raise climb.failure
        if choice.route.shadows:
            # once the answer has been written
            send = self._copies.send
            asyncio.get_running_loop().call_soon(send, choice.route, choice.mirror, asked, climb.output)
        return Answered(climb.answer, record)

    async def _climb(self, climb: _Climb, choice: Choice, asked: Inference, times: Budget) -> None:
        """Ask one rung after the other until one answers, or says that the caller is to blame."""
        route = choice.route
        rungs = [rung for rung in choice.rungs if not isinstance(rung, FlatRung)]
        refused = route.on_drift == "refuse" and self._drifted(rungs[0].target)
        for depth, rung in enumerate(rungs[:1] if refused else rungs):
            until = times.rung_until(self._clock.monotonic(), len(rungs) - depth)
            try:
                climb.answer, climb.output = await self._ask(climb.steps, rung, route, asked, until)
            except SignalyardError as exc:
                climb.failure = exc
                if isinstance(exc, CallerError):
                    return
            else:
                climb.rung, climb.failover = rung, depth > 0
                return

    async def _ask(
        self, steps: list[Step], rung: TrackRung | ModelRung, route: Route, asked: Inference, until: int
    ) -> tuple[Inferred, str]:
        """One rung's answer, and the digest of its outputs. Raises ModelError, CallerError."""
        target, started = rung.target, self._clock.monotonic()
        name = rung.track if isinstance(rung, TrackRung) else "model"
        share = until - started
        try:
            card = self._fit(route, target, share)
            passed = await self._upstream.infer(target, card, asked, until)
            steps += tried(name, card, passed.tries, share)
            output = _digest(passed.answer.outputs)
        except CallFailed as exc:
            elapsed = self._clock.monotonic() - started
            step = passed_over(name, target, exc.problem, exc.detail, share, elapsed)
            steps += tried(name, card, exc.tries, share) or [step]
            raise
        except SignalyardError as exc:
            steps.append(passed_over(name, target, exc.problem, exc.detail))
            raise
        steps.append(_answered(name, passed, share, self._clock.monotonic() - started))
        return passed.answer, output

    def _fit(self, route: Route, target: Target, share: int) -> ModelCard:
        """What the target's endpoints have. Raises ModelError where they are not to be asked."""
        card = self._upstream.card(target)
        if card is None:
            raise error(Problem.MODEL_UNREACHABLE, "its schema has not been learnt: it never answered")
        if card.version != target.version and route.on_drift != "serve":
            detail = f"its endpoints have version {card.version}, and onDrift is {route.on_drift}"
            raise error(Problem.MODEL_UNKNOWN, detail)
        if share <= 0:
            raise error(Problem.MODEL_TIMEOUT, "the budget was spent before it was asked")
        return card

    def _drifted(self, target: Target) -> bool:
        card = self._upstream.card(target)
        return card is not None and card.version != target.version

    def _call(self, climb: _Climb, choice: Choice, asked: Inference, times: Budget, fingerprint: str) -> Call:
        route, answer, rung = choice.route, climb.answer, climb.rung
        return Call(
            route=route.name,
            revision=route.revision,
            generation=route.generation,
            wire=asked.wire,
            model=route.model,
            asked=asked.model if asked.version is None else f"{asked.model}:{asked.version}",
            input=fingerprint,
            ts_recv=self._clock.wall() - (self._clock.monotonic() - times.received),
            received=times.received,
            budget=times.total,
            symbol=asked.text(SYMBOL) or "",
            client_id=asked.id,
            output=climb.output,
            answered=answer,
            track=rung.track if isinstance(rung, TrackRung) else None,
            assigned=choice.assigned,
            failover=climb.failover,
            drift=answer is not None and rung is not None and answer.version != rung.target.version,
            problem=climb.failure.details if answer is None and climb.failure is not None else None,
            steps=climb.steps,
            request_id=REQUEST_ID.get(),
            inputs=[_kept(tensor) for tensor in asked.inputs] if self._keep_inputs else None,
        )

    async def _record(self, call: Call, times: Budget) -> CallRecord:
        """Have it recorded before its time is over."""
        recorded = self._journal.call(call)
        if self._journal.prompt:
            (record,) = await recorded
            return record
        seconds = max(0.0, (times.commit_by - self._clock.monotonic()) / 1e9)
        try:
            async with asyncio.timeout(seconds):
                (record,) = await recorded
        except TimeoutError as exc:
            raise error(Problem.DEADLINE_EXCEEDED, "the journal did not confirm the call in time") from exc
        return record


def _answered(rung: str, passed: Passed, share: int, elapsed: int) -> Step:
    answer = passed.answer
    return Step(
        rung=rung,
        result="answered",
        model=answer.model,
        version=answer.version,
        endpoint=passed.endpoint,
        digest=answer.digest,
        budget_us=share // 1000,
        elapsed_us=elapsed // 1000,
        again=bool(passed.tries),
    )


def _digest(outputs: Sequence[Tensor]) -> str:
    try:
        return digest_of(outputs)
    except TensorError as exc:
        raise error(Problem.MODEL_ANSWER_WRONG_SHAPE, str(exc), "/outputs") from exc


def _kept(tensor: Tensor) -> Mapping[str, Any]:
    """An input as the journal keeps it whole: its content as it came, ``packed`` in base64."""
    content = {"packed": tensor.packed} if tensor.packed is not None else {"data": msgspec.Raw(tensor.as_written())}
    return {
        "name": tensor.name,
        "datatype": tensor.datatype,
        "shape": tensor.shape,
        "parameters": tensor.parameters,
        **content,
    }
