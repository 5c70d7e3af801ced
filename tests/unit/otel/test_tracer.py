"""Traces of requests, over a real app, router and upstream, into memory."""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from signalyard._server.request import Request
from signalyard.problems import Problem, SignalyardError
from signalyard.profile import Feature, FeatureSchema, ModelCard
from signalyard_router.adapters.http.app import App
from signalyard_router.adapters.http.settings import HttpSettings
from signalyard_router.adapters.oip.settings import OipSettings
from signalyard_router.adapters.oip.upstream import OipUpstream
from signalyard_router.adapters.otel.settings import OtelSettings
from signalyard_router.adapters.otel.tracer import OtelTracer, tracer_to
from signalyard_router.journal.local import LocalJournal
from signalyard_router.journal.settings import JournalSettings
from signalyard_router.main import _tracer
from signalyard_router.router import Router
from signalyard_router.rules.documents import parse_document
from signalyard_router.settings import RouterSettings
from signalyard_router.testing.model_server import Behaviour, ModelServer, ServedModel
from signalyard_router.world.real import RealWorld

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECRET = "Bearer s3cr3t-planted"


class Stage:
    def __init__(self, folder: Any, share: float | None) -> None:
        self.folder = folder
        self.memory = InMemorySpanExporter()
        self.tracer: OtelTracer | None = None
        if share is not None:
            self.tracer = tracer_to(SimpleSpanProcessor(self.memory), share)
        card = ModelCard(
            model="m",
            version="7",
            digest="sha256:" + "7" * 64,
            calibrated=False,
            schema=FeatureSchema((Feature(name="p"),)),
        )
        self.server = ModelServer([ServedModel(card=card, score=lambda rows: [row[0] or 0.0 for row in rows])])
        self.sent: list[bytes] = []

    async def __aenter__(self) -> "Stage":
        self.world, registry = RealWorld(), CollectorRegistry()
        await self.server.start(self.world.network)
        self.journal = LocalJournal(self.world, JournalSettings(folder=str(self.folder)), registry)
        endpoint = {"service": "127.0.0.1", "port": self.server.port}
        spec = {
            "model": "m",
            "instruments": ["rb*.SHFE"],
            "deadline": "5s",
            "tracks": [{"name": "stable", "version": "7", "weight": 100, "endpoint": endpoint}],
            "mapping": {"long": {"enter": 0.6}, "short": {"enter": 0.4}},
        }
        document = parse_document(
            {"apiVersion": "signalyard.io/v1alpha1", "kind": "SignalRoute", "metadata": {"name": "r"}, "spec": spec},
            "t",
        )
        routes = await self.journal.accept([(document, "t")])
        self.upstream = OipUpstream(self.world, OipSettings(), registry, self.tracer)
        self._remember_heads()
        self.router = Router(
            self.world, RouterSettings(), routes, self.journal, self.upstream, registry, tracer=self.tracer
        )
        await self.upstream.start(self.router.table.targets())
        await self.upstream.first_round.wait()
        self.app = App(self.router, self.world.clock, HttpSettings(), registry, self.tracer)
        return self

    def _remember_heads(self) -> None:
        pools = self.upstream._pools
        of = pools.of

        def remembered(target: Any) -> Any:
            pool = of(target)
            if not hasattr(pool, "seen"):
                call, pool.seen = pool.call, True  # type: ignore[attr-defined]

                async def watched(head: bytes, *rest: Any) -> Any:
                    self.sent.append(head)
                    return await call(head, *rest)

                pool.call = watched  # type: ignore[method-assign]
            return pool

        pools.of = remembered  # type: ignore[method-assign]

    async def __aexit__(self, *_: object) -> None:
        await self.upstream.close()
        await self.journal.close()
        self.server.stop()
        if self.tracer is not None:
            self.tracer.close()

    async def ask(self, *headers: tuple[str, str]) -> int:
        snapshot = {"symbol": "rb1.SHFE", "ts_event": self.world.clock.wall(), "features": {"p": 0.7123}}
        request = Request(
            "POST",
            "/v1/predict",
            headers=[(name.encode(), value.encode()) for name, value in headers],
            body=json.dumps(snapshot).encode(),
            received=self.world.clock.monotonic(),
        )
        answer = await asyncio.create_task(self.app.answer(request))
        return answer.status

    def spans(self) -> dict[str, ReadableSpan]:
        found = self.memory.get_finished_spans()
        assert len({span.name for span in found}) == len(found)
        return {span.name: span for span in found}

    def scoring_heads(self) -> list[bytes]:
        return [head for head in self.sent if head.startswith(b"POST")]


