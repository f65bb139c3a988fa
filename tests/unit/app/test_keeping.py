"""Prediction records become Parquet beside the deciding, and the status shows single days from the series."""

import threading
import time

import numpy as np
import pytest

from trimtab.adapters.records.parquet import read_predictions
from trimtab.app.home import Home
from trimtab.app.keeping import Compactor
from trimtab.app.overview import recent_days
from trimtab.core.clock import DAY
from trimtab.monitoring.blocks import DayBlock
from trimtab.monitoring.rebuild import cells
from trimtab.serving.record import PREDICTIONS
from trimtab.testing.memory import MemorySeries
from trimtab.web.status import render_status


@pytest.fixture
def home(tmp_path):
    from tests.unit.serving.parts import House, batch_of, engine_with

    made, house = Home.of(tmp_path), House()
    house.add("a", 1)
    engine = engine_with(house, ("champion", "a", 1.0))
    records = made.records("worker-1")
    for number in range(3):
        [(answers, _)] = engine.answer("m", batch_of(f"r{number}"))
        records.write(PREDICTIONS, engine.records([answers]))
    return made


def test_records_are_compacted_at_the_end_at_the_latest(home):
    compactor = Compactor(home)
    compactor.start()
    assert not compactor.directory.exists()
    compactor.stop()
    assert read_predictions(compactor.directory)["request_id"].to_pylist() == ["r0", "r1", "r2"]
    assert len(list(home.records("reader").scan(PREDICTIONS))) == 3  # they stay


def test_records_are_compacted_now_and_then(home, monkeypatch):
    monkeypatch.setattr("trimtab.app.keeping._AT_LEAST", 2)
    compactor = Compactor(home, every_s=0.01)
    compactor.start()
    deadline = time.monotonic() + 10
    while read_predictions(compactor.directory).num_rows < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert read_predictions(compactor.directory).num_rows == 3
    compactor.stop()
    assert threading.active_count() == 1 or not compactor._thread.is_alive()


def test_compaction_that_cannot_be_done_is_put_off(home):
    one = Compactor(home)
    one.directory.parent.mkdir(parents=True, exist_ok=True)
    one.directory.write_text("in the way")
    assert one.compact(at_least=1) == 0
    one.directory.unlink()
    assert one.compact(at_least=1) == 3


def test_the_status_shows_single_days():
    series = MemorySeries()
    for day in (3, 4):
        block = DayBlock("v1", day * DAY, answered=10, labelled=8, loss=4.0, label=2.0, prediction=2.5)
        for _ in range(2):  # a day that matures again changes nothing
            series.add(f"m:{day}", cells("m", [block], {day * DAY: {"feature/x/b": np.ones(3)}}))
    days = recent_days(series, "m", 5 * DAY)
    assert [day["day"] for day in days] == ["1970-01-05", "1970-01-04"]
    assert days[0] == {"day": "1970-01-05", "version": "v1", "answered": 10, "loss": 0.5, "coverage": 0.8}
    assert recent_days(series, "other", 5 * DAY) == []
    shown = render_status({"project": "p", "models": [{"name": "m", "days": days}]})
    assert "1970-01-05" in shown
    assert "80.0" in shown
