"""A router that answers at once, and the app around it, called without a server."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry
from tests.promised import Promised

from signalyard._server.request import Request
from signalyard.wire import Decision, Observation, ObserveAnswer, Opinion, StateAnswer
from signalyard.words import Direction, Outcome, Reason
from signalyard_router.adapters.http.app import App
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.promise import Promise
from signalyard_router.rules.rows import BadRow, Row
from signalyard_router.testing.world import ManualClock


class FakeRouter:
    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.routes = ["rb-trend"]
        self.error: Exception | None = None
        self.reasons: list[str] = []

    def admit(self, received: int, remaining: int | None = None) -> None:
        pass

    async def decide(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> list[Decision]:
        self.calls.append({"rows": rows, "received": received, "remaining": remaining})
        if self.error is not None:
            raise self.error
        return [decision for row in rows for decision in self.decisions(row)]

    def submit(
        self, rows: Sequence[Row | BadRow], *, received: int | None = None, remaining: int | None = None
    ) -> Promise[list[Decision]]:
        return Promised(self.decide(rows, received=received, remaining=remaining))

    def decisions(self, row: Row | BadRow) -> list[Decision]:
        if isinstance(row, BadRow):
            return [
                Decision(
                    outcome=Outcome.REJECTED,
                    row=row.index,
                    symbol=row.symbol,
                    ts_event=row.ts_event,
                    proposal_id="p1",
                    elapsed_us=7,
                    problem=row.problem,
                )
            ]
        return [
            Decision(
                outcome=Outcome.SUPPRESSED,
                reason=Reason.DUPLICATE,
                row=row.index,
                symbol=row.symbol,
                ts_event=row.ts_event,
                route=route,
                proposal_id="p2",
                elapsed_us=7,
            )
            for route in self.routes
        ]

    def state(self, symbol: str | None = None, route: str | None = None) -> StateAnswer:
        opinion = Opinion(
            symbol=symbol or "any",
            route=route or "any",
            signal=Direction.LONG,
            signal_id="s-1",
            epoch=1,
            seq=1,
            ts_event=1,
            ts_init=1,
            ts_expire=2,
            live=True,
        )
        return StateAnswer(now=1, epoch=1, opinions=[opinion])

    def observe(self, observations: Sequence[Observation]) -> ObserveAnswer:
        if self.error is not None:
            raise self.error
        self.observations = list(observations)
        return ObserveAnswer(matched=0, waiting=len(observations), repeated=0)

    def shadow(self, route: str | None = None) -> dict[str, Any]:
        return {"now": 1, "comparisons": [], "route": route}

    def status(self) -> dict[str, Any]:
        return {"routes": []}

    def unready(self) -> list[str]:
        return self.reasons


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    def __init__(self, **settings: Any) -> None:
        self.router = FakeRouter()
        self.clock = ManualClock()
        self.registry = CollectorRegistry()
        self.app = App(self.router, self.clock, HttpSettings(**settings), self.registry)

    def __call__(
        self, method: str, target: str, body: bytes | Any = b"", headers: Sequence[tuple[str, str]] = ()
    ) -> Reply:
        path, _, query = target.partition("?")
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = Request(
            method,
            path,
            query.encode(),
            [(name.encode(), value.encode()) for name, value in headers],
            content,
            self.clock.monotonic(),
        )
        answer = asyncio.run(self.app.answer(request))
        found = {name.decode(): value.decode() for name, value in answer.headers}
        found |= {"content-type": answer.content_type.decode(), "x-request-id": request.id}
        return Reply(answer.status, found, answer.body)

    def predict(self, body: bytes | Any, headers: Sequence[tuple[str, str]] = ()) -> Reply:
        return self("POST", "/v1/predict", body, headers)

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def call() -> Caller:
    return Caller()


@pytest.fixture
def caller() -> Callable[..., Caller]:
    return Caller
