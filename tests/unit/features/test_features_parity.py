"""Parity: nothing to report when served honestly, and the leak is caught."""

import numpy as np
import pytest

from trimtab.core.clock import HOUR, MINUTE
from trimtab.errors import InputError
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History, point_in_time
from trimtab.features.online import OnlineReader, OnlineWriter
from trimtab.features.parity import check, relevant, sample
from trimtab.features.plan import compile_plan
from trimtab.features.sources import Entity, Events, Requests
from trimtab.features.views import windows
from trimtab.testing.memory import MemoryRows

LINE = Entity("line")
TRAINS = Events("trains", time="due", known="arrived", keys=[LINE], schema={"late": bool, "delay": float})
TRIPS = Requests("trips", id="trip", at="asked", keys=[LINE], inputs={})


def world(along="time"):
    """Trains that are due long before they arrive, and trips asked about in between, served online."""
    rng = np.random.default_rng(7)
    n = 400
    due = np.sort(rng.integers(0, 100 * HOUR, n))
    delay = rng.exponential(40, n)
    columns = {
        "due": due,
        "arrived": due + (delay * MINUTE).astype(np.int64),
        "line": rng.choice(["red", "blue"], n),
        "late": delay > 15,
        "delay": delay,
    }
    view = windows(TRAINS, by=[LINE], over=["3h", "24h"], count="*", mean=["late", "delay"], along=along)
    plan = compile_plan(TRIPS, [view], {})
    history = History.of(TRAINS, columns)
    store = MemoryRows()
    writer, reader = OnlineWriter(plan.parts, store), OnlineReader(plan, store, {})
    at = np.sort(rng.integers(0, 100 * HOUR, 150))
    requests = RequestBatch([f"t{i}" for i in range(150)], at, {"line": rng.choice(["red", "blue"], 150)}, {})
    served, seqs, done = [], [], 0
    for i in range(len(requests)):
        due_now = int(history.known.searchsorted(at[i], "right"))
        writer.apply("trains", {name: column[done:due_now] for name, column in history.columns.items()}, done)
        done = due_now
        one = reader.read(
            RequestBatch([requests.ids[i]], at[i : i + 1], {"line": requests.keys["line"][i : i + 1]}, {})
        )
        served.append(one.values[0])
        seqs.append(one.watermarks["trains"].seq)
    return plan, {"trains": history}, requests, np.array(served), {"trains": np.array(seqs)}


@pytest.mark.parametrize("along", ["known", "time"])
def test_honest_serving_has_nothing_to_report(along):
    plan, histories, requests, served, marks = world(along)
    report = check(plan, histories, {}, ids=requests.ids, requests=requests, served=served, watermarks=marks)
    assert report.ok
    assert (report.rows, report.values, report.worst) == (150, 900, 0.0)
    # Training computes the very same features, from what was known when each was asked.
    np.testing.assert_array_equal(point_in_time(plan, histories, requests, {}), served)


@pytest.mark.parametrize("along", ["known", "time"])
@pytest.mark.parametrize("first", [0, 40, 149])
def test_a_few_requests_need_only_the_rows_of_their_keys(along, first):
    plan, histories, requests, _, marks = world(along)
    keys = np.where(np.arange(3) == 1, "grey", requests.keys["line"][first : first + 1])
    few = RequestBatch(["a", "b", "c"], np.repeat(requests.at[first : first + 1] - HOUR, 3), {"line": keys}, {})
    limits = {"trains": np.array([marks["trains"][first], 0, marks["trains"][first] // 2])}
    cut, moved = relevant(plan, histories, few, limits)
    assert len(cut["trains"]) < len(histories["trains"]) * 0.7
    whole = point_in_time(plan, histories, few, {}, watermarks=limits)
    np.testing.assert_array_equal(point_in_time(plan, cut, few, {}, watermarks=moved), whole)
    with pytest.raises(InputError, match="outside the history"):
        relevant(plan, histories, few, {"trains": np.array([0, 401, 0])})


def test_the_leak_of_trusting_event_time_is_caught():
    plan, histories, requests, served, marks = world()
    leaky = point_in_time(plan, histories, requests, {}, trust_time=True)
    assert (leaky[:, 0] > served[:, 0]).mean() > 0.5  # training counts trains that had not arrived yet
    report = check(plan, histories, {}, ids=requests.ids, requests=requests, served=leaky, watermarks=marks)
    assert not report.ok
    assert report.mismatched > 300
    assert report.worst > 0.3
    assert set(report.features) <= set(plan.names())
    assert report.examples[0].id in requests.ids
    assert report.examples[0].served != report.examples[0].recomputed


def test_missing_and_extra_values_are_told_apart():
    plan, histories, requests, served, marks = world()
    served = served.copy()
    served[100, 0] = np.nan
    empty = np.isnan(served[:, 2])
    served[empty, 2] = 1.0
    report = check(plan, histories, {}, ids=requests.ids, requests=requests, served=served, watermarks=marks)
    assert (report.mismatched, report.missing, report.extra) == (0, 1, int(empty.sum()))
    assert empty.sum() > 0


def test_floats_may_round_apart_by_one_unit_and_counts_may_not():
    plan, histories, requests, served, marks = world()
    up = np.nextafter(served, np.float32(np.inf))
    names = plan.names()
    report = check(plan, histories, {}, ids=requests.ids, requests=requests, served=up, watermarks=marks)
    assert {name.split("_")[0] for name in report.features} == {"trains.line.count", "trains.line.mean"}
    assert not any("delay" in name for name in report.features)
    assert any("late" in name for name in report.features)
    two = np.nextafter(up, np.float32(np.inf))
    report = check(plan, histories, {}, ids=requests.ids, requests=requests, served=two, watermarks=marks)
    assert set(report.features) == set(names)


def test_a_sample_depends_on_ids_and_salt_alone():
    ids = [f"id{i}" for i in range(500)]
    chosen = sample(ids, 0.2, "a")
    assert 60 < len(chosen) < 140
    backwards = sample(ids[::-1], 0.2, "a")
    assert {ids[i] for i in chosen} == {ids[::-1][i] for i in backwards}
    assert chosen.tolist() != sample(ids, 0.2, "b").tolist()
    assert len(sample(ids, 1.0, "a")) == 500
    assert len(sample(ids, 0.0, "a")) == 0


def test_served_values_must_fit_the_plan():
    plan, histories, requests, served, marks = world()
    with pytest.raises(InputError, match="one column per feature"):
        check(plan, histories, {}, ids=requests.ids, requests=requests, served=served[:, 1:], watermarks=marks)
