"""Ingest: what training takes as known is what serving had."""

import numpy as np
import pytest

from trimtab.core.clock import HOUR, MINUTE, VirtualClock
from trimtab.datasets.ingest import Ingest, logged_columns
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History, point_in_time
from trimtab.features.online import OnlineReader, OnlineWriter
from trimtab.features.plan import compile_plan
from trimtab.features.sources import Entity, Events, Requests
from trimtab.features.views import windows
from trimtab.testing.memory import MemoryRecords, MemoryRows

SHOP = Entity("shop")
SALES = Events("sales", time="at", known="seen", keys=[SHOP], schema={"sale": str, "amount": int}, id="sale")
VISITS = Requests("visits", id="visit", at="asked", keys=[SHOP], inputs={})
VIEWS = [
    windows(SALES, by=[SHOP], over=["1h", "7d"], count="*", sum=["amount"]),
    windows(SALES, by=[SHOP], over=["2h"], max=["amount"], along="time"),
]


class House:
    def __init__(self, **more):
        self.plan = compile_plan(VISITS, VIEWS, {})
        self.clock, self.records, store = VirtualClock(99 * HOUR), MemoryRecords("control"), MemoryRows()
        self.writer, self.reader = OnlineWriter(self.plan.parts, store), OnlineReader(self.plan, store, {})
        none = {"at": np.zeros(0, np.int64), "seen": np.zeros(0, np.int64), "shop": np.zeros(0, str)}
        self.history = History.of(SALES, none | {"sale": np.zeros(0, str), "amount": np.zeros(0, np.int64)})
        self.ingest = Ingest(SALES, self.history, records=self.records, writer=self.writer, clock=self.clock, **more)
        self.asked, self.served = [], []

    def post(self, sale, seen, *, at=None):
        row = {"sale": sale, "at": seen if at is None else at, "seen": seen, "shop": "a", "amount": 7}
        return self.ingest.take([row])

    def ask(self, at):
        self.clock.advance_to(at)
        self.asked.append(at)
        self.served.append(self.reader.read(self.batch([at])).values[0])

    def batch(self, at):
        keys = {"shop": np.array(["a"] * len(at))}
        return RequestBatch([str(when) for when in at], np.array(at, np.int64), keys, {})

    def trained(self):
        history = self.history.extend(logged_columns(SALES, self.records))
        return point_in_time(self.plan, {"sales": history}, self.batch(self.asked), {})


def test_a_late_event_counts_in_training_only_where_serving_saw_it():
    house = House()
    house.post("s1", 98 * HOUR)
    house.ask(100 * HOUR)
    house.clock.advance_to(101 * HOUR)
    house.post("s2", 99 * HOUR + 50 * MINUTE)  # known before the question, as the sender has it
    house.ask(101 * HOUR + MINUTE)
    assert house.served[1][2] == 2
    np.testing.assert_array_equal(house.trained(), house.served)


def test_an_event_of_a_sender_whose_clock_is_ahead_counts_from_its_arrival():
    house = House()
    house.clock.advance_to(100 * HOUR)
    assert house.post("s1", 100 * HOUR + 4 * MINUTE).columns["seen"].tolist() == [100 * HOUR]
    assert house.post("s2", 100 * HOUR + 6 * MINUTE).quarantine.total == 1
    house.ask(100 * HOUR + MINUTE)
    assert house.served[0][2] == 1
    np.testing.assert_array_equal(house.trained(), house.served)


@pytest.mark.parametrize(("seen", "taken"), [(99 * HOUR, 101 * HOUR), (100 * HOUR, 101 * HOUR), (100 * HOUR + 5, 0)])
def test_under_a_driven_clock_what_it_moved_over_is_on_time(seen, taken):
    house = House(stood=lambda: 100 * HOUR)
    house.clock.advance_to(101 * HOUR)
    assert house.post("s1", seen).columns["seen"].tolist() == [taken or seen]


def test_the_report_describes_no_more_bad_rows_than_the_setting_says():
    house = House(limit=2)
    rows = [{"sale": str(n), "at": 1, "seen": 1, "shop": "", "amount": 7} for n in range(5)]
    quarantine = house.ingest.take(rows).quarantine
    assert (quarantine.total, len(quarantine.rows)) == (5, 2)
