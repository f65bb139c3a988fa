"""Counting: buckets keep their promise, and every request is counted once, where it belongs."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from trimtab.core.clock import MINUTE
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.serving.answers import Answers
from trimtab.serving.counted import MOST_ARMS, OTHER, SILENT, Arm, added, counted, named, nameless, renamed, whole
from trimtab.serving.latency import BOUNDS, BUCKETS, SHOWN, bucket, quantile, share_above, shown_counts
from trimtab.serving.meter import STAGES, LocalCells, Meter
from trimtab.serving.recording import statuses
from trimtab.serving.routing import Arm as RoutedArm
from trimtab.serving.routing import Route, RouteTable

US = st.integers(0, 2 * BOUNDS[-1])


def answers(rows, *, version="v1", arm="champion", timings=(100, 20, 0, 300, 0, 40), error=""):
    nothing = np.empty((rows, 0), np.float32)
    batch = RequestBatch([f"r{row}" for row in range(rows)], np.zeros(rows, np.int64), {}, {})
    return Answers(batch, FeatureBatch(nothing, nothing, {}, ()), version, arm, "", np.zeros(rows), timings, error)


def test_the_buckets_cover_every_shown_bound_and_are_narrow():
    assert set(SHOWN) <= set(BOUNDS)
    assert all((high - low) * 16 <= max(low, 16) for low, high in pairwise(BOUNDS))


@given(US)
def test_a_duration_lies_between_the_bounds_of_its_bucket(us):
    at = bucket(us)
    assert at == BUCKETS - 1 or us <= BOUNDS[at]
    assert at == 0 or us > BOUNDS[at - 1]


@given(st.lists(st.integers(16, BOUNDS[-1]), min_size=1, max_size=200), st.floats(0.01, 1))
def test_a_percentile_is_within_its_error(values, q):
    counts = [0] * BUCKETS
    for us in values:
        counts[bucket(us)] += 1
    truth = sorted(values)[math.ceil(q * len(values) - 1e-9) - 1]
    assert quantile(counts, q) == pytest.approx(truth, rel=0.0626)


@given(st.lists(US, max_size=100))
def test_what_is_shown_outside_is_exact(values):
    counts = [0] * BUCKETS
    for us in values:
        counts[bucket(us)] += 1
    assert shown_counts(counts) == [*(sum(us <= bound for us in values) for bound in SHOWN), len(values)]
    for bound in (5_000, 100_000):
        if values:
            assert share_above(counts, bound) == sum(us > bound for us in values) / len(values)


def measured(*calls):
    cells = LocalCells()
    meter = Meter(cells)
    for given_answers, more in calls:
        meter.answered("m", given_answers, **more)
    return cells, {(arm.version, arm.arm): arm for arm in counted(cells.blocks).arms}


def timed(waited, total, **more):
    return {"waited_ns": waited, "total_ns": total, "waiting": 0, **more}


def test_a_batch_counts_once_per_body():
    call = timed([1_000_000, 2_000_000], [3_000_000, 4_000_000], record_ns=7_000)
    _, arms = measured(([answers(5)], call))
    arm = arms["v1", "champion"]
    assert (arm.answered, arm.failed) == (5, 0)
    assert {name: arm.stage(name).count for name in STAGES} == dict.fromkeys(STAGES, 2)
    sums = {name: arm.stage(name).sum_us for name in STAGES}
    assert sums == {
        "decode": 100, "queue": 3000, "features": 40, "preprocess": 0, "infer": 600, "postprocess": 0, "encode": 80,
        "record": 14, "total": 7000,
    }  # fmt: skip
    assert arm.stage("total").quantile_us(1) == pytest.approx(4000, rel=0.0626)
    assert sum(arm.batch_sizes) == 1
    assert arm.batch_sizes[3] == 1  # 5 rows: above 4, up to 8


def test_an_answer_that_is_no_number_is_a_failure_of_its_row():
    said = [
        (np.array([0.5, np.nan, 0.5]), 1),
        (np.array([np.inf]), 1),
        (np.array([[0.5, 0.5], [np.nan, 0.5], [0.5, np.inf]]), 2),
        (np.array([1e308] * 3), 0),  # finite, though their sum is not
        (np.where(np.arange(500) % 5, 0.5, np.nan), 100),
    ]
    for outputs, bad in said:
        given_answers = structs.replace(answers(len(outputs)), outputs=outputs)
        cells, arms = measured(([given_answers], timed([1], [1])))
        arm = arms["v1", "champion"]
        assert (arm.answered, arm.failed) == (len(outputs) - bad, bad)
        kinds = counted(cells.blocks).counters.get("trimtab_prediction_failures_by_kind_total", {})
        assert list(kinds.values()) == ([bad] if bad else [])
        assert all(dict(labels)["kind"] == "not_finite" for labels in kinds)
        assert statuses(given_answers).count("error:not_finite") == bad


def test_rows_from_stale_features_are_counted_apart():
    nothing = np.empty((2, 0), np.float32)
    stale = structs.replace(
        answers(2), features=FeatureBatch(nothing, nothing, {}, ("sales",)), outputs=np.array([1, np.nan])
    )
    cells, _ = measured(([stale], timed([1], [1])))
    assert sum(counted(cells.blocks).counters["trimtab_stale_predictions_total"].values()) == 1


def test_bodies_count_for_the_arm_that_answered_them():
    both = [answers(2), answers(1, version="v2", arm="canary")]
    _, arms = measured((both, timed([1, 1, 1], [1_000, 2_000_000, 3_000], arms=(0, 1, 0))))
    assert arms["v1", "champion"].stage("total").sum_us == 4
    assert arms["v2", "canary"].stage("total").sum_us == 2000
    assert arms["v2", "canary"].stage("infer").count == 1


def test_a_score_in_the_shadow_waits_for_nobody():
    _, arms = measured(([answers(3, arm="shadow")], timed([], [])))
    arm = arms["v1", "shadow"]
    assert (arm.answered, arm.stage("infer").count, arm.stage("preprocess").count) == (3, 1, 1)
    assert [arm.stage(name).count for name in ("decode", "queue", "total")] == [0, 0, 0]


def test_failures_are_counted_by_kind():
    cells, arms = measured(([answers(2, error="ValueError")], timed([1], [1])))
    assert (arms["v1", "champion"].answered, arms["v1", "champion"].failed) == (0, 2)
    kinds = counted(cells.blocks).counters["trimtab_prediction_failures_by_kind_total"]
    assert {dict(labels)["kind"]: rows for labels, rows in kinds.items()} == {"ValueError": 2}


def test_what_callers_make_up_cannot_fill_the_memory():
    cells = LocalCells()
    meter = Meter(cells)
    for number in range(3000):
        meter.refused(f"made-up-{number}", "UnknownName")
    found = counted(cells.blocks).counters
    assert sum(sum(samples.values()) for samples in found.values()) == 3000
    assert len(cells.blocks) < 600


def test_the_arms_that_were_silent_longest_lose_their_names():
    arms = [Arm("m", f"v{n}", "champion", [1], n * MINUTE) for n in range(MOST_ARMS + 8)]
    now = 1000 * MINUTE
    assert [arm.version for arm in nameless(arms, now=now)] == [f"v{n}" for n in range(8)]
    assert nameless(arms[:MOST_ARMS], now=now) == []
    arms[0] = replace(arms[0], last=now - SILENT)  # seen first, and answers now
    keep = {("m", "v1", "champion"), ("m", "v2", "canary")}
    gone = nameless(arms, now=now, keep=keep)
    assert [arm.version for arm in gone] == [f"v{n}" for n in range(2, 10)]
    busy = [replace(arm, last=now) for arm in arms]
    assert nameless(busy, now=now) == []  # each answers: none is left out
    others = [replace(arm, model="other") for arm in arms]
    assert len(nameless(arms + others, now=now)) == 16
    assert nameless([Arm("m", OTHER, OTHER, [5]), *arms[:MOST_ARMS]], now=now) == []


def test_what_lost_its_name_is_all_among_the_other():
    arms = [Arm("m", f"v{n}", "champion", [n, 1], 0) for n in range(3)]
    blocks = {("arm", (arm.model, arm.version, arm.arm)): list(arm.cells) for arm in arms}
    found = whole(added([blocks, renamed(arms[1:])]))
    assert found == {("arm", ("m", "v0", "champion")): [0, 1], ("arm", ("m", OTHER, OTHER)): [3, 2]}


def test_when_an_arm_answered_last_is_taken_down():
    cells = LocalCells()
    meter = Meter(cells)
    for now, version in ((5, "v1"), (6, "v2"), (7, "")):
        if version:
            meter.answered("m", [answers(1, version=version)], waited_ns=[0], total_ns=[0], waiting=0)
        meter.heard(now)
    assert {arm.version: arm.last for arm in counted(cells.blocks).arms} == {"v1": 5, "v2": 6}
    later = {("last", ("m", "v1", "champion")): [9]}
    assert {arm.version: arm.last for arm in counted(added([cells.blocks, later])).arms} == {"v1": 9, "v2": 6}


def test_arms_of_the_route_keep_their_names():
    route = Route("m", (RoutedArm("champion", "v1", 0.9), RoutedArm("canary", "v2", 0.1)), held=("v0",))
    found = named(RouteTable(1, {"m": route}))
    assert found == {("m", "v1", "champion"), ("m", "v2", "canary"), ("m", "v0", "champion")}
