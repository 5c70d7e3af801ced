"""The tracer on OpenTelemetry's API, and the provider behind it."""

from collections.abc import Awaitable, Iterable, Mapping
from typing import TypeVar

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from signalyard._release import release
from signalyard.problems import SignalyardError
from signalyard_router.adapters.otel.settings import OtelSettings

_T = TypeVar("_T")
_INCOMING = {b"traceparent": "traceparent", b"tracestate": "tracestate"}
_KINDS = {"call": SpanKind.CLIENT}


class OtelTracer:
    """Implements `signalyard_router.ports.Tracer`. An exception is told by its code or type: its text may quote the input."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("signalyard", release())
        self._wire = TraceContextTextMapPropagator()

    async def request(self, work: Awaitable[_T], headers: Iterable[tuple[bytes, bytes]], request_id: str) -> _T:
        told = {_INCOMING[name]: value.decode("latin-1") for name, value in headers if name in _INCOMING}
        parent = self._wire.extract(told) if told else None
        return await self._within(work, "predict", SpanKind.SERVER, {"signalyard.request_id": request_id}, parent)

    async def span(self, work: Awaitable[_T], name: str, attributes: Mapping[str, str | int]) -> _T:
        if not get_current_span().is_recording():  # its parent is not sampled, so it would not be
            return await work
        return await self._within(work, name, _KINDS.get(name, SpanKind.INTERNAL), attributes, None)

    def onwards(self) -> bytes:
        carrier: dict[str, str] = {}
        self._wire.inject(carrier)
        return "".join(f"{name}: {value}\r\n" for name, value in carrier.items()).encode("latin-1")

    def close(self) -> None:
        """Deliver what was recorded, and stop. It blocks for one delivery at most."""
        self._provider.shutdown()

    async def _within(
        self,
        work: Awaitable[_T],
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, str | int],
        parent: Context | None,
    ) -> _T:
        with self._tracer.start_as_current_span(
            name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                return await work
            except BaseException as exc:
                _failed(span, exc)
                raise


def _failed(span: Span, exc: BaseException) -> None:
    kind = str(exc.problem) if isinstance(exc, SignalyardError) else type(exc).__name__
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, kind))


def open_tracer(settings: OtelSettings) -> OtelTracer:
    """A tracer that delivers to the collector of the settings, from a thread of the library's own."""
    exporter = OTLPSpanExporter(settings.endpoint, timeout=settings.export_seconds)
    return tracer_to(BatchSpanProcessor(exporter, export_timeout_millis=settings.export_seconds * 1000), settings.share)


def tracer_to(processor: SpanProcessor, share: float) -> OtelTracer:
    """A tracer whose spans go to ``processor``."""
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(share)),
        resource=Resource.create({"service.name": "signalyard-router"}),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(processor)
    return OtelTracer(provider)
