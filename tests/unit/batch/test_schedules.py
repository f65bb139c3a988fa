"""Batches on a schedule: each scheduled time once, told in the ledger."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest
from tests.unit.batch.batch_house import frame, registered

from trimtab.app import schedules
from trimtab.app.home import Home
from trimtab.app.platform import sentence
from trimtab.app.schedules import Schedule, Schedules, end_schedule, put_schedule, read_schedules
from trimtab.core.clock import HOUR
from trimtab.core.ledger import PLATFORM
from trimtab.errors import InputError


@pytest.fixture
def place(tmp_path):
    home = Home(tmp_path).made()
    version = registered(tmp_path)
    pq.write_table(frame(100), tmp_path / "r.parquet")
    return home, version


def plan(home, version, **more):
    given = {"every": HOUR, "since": 10 * HOUR, "options": {"version": version}} | more
    given.setdefault("out", str(home.root / "s-{time}.parquet"))
    return Schedule("m", str(home.root / "r.parquet"), **given)


def beat_until(schedules, now, holds):
    end = time.monotonic() + 30
    while time.monotonic() < end:
        schedules.beat(now)
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def told(home):
    return [event for event in home.ledger().read(stream=PLATFORM) if event.type.startswith("Batch")]


def test_a_scheduled_time_runs_once_and_is_told(place):
    home, version = place
    put_schedule(home, plan(home, version))
    schedules = Schedules(home.root, home, home.ledger(), epoch=1)
    schedules.beat(10 * HOUR + 5)
    assert list(home.jobs.glob("batch-*")) == []  # not yet
    beat_until(schedules, 11 * HOUR + 5, lambda: told(home))
    again = Schedules(home.root, home, home.ledger(), epoch=1)  # as after a restart
    for _ in range(3):
        again.beat(11 * HOUR + 9)
    [event] = told(home)
    assert (event.data["rows"], event.data["version"], event.data["due"]) == (100, version, "1970-01-01T11:00:00Z")
    assert "100 rows" in sentence(event)
    assert len(pq.read_table(home.root / "s-19700101T110000Z.parquet")) == 100
    beat_until(again, 14 * HOUR, lambda: len(told(home)) == 2)  # of those missed, the latest
    assert told(home)[1].data["due"] == "1970-01-01T14:00:00Z"


def test_a_failure_is_told_and_not_tried_forever(place):
    home, _ = place
    put_schedule(home, plan(home, "f" * 64))
    schedules = Schedules(home.root, home, home.ledger(), epoch=1)
    beat_until(schedules, 11 * HOUR, lambda: told(home))
    schedules.beat(11 * HOUR + 7)
    [event] = told(home)
    assert "no such version" in event.data["error"]
    assert "failed" in sentence(event)


def test_schedules_are_put_replaced_and_ended(place):
    home, version = place
    put_schedule(home, plan(home, version))
    put_schedule(home, plan(home, version, every=2 * HOUR))
    [kept] = read_schedules(home)
    assert kept.every == 2 * HOUR
    assert end_schedule(home, "m", kept.out)
    assert not end_schedule(home, "m", kept.out)
    assert read_schedules(home) == []


def test_schedules_put_and_ended_at_once_are_all_kept(place, monkeypatch):
    home, version = place
    put_schedule(home, plan(home, version, out=str(home.root / "old-{time}.parquet")))
    real = schedules.write_atomic

    def slowly(path, data):
        time.sleep(0.1)  # so that, without a lock, all of them have read before one has written
        real(path, data)

    monkeypatch.setattr(schedules, "write_atomic", slowly)
    with ThreadPoolExecutor(4) as pool:
        wanted = {str(home.root / f"{n}-{{time}}.parquet") for n in range(3)}
        puts = [pool.submit(put_schedule, home, plan(home, version, out=out)) for out in wanted]
        ended = pool.submit(end_schedule, home, "m", str(home.root / "old-{time}.parquet"))
        assert ended.result()
        for put in puts:
            put.result()
    assert {one.out for one in read_schedules(home)} == wanted


@pytest.mark.parametrize(("change", "words"), [({"every": 1}, "a minute"), ({}, "place of its own")])
def test_what_cannot_be_scheduled_is_refused(place, change, words):
    home, version = place
    schedule = plan(home, version, **change) if change else Schedule("m", "r", "s.parquet", HOUR, 0)
    with pytest.raises(InputError, match=words):
        put_schedule(home, schedule)
