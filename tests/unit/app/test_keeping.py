"""Prediction records become Parquet beside the deciding, and the status shows single days from the series."""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from trimtab.adapters.records.parquet import read_predictions
from trimtab.app.home import Home
from trimtab.app.keeping import Compactor, Keep, disk_use
from trimtab.app.overview import recent_days
from trimtab.core.clock import DAY, VirtualClock, instant
from trimtab.errors import InputError, TrimtabError
from trimtab.features.batch import RequestBatch
from trimtab.monitoring.blocks import DayBlock
from trimtab.monitoring.rebuild import cells
from trimtab.serving.record import PREDICTIONS, decode_record
from trimtab.testing.memory import MemorySeries
from trimtab.web.status import render_status


def engine_of():
    from tests.unit.serving.parts import House, engine_with

    house = House()
    house.add("a", 1)
    return engine_with(house, ("champion", "a", 1.0))


def batch(name, *, at):
    from tests.unit.serving.parts import batch_of

    one = batch_of(name)
    return RequestBatch(one.ids, np.full(1, at), one.keys, one.inputs)


@pytest.fixture
def home(tmp_path):
    from tests.unit.serving.parts import batch_of

    made, engine = Home.of(tmp_path), engine_of()
    records = made.records("worker-1")
    for number in range(3):
        [(answers, _)] = engine.answer("m", batch_of(f"r{number}"))
        records.write(PREDICTIONS, engine.records([answers]))
    return made


def keeper(home, **options):
    """The keeper, and where the predictions go."""
    options = {"clock": VirtualClock(DAY), "keep": Keep()} | options
    return Compactor(home, **options), home.root / "records" / PREDICTIONS / "parquet"


def ids(home):
    return [decode_record(row).request_id for _, row in home.records("reader").scan(PREDICTIONS)]


def test_records_are_compacted_at_the_end_at_the_latest_and_their_spool_goes(home):
    compactor, parquet = keeper(home)
    compactor.start()
    assert not parquet.exists()
    compactor.stop()
    assert read_predictions(parquet)["request_id"].to_pylist() == ["r0", "r1", "r2"]
    assert not list(parquet.parent.glob("*.spool"))
    assert ids(home) == ["r0", "r1", "r2"]
    assert disk_use(home)[PREDICTIONS]["spool_bytes"] == 0 < disk_use(home)[PREDICTIONS]["parquet_bytes"]


def test_spools_stay_where_that_is_wanted(home):
    compactor, parquet = keeper(home, keep=Keep(spools=True))
    assert compactor.compact(at_least=1) == 3
    assert len(list(parquet.parent.glob("*.spool"))) == 1
    assert ids(home) == ["r0", "r1", "r2"]


def test_the_spool_of_a_worker_that_lives_stays(home):
    records = home.records("worker-1")
    records.prepare(PREDICTIONS)
    compactor, parquet = keeper(home)
    assert compactor.compact(at_least=1) == 3
    assert len(list(parquet.parent.glob("*.spool"))) == 1
    del records
    assert compactor.compact(at_least=1) == 0
    assert not list(parquet.parent.glob("*.spool"))


def test_records_are_deleted_when_they_were_kept_long_enough_and_that_is_told(home, caplog):
    clock = VirtualClock(instant("2013-03-05"))
    compactor, _ = keeper(home, clock=clock, keep=Keep(age=30 * DAY))
    old, new = (instant(day) for day in ("2013-03-04", "2013-04-03"))
    records = home.records("worker-2")
    [(answers, _)] = engine_of().answer("m", batch("old", at=old))
    records.write(PREDICTIONS, engine_of().records([answers]))
    [(answers, _)] = engine_of().answer("m", batch("new", at=new))
    records.write(PREDICTIONS, engine_of().records([answers]))
    del records
    compactor.compact(at_least=1)
    places = {place.writer: place.offset for place, _ in home.records("reader").scan(PREDICTIONS)}
    clock.advance_to(instant("2013-04-03"))
    compactor.compact(at_least=1)
    assert set(ids(home)) >= {"old", "new"}  # the day has not ended a month ago
    clock.advance_to(instant("2013-04-04"))
    compactor.compact(at_least=1)
    assert "old" not in ids(home)
    assert "new" in ids(home)
    assert "kept long enough" in caplog.text
    assert list(home.records("reader").scan(PREDICTIONS, after=places)) == []
    assert compactor.compact(at_least=1) == 0


@pytest.mark.parametrize(
    ("name", "value"), [("RECORDS_SPOOLS", "maybe"), ("RECORDS_KEEP", "90"), ("RECORDS_KEEP", "0d")]
)
def test_settings_that_mean_nothing_are_refused(home, monkeypatch, name, value):
    monkeypatch.setenv(f"TRIMTAB_{name}", value)
    with pytest.raises(InputError):
        Compactor(home, clock=VirtualClock(0))


def test_files_without_number_are_refused(home, monkeypatch):
    for value in ("1000", "many"):
        monkeypatch.setenv("TRIMTAB_RECORDS_SEGMENT", value)
        with pytest.raises(TrimtabError):
            home.records("reader")


def test_settings_say_what_is_kept(monkeypatch):
    assert Keep.read() == Keep(spools=False, age=None)
    monkeypatch.setenv("TRIMTAB_RECORDS_SPOOLS", "keep")
    monkeypatch.setenv("TRIMTAB_RECORDS_KEEP", "90d")
    assert Keep.read() == Keep(spools=True, age=90 * DAY)


def test_records_are_compacted_now_and_then(home, monkeypatch):
    monkeypatch.setattr("trimtab.app.keeping._AT_LEAST", 2)
    compactor, parquet = keeper(home, every_s=0.01)
    compactor.start()
    deadline = time.monotonic() + 10
    while read_predictions(parquet).num_rows < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert read_predictions(parquet).num_rows == 3
    compactor.stop()
    assert threading.active_count() == 1 or not compactor._thread.is_alive()


def test_compaction_that_cannot_be_done_is_put_off(home):
    one, parquet = keeper(home)
    parquet.write_text("in the way")
    assert one.compact(at_least=1) == 0
    assert ids(home) == ["r0", "r1", "r2"]
    parquet.unlink()
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


def test_who_is_told_to_end_leaves_to_the_next_one_what_would_take_long(home, monkeypatch):
    compactor, parquet = keeper(home)
    monkeypatch.setattr("trimtab.app.keeping._LAST_ROWS", 2)
    looked = iter([0.0, 0.0, 99.0])  # told to end, before the first file, before the second
    monkeypatch.setattr("trimtab.app.keeping.time", SimpleNamespace(monotonic=lambda: next(looked, 99.0)))
    compactor.start()
    compactor.stop()
    assert read_predictions(parquet)["request_id"].to_pylist() == ["r0", "r1"]
    assert ids(home) == ["r0", "r1", "r2"]
    assert Compactor(home, clock=VirtualClock(DAY), keep=Keep()).compact(at_least=1) == 1
    assert ids(home) == ["r0", "r1", "r2"]
