"""Spans of a request: its stages inside it, inside the caller's trace, and none where nobody wants them."""

import sys

import pytest

from trimtab.adapters.wire.accesslog import Finished
from trimtab.errors import MissingExtra

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNWANTED = PARENT[:-2] + "00"
DONE = Finished(
    1_000_000, 900, "r1", "POST", "/predict/m", "/predict/{model}", 200, "m", "v1", "champion", 2,
    {"decode": 10, "queue": 40, "infer": 300},
)  # fmt: skip


def with_parent(traceparent, **more):
    fields = {name: getattr(DONE, name) for name in DONE.__struct_fields__}
    return Finished(**{**fields, "traceparent": traceparent, **more})


@pytest.fixture
def traced():
    pytest.importorskip("opentelemetry.sdk", reason="needs the extra otel")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

    from trimtab.adapters.wire.tracing import Traces

    def make(share):
        exporter = InMemorySpanExporter()
        provider = TracerProvider(sampler=ParentBasedTraceIdRatio(share))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        return Traces(provider), exporter

    return make


def test_a_request_is_a_span_with_its_stages_inside(traced):
    traces, exporter = traced(1.0)
    traces.add(with_parent(PARENT))
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"POST /predict/{model}", "decode", "queue", "infer"}
    request = spans["POST /predict/{model}"]
    assert f"{request.context.trace_id:032x}" == PARENT[3:35]
    assert f"{request.parent.span_id:016x}" == PARENT[36:52]
    assert (request.start_time, request.end_time) == (1_000_000_000, 1_000_900_000)
    assert request.kind.name == "SERVER"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["trimtab.version"] == "v1"
    assert all(spans[name].parent.span_id == request.context.span_id for name in ("decode", "queue", "infer"))
    assert spans["infer"].start_time == 1_000_050_000
    assert spans["infer"].end_time <= request.end_time


def test_the_caller_decides_where_there_is_one_and_the_share_where_not(traced):
    for share, parent, wanted in ((1.0, UNWANTED, 0), (0.0, PARENT, 4), (0.0, "", 0), (1.0, "", 4), (1.0, "noise", 4)):
        traces, exporter = traced(share)
        traces.add(with_parent(parent))
        assert len(exporter.get_finished_spans()) == wanted, (share, parent)


def test_a_share_is_kept_on_average(traced):
    traces, exporter = traced(0.25)
    for _ in range(400):
        traces.add(with_parent("", stages={}))
    assert 60 < len(exporter.get_finished_spans()) < 140


def test_a_server_error_is_a_failed_span(traced):
    traces, exporter = traced(1.0)
    traces.add(with_parent("", status=503, model="", stages={}))
    assert [span.status.status_code.name for span in exporter.get_finished_spans()] == ["ERROR"]


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch):
    from trimtab.adapters.wire.tracing import open_traces

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtra, match=r"trimtab\[otel\]"):
        open_traces(1.0, software="test")


def test_nothing_is_loaded_while_tracing_is_off():
    import subprocess

    code = "import sys, trimtab.adapters.wire.worker; print([name for name in sys.modules if 'opentelemetry' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
