"""OpenTelemetry traces: a span per request, and one per stage. Needs the extra ``trimtab[otel]``.

Spans are made when a request is finished, from what was measured anyway; nothing is done before, and nothing at all
where tracing is off.
"""

from __future__ import annotations

from typing import Any

from trimtab.adapters.wire.accesslog import Finished
from trimtab.errors import MissingExtra

_GRPC_CODES = {
    "OK": 0, "CANCELLED": 1, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "RESOURCE_EXHAUSTED": 8,
    "INTERNAL": 13, "UNAVAILABLE": 14,
}  # fmt: skip
_EXTRA = "pip install 'trimtab[otel]'"


class Traces:
    """Turns finished requests into spans.

    Parameters
    ----------
    provider
        An OpenTelemetry ``TracerProvider``; :func:`open_traces` makes the usual one.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("trimtab.serving")
        self._parent = TraceContextTextMapPropagator()
        self._server, self._failed = SpanKind.SERVER, Status(StatusCode.ERROR)

    def add(self, done: Finished) -> None:
        """Make the spans of a request, when the caller's trace, or the sampler, wants them."""
        start = done.when * 1000
        end = start + done.took_us * 1000
        parent = self._parent.extract({"traceparent": done.traceparent}) if done.traceparent else None
        name = done.path[1:] if done.grpc else f"{done.method} {done.route}".strip() or "HTTP"
        attributes = (_of_grpc(done) if done.grpc else _of_http(done)) | {"trimtab.request_id": done.request_id}
        span = self._tracer.start_span(name, context=parent, kind=self._server, start_time=start, attributes=attributes)
        if span.is_recording():
            if done.model:
                answer = {"model": done.model, "version": done.version, "arm": done.arm, "rows": done.rows}
                span.set_attributes({f"trimtab.{name}": value for name, value in answer.items()})
            if done.status >= 500:
                span.set_status(self._failed)
            self._stages(span, done, start)
        span.end(end_time=end)

    def close(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()

    def _stages(self, span: Any, done: Finished, at: int) -> None:
        from opentelemetry.trace import set_span_in_context

        inside = set_span_in_context(span)
        for stage, us in done.stages.items():
            child = self._tracer.start_span(stage, context=inside, start_time=at)
            at += us * 1000
            child.end(end_time=at)


def _of_http(done: Finished) -> dict[str, Any]:
    return {
        "http.request.method": done.method,
        "http.response.status_code": done.status,
        "http.route": done.route,
        "url.path": done.path[:200],
        "url.scheme": "http",
    }


def _of_grpc(done: Finished) -> dict[str, Any]:
    service, _, method = done.path[1:].partition("/")
    code = _GRPC_CODES.get(done.grpc, 2)
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method, "rpc.grpc.status_code": code}


def open_traces(share: float, *, software: str) -> Traces:
    """Traces that are sent over OTLP/HTTP; where to is said by the usual ``OTEL_EXPORTER_OTLP_*`` variables.

    Parameters
    ----------
    share
        Of the requests that come without a trace; for the others the caller has decided.

    Raises
    ------
    MissingExtra
        When OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError as error:
        raise MissingExtra("traces need OpenTelemetry", got=str(error), hint=_EXTRA) from None
    resource = Resource.create({"service.name": "trimtab", "service.version": software})
    provider = TracerProvider(resource=resource, sampler=ParentBasedTraceIdRatio(share))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Traces(provider)
