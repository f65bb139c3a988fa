"""The classic leak, on real data: windows over scheduled time, and a training that takes every row as known at once.

A flight is scheduled hours before it lands. Offline, with the known-at filter off, a window over scheduled time holds
delays that nobody could know when the question was asked: the model looks better than it will ever be. Served features
cannot follow, and the parity check says so by name.
"""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.projects.staged import stage_flights

from trimtab.app.jobs import modules_of
from trimtab.app.replaying import ReplayRequest, run_replay
from trimtab.app.results import parity_report
from trimtab.core.clock import instant
from trimtab.features.history import point_in_time
from trimtab.stats.metrics import evaluate
from trimtab.training.task import TrainingData

pytest_plugins = ["tests.e2e.live_fixtures"]

SINCE, START, UNTIL = "2013-02-11", "2013-03-04", "2013-03-07"


def along_schedule(root):
    """The project with its windows over scheduled departure; known remains the landing."""
    file = root / "project.py"
    text = file.read_text()
    text = text.replace('time="landed_at"', 'time="scheduled"')
    text = text.replace('fresh="12h",', 'fresh="12h", along="time",')
    assert text.count('time="scheduled"') == text.count("along=") == 1
    file.write_text(text)
    asked = pq.read_table(root / "data" / "departures.parquet", columns=["flight_id", "sched_dep"])
    landings = pq.read_table(root / "data" / "landings.parquet")
    joined = landings.join(asked, "flight_id", join_type="inner").rename_columns([*landings.column_names, "scheduled"])
    pq.write_table(joined.sort_by("landed_at"), root / "data" / "landings.parquet")
    return root


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, flights_data):
    root = tmp_path_factory.mktemp("leak") / "flights"
    along_schedule(stage_flights(root, flights_data, since=SINCE, until=UNTIL))
    return run_replay(ReplayRequest(root, start=START, until=UNTIL, out=root / "out"))


def test_the_honest_variant_agrees(replayed):
    report = parity_report(replayed.staging, share=0.5)
    assert report.rows > 1000
    assert (report.mismatched, report.missing, report.extra) == (0, 0, 0)
    assert report.features == {}


def test_the_leak_is_caught_and_named(replayed):
    report = parity_report(replayed.staging, share=0.5, trust_time=True)
    assert not report.ok
    assert report.mismatched > 0.1 * report.values
    # The windows, and the weather of an hour that is not over; what follows from the request alone cannot leak.
    assert {name.partition(".")[0] for name in report.features} <= {"landings", "weather"}
    assert sum(name.startswith("landings.") for name in report.features) >= 5
    # Where counts differ, training saw more flights than had landed.
    counts = [one for one in report.examples if ".count_" in one.feature]
    assert all(one.recomputed > one.served for one in counts)
    assert counts


def test_the_leak_looks_good_offline_and_is_not(replayed):
    staging = replayed.staging
    plan, requests, labels = staging.project.plan("late_arrival"), staging.known.requests, staging.known.labels
    told = dict(zip(labels.ids.tolist(), labels.values.tolist(), strict=True))
    label = np.array([told.get(request, np.nan) for request in requests.ids])
    modules = modules_of(staging.project)
    leaky = point_in_time(plan, staging.known.histories, requests, modules, trust_time=True)
    start = instant(START)
    learn = np.isfinite(label) & (requests.at < start)
    score = np.isfinite(label) & (requests.at > start) & (requests.at <= instant(UNTIL))
    data = TrainingData(leaky[learn], label[learn], tuple(plan.names()), requests.at[learn], seed=0)
    model = staging.spec.train(data, staging.spec.params)

    def auc(features):
        return evaluate("binary", label[score], model.predict_proba(features[score])[:, 1])["roc_auc"]

    offline, served = auc(leaky), auc(staging.replay.served.features)
    assert offline > served + 0.03
