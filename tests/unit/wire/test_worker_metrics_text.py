"""What Prometheus reads: well formed by a strict parser and by promtool, complete, and right to the last count."""

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from tests.unit.serving.test_meter import answers, timed

from trimtab.adapters.wire.metrics import WorkerMetrics, exposed
from trimtab.serving.counted import counted
from trimtab.serving.meter import LocalCells, Meter

AWKWARD = 'a "model"\\ of\nmine'


@pytest.fixture
def text():
    cells = LocalCells()
    meter = Meter(cells)
    meter.answered("m", [answers(3)], **timed([1_000_000] * 2, [4_900_000, 5_100_000], record_ns=9_000))
    meter.answered(AWKWARD, [answers(1, version="v" * 64, arm="canary")], **timed([0], [90_000_000_000_000]))
    meter.answered("m", [answers(2, arm="shadow", error="ValueError")], **timed([], []))
    meter.replied("POST", "/predict/{model}", 200, 5_000_000)
    meter.replied("POST", "/predict/{model}", 503, 100_000)
    meter.refused("m", "Unavailable")
    meter.counter("trimtab_cache_requests_total", {"model": "m", "result": "hit"}).add(7)
    meter.gauge("generation", 4)
    return exposed(counted(cells.blocks, {"worker-1": cells.blocks})).decode()


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parse(text)
        for sample in family.samples
    }


def test_the_text_is_well_formed_and_complete(text):
    families = list(parse(text))
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation and family.type in ("counter", "gauge", "histogram") for family in families)
    found = samples(text)
    arm = [("arm", "champion"), ("model", "m"), ("version", "v1")]
    assert found["trimtab_predictions_total", *arm] == 3
    assert found["trimtab_request_duration_seconds_count", *arm] == 2
    assert found["trimtab_request_duration_seconds_sum", *arm] == pytest.approx(0.01)
    bucket = "trimtab_request_duration_seconds_bucket"
    within = {le: found[bucket, *sorted([*arm, ("le", le)])] for le in ("0.0025", "0.005", "0.01", "+Inf")}
    assert within == {"0.0025": 0, "0.005": 1, "0.01": 2, "+Inf": 2}
    assert found["trimtab_prediction_failures_total", ("arm", "shadow"), ("model", "m"), ("version", "v1")] == 2
    assert found["trimtab_cache_requests_total", ("model", "m"), ("result", "hit")] == 7
    assert found["trimtab_route_generation", ("worker", "worker-1")] == 4
    assert found["trimtab_http_responses_total", ("code", "503")] == 1
    assert any(dict(key[1:]).get("model") == AWKWARD for key in found)


def test_histograms_are_cumulative_and_end_with_their_count(text):
    found = samples(text)
    series = {}
    for (name, *labels), value in found.items():
        if name.endswith("_bucket"):
            rest = tuple(pair for pair in labels if pair[0] != "le")
            series.setdefault((name.removesuffix("_bucket"), *rest), []).append((float(dict(labels)["le"]), value))
    assert len(series) >= 20
    for (name, *rest), buckets in series.items():
        values = [value for _, value in sorted(buckets)]
        assert values == sorted(values)
        assert values[-1] == found[f"{name}_count", *rest]
        assert max(buckets)[0] == float("inf")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus")
def test_promtool_finds_nothing_to_complain_of(text):
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_worker_that_cannot_share_tells_of_itself(tmp_path):
    (tmp_path / "metrics").write_text("no directory")
    metrics = WorkerMetrics(tmp_path / "metrics", "worker-1-x")
    metrics.meter.refused("m", "InputError")
    found = samples(metrics.exposition().decode())
    assert found["trimtab_requests_refused_total", ("kind", "InputError"), ("model", "m")] == 1


def test_histograms_are_told_of_versions_in_the_route_and_counters_of_all():
    cells = LocalCells()
    meter = Meter(cells)
    for version in ("old", "new"):
        meter.answered("m", [answers(3, version=version)], **timed([1_000_000], [4_900_000], record_ns=9_000))
    found = samples(exposed(counted(cells.blocks), routed={"new"}).decode())
    versions = {}
    for name, *labels in found:
        versions.setdefault(name, set()).add(dict(labels).get("version"))
    assert versions["trimtab_predictions_total"] == {"old", "new"}
    for name in ("trimtab_request_duration_seconds", "trimtab_stage_duration_seconds", "trimtab_batch_rows"):
        assert versions[f"{name}_count"] == {"new"}


def test_what_never_counted_and_what_took_no_time_is_left_out():
    cells = LocalCells()
    meter = Meter(cells)
    meter.answered("m", [answers(0, version="idle")], **timed([], []))
    meter.answered("m", [answers(1, version="busy")], **timed([1_000_000], [4_900_000], record_ns=9_000))
    found = samples(exposed(counted(cells.blocks)).decode())
    told = {dict(labels).get("version") for name, *labels in found if name.endswith("_count")}
    assert told == {"busy"}
    stages = {dict(labels)["stage"] for name, *labels in found if name == "trimtab_stage_duration_seconds_sum"}
    spent = {name: found["trimtab_stage_duration_seconds_sum", ("arm", "champion"), ("model", "m"), ("stage", name),
                         ("version", "busy")] for name in stages}  # fmt: skip
    assert "queue" in stages
    assert min(spent.values()) > 0


def test_a_worker_of_one_arm_is_told_of_in_little_text():
    cells = LocalCells()
    meter = Meter(cells)
    meter.answered("delays", [answers(3, version="v" * 64)], **timed([1_000_000] * 2, [4_900_000] * 2, record_ns=9_000))
    for route, status in (("/predict/{model}", 200), ("/v2/models/{model}/infer", 200), ("/metrics", 200)):
        meter.replied("POST", route, status, 5_000_000)
    assert len(exposed(counted(cells.blocks, {"worker-1": cells.blocks}))) < 28_000
