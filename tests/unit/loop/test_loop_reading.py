"""Reading ahead changes when something is read, never what: each request sees exactly what was known when it was asked."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.datasets.splits import LabelEvents
from trimtab.features.batch import FeatureBatch, RequestBatch, Watermark
from trimtab.features.history import History
from trimtab.loop.reading import Read, Reading, Timeline

TICK = 10
NOBODY = LabelEvents(np.array([], str), np.array([]), np.array([], np.int64))


class Rows:
    """In place of the online rows: how many events of each source were applied."""

    sources = ("sales", "stock")

    def __init__(self):
        self.applied = dict.fromkeys(self.sources, 0)

    def apply(self, source, columns, first):
        assert first == self.applied[source]
        self.applied[source] += len(columns["known"])


def reading(sales, stock, asked, *, until=100, poison=()):
    rows = Rows()
    at = np.sort(np.array(asked, np.int64))
    histories = {}
    for name, known in (("sales", sales), ("stock", stock), ("labels", [1, 2])):
        times = np.sort(np.array(known, np.int64))
        histories[name] = History(name, times, times, {"known": times})
    requests = RequestBatch([f"r{n}" for n in range(len(at))], at, {}, {})

    def read(batch):
        if set(batch.at.tolist()) & set(poison):
            return None
        marks = {source: Watermark(count, 0) for source, count in rows.applied.items()}
        return FeatureBatch(np.zeros((len(batch), 1)), np.zeros((len(batch), 2)), marks, ())

    made = Reading(
        Timeline(histories, requests, NOBODY), rows, read=read, asked=(0, len(at)),
        ticks=range(TICK, until + TICK, TICK), timed=lambda stage: contextlib.nullcontext(),
    )  # fmt: skip
    return made, rows


def summary(read):
    marks = None if read.features is None else {name: mark.seq for name, mark in read.features.watermarks.items()}
    return read.first, read.stop, read.batch.at.tolist(), marks


MOMENTS = st.lists(st.integers(1, 100), max_size=25)


@given(sales=MOMENTS, stock=MOMENTS, asked=MOMENTS, aheads=st.lists(st.integers(0, 12), min_size=10, max_size=10),
       limit=st.integers(0, 120))  # fmt: skip
def test_whatever_is_read_ahead_each_request_sees_what_was_known_when_it_was_asked(sales, stock, asked, aheads, limit):
    plain, _ = reading(sales, stock, asked)
    early, rows = reading(sales, stock, asked)
    edge = -(-limit // TICK) * TICK
    for tick, steps in zip(range(TICK, 110, TICK), aheads, strict=True):
        expected = [summary(read) for read in plain.until(tick)]
        assert [summary(read) for read in early.until(tick)] == expected
        for first, stop, at, marks in expected:
            assert stop - first == len(at)
            for moment in at:
                known = {"sales": sum(k <= moment for k in sales), "stock": sum(k <= moment for k in stock)}
                assert marks == known
        early.ahead(limit, steps=steps)
        # Nothing beyond the first tick at or after the limit, nor beyond what the clock has reached.
        for source, known in (("sales", sales), ("stock", stock)):
            assert rows.applied[source] <= sum(k <= max(tick, edge) for k in known)
            assert rows.applied[source] >= sum(k <= tick for k in known)


def test_no_step_is_taken_beyond_a_read_that_failed_or_when_too_many_wait(monkeypatch):
    early, rows = reading([5, 35, 45], [], [4, 14, 36, 46], poison=(36,))
    assert [read.first for read in early.until(TICK)] == [0]
    assert not early.ahead(100, steps=50)
    assert rows.applied["sales"] == 2
    assert [summary(read) for tick in (20, 30, 40) for read in early.until(tick)] == [
        (1, 2, [14], {"sales": 1, "stock": 0}),
        (2, 3, [36], None),
    ]
    assert early.ahead(100, steps=1)
    monkeypatch.setattr("trimtab.loop.reading._MOST_ROWS", 2)
    crowded, _ = reading([], [], [1, 2, 11, 21, 31])
    list(crowded.until(TICK))
    assert not crowded.ahead(100, steps=50)
    assert [len(list(crowded.until(tick))) for tick in (20, 30, 40)] == [1, 1, 1]
    assert not crowded.ahead(40, steps=50)


def test_the_clock_and_the_reading_go_together():
    early, _ = reading([], [], [1])
    with pytest.raises(AssertionError):
        list(early.until(2 * TICK))
    assert all(isinstance(read, Read) for read in reading([], [], [1])[0].until(TICK))