def play(scenario: Any, folder: Any, share: float | None) -> None:
    async def run() -> None:
        async with Stage(folder, share) as stage:
            await scenario(stage)

    asyncio.run(run())


def text_of(spans: Sequence[ReadableSpan]) -> str:
    return " ".join(span.to_json() for span in spans)


def test_a_request_a_call_and_a_commit_in_one_trace(tmp_path: Any) -> None:
    async def scenario(stage: Stage) -> None:
        assert await stage.ask(("traceparent", CALLER), ("x-request-id", "mine"), ("authorization", SECRET)) == 200
        spans = stage.spans()
        assert set(spans) == {"predict", "call", "commit"}
        request, call, commit = spans["predict"], spans["call"], spans["commit"]
        assert request.parent is not None
        assert f"{request.parent.span_id:016x}" == CALLER.split("-")[2]
        assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {CALLER.split("-")[1]}
        for child in (call, commit):
            assert child.parent is not None
            assert child.parent.span_id == request.context.span_id
        assert request.attributes == {"signalyard.request_id": "mine"}
        assert call.attributes is not None
        assert (call.attributes["signalyard.rung"], call.attributes["signalyard.rows"]) == ("stable", 1)
        (head,) = stage.scoring_heads()
        assert f"traceparent: 00-{CALLER.split('-')[1]}-{call.context.span_id:016x}-01\r\n".encode() in head
        told = text_of(list(spans.values()))
        assert SECRET not in told
        assert "0.7123" not in told

    play(scenario, tmp_path, 0.0)


def test_without_a_caller_the_share_decides(tmp_path: Any) -> None:
    async def scenario(stage: Stage) -> None:
        assert await stage.ask() == 200
        assert set(stage.spans()) == {"predict", "call", "commit"}
        assert stage.spans()["predict"].parent is None

    play(scenario, tmp_path, 1.0)


@pytest.mark.parametrize("told", ["", CALLER[:-1] + "0", "garbage", "00-0-0-01"])
def test_what_is_not_sampled_leaves_no_span_and_the_context_goes_on(tmp_path: Any, told: str) -> None:
    async def scenario(stage: Stage) -> None:
        assert await stage.ask(*([("traceparent", told)] if told else [])) == 200
        assert stage.spans() == {}
        (head,) = stage.scoring_heads()
        (line,) = [line for line in head.split(b"\r\n") if line.startswith(b"traceparent: ")]
        assert not int(line[-2:], 16) & 1  # the bit that says sampled
        assert (CALLER.split("-")[1].encode() in line) == (told == CALLER[:-1] + "0")

    play(scenario, tmp_path, 0.0)


def test_a_failed_call_is_told_by_its_code_alone(tmp_path: Any) -> None:
    async def scenario(stage: Stage) -> None:
        stage.server.behaviour = Behaviour("garbage")
        assert await stage.ask() == 200
        call = stage.spans()["call"]
        assert call.status.description in set(Problem)
        assert call.attributes is not None
        assert call.attributes["error.type"] == call.status.description
        assert call.events == ()
        assert stage.spans()["predict"].status.is_ok or stage.spans()["predict"].status.is_unset

    play(scenario, tmp_path, 1.0)


def test_without_a_tracer_nothing_is_added(tmp_path: Any) -> None:
    async def scenario(stage: Stage) -> None:
        assert await stage.ask(("traceparent", CALLER)) == 200
        (head,) = stage.scoring_heads()
        assert b"traceparent" not in head

    play(scenario, tmp_path, None)


def test_without_an_endpoint_there_is_no_tracer() -> None:
    assert _tracer(OtelSettings()) is None


def test_without_the_extra_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "signalyard_router.adapters.otel.tracer", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    with pytest.raises(SignalyardError, match=r"signalyard\[otel\]") as raised:
        _tracer(OtelSettings(endpoint="http://127.0.0.1:1"))
    assert raised.value.problem is Problem.INVALID_SETTING
