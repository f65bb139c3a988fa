"""A latency budget adds up, and says by how much each part was missed."""

import math

import pytest

from trimtab.errors import ProjectError
from trimtab.serving.budget import PRESETS, LatencyBudget, budget_of, report


def test_there_are_four_presets_that_add_up():
    assert sorted(PRESETS) == ["gate", "interactive", "table", "tail"]
    assert {name: (budget.total_ms, budget.percentile) for name, budget in PRESETS.items()} == {
        "interactive": (200, 95), "table": (100, 95), "tail": (200, 99), "gate": (50, 99),
    }  # fmt: skip
    assert all(budget.left_ms == pytest.approx(0) for budget in PRESETS.values() if budget.buffer_ms)


def test_the_variance_of_every_part_and_of_the_whole():
    took = {"queue": 8.0, "features": 32.0, "infer": 45.0, "postprocess": 12.0, "encode": 4.0, "total": 101.0}
    found = report(PRESETS["table"], lambda stages, q: sum(took.get(stage, 0.0) for stage in stages), requests=1)
    assert {line.part: round(100 * line.variance) for line in found.lines} == {
        "ingest": -20, "pre": 28, "inference": -10, "post": 20, "serialise": -20,
    }  # fmt: skip
    assert round(100 * found.total.variance) == 1
    assert found.broken == ("pre", "post", "total")


def test_a_part_without_a_budget_is_shown_and_cannot_break():
    found = report(LatencyBudget(100, {"inference": 50, "network": 10}), lambda stages, q: 60.0, requests=1)
    assert [line.part for line in found.lines][:3] == ["inference", "network", "decode"]
    assert found.broken == ("inference",)
    assert math.isnan(found.lines[1].actual_ms)
    assert math.isnan(found.lines[2].variance)


def test_nothing_measured_breaks_nothing():
    assert report(PRESETS["table"], lambda stages, q: math.nan, requests=0).broken == ()


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: LatencyBudget(100, {"pre": 60, "inference": 50}), "110 of 100 ms"),
        (lambda: LatencyBudget(100, {"pre": 60}, buffer_ms=50), "110 of 100 ms"),
        (lambda: LatencyBudget(100, {"lunch": 60}), "lunch"),
        (lambda: LatencyBudget(100, {"pre": 10, "features": 10}), "pre and features"),
        (lambda: LatencyBudget(0), "total_ms"),
        (lambda: LatencyBudget(100, percentile=101), "percentile"),
        (lambda: LatencyBudget(100, {"pre": "5ms"}), "pre"),
        (lambda: budget_of("fast", latency_p99_ms=1), "fast"),
        (lambda: budget_of(5, latency_p99_ms=1), "latency budget"),
        (lambda: budget_of({"pre": 5}, latency_p99_ms=1), "5 of 1 ms"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(make, word):
    with pytest.raises(ProjectError, match=word):
        make()


def test_a_project_names_shares_or_leaves_out():
    assert budget_of("gate", latency_p99_ms=1) is PRESETS["gate"]
    assert budget_of({"pre": 5}, latency_p99_ms=20) == LatencyBudget(20, {"pre": 5}, percentile=99)
    assert budget_of(None, latency_p99_ms=20).total_ms == 20
