"""The cache of predictions: exact bits, own version, own time, own bytes."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.serving.parts import Desk, House, engine_with, table

from trimtab.errors import InputError
from trimtab.serving.cache import ENTRY_BYTES, CachedInfer, PredictionCache
from trimtab.serving.meter import LocalCells, Meter
from trimtab.serving.pipeline import infer
from trimtab.serving.shortcuts import take_shortcuts


class Counts:
    def __init__(self):
        self.rows = Counter()

    def __call__(self, model, result):
        return _One(self.rows, (model, result))


class _One:
    def __init__(self, rows, key):
        self.rows, self.key = rows, key

    def add(self, number=1):
        self.rows[self.key] += number


class Time:
    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now


def cached(limit=1 << 20, ttl_ns=100, **more):
    counts, time = Counts(), Time()
    stage = CachedInfer(PredictionCache(limit, ttl_ns=ttl_ns, timer=time), count=counts, **more)
    return stage, counts.rows, time


def test_a_row_is_computed_once_in_its_time():
    one = House().add("v", 0.5)
    stage, rows, time = cached()
    values = np.array([[1.0, 2.0]], np.float32)
    first = stage(one, values)
    assert stage(one, values).tobytes() == first.tobytes() == infer(one, values).tobytes()
    assert one.runtime.rows == [1, 1]  # once by the stage, once by the line above
    time.now = 99
    stage(one, values)
    assert rows == {("m", "miss"): 1, ("m", "hit"): 2}
    time.now = 100
    stage(one, values)
    assert rows["m", "miss"] == 2


def test_equal_rows_of_a_batch_are_computed_once():
    one = House().add("v", 0.5, outputs=3)
    stage, rows, _ = cached()
    values = np.array([[1, 2], [3, 4], [1, 2], [1, 2], [5, 6]], np.float32)
    out = stage(one, values)
    assert one.runtime.rows == [3]
    assert out.tobytes() == infer(one, values).tobytes()
    assert rows == {("m", "miss"): 3, ("m", "shared"): 2}
    out = stage(one, values[::-1])
    assert out.tobytes() == infer(one, values[::-1]).tobytes()
    assert rows["m", "hit"] == 5
    out[:] = 0  # postprocess code may write into what it is given, and must not write into the cache
    assert stage(one, values).tobytes() == infer(one, values).tobytes()


def test_versions_never_share_an_entry():
    house = House()
    one, other = house.add("v", 0.5), house.add("w", 7.0)
    stage, rows, _ = cached()
    values = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    for deployed in (one, other, one, other):
        assert stage(deployed, values).tobytes() == infer(deployed, values).tobytes()
    assert rows == {("m", "miss"): 4, ("m", "hit"): 4}


@pytest.mark.parametrize("other", [-0.0, np.nan, np.nextafter(np.float32(0), np.float32(1))])
def test_one_bit_makes_another_row(other):
    one = House().add("v", 0.0)
    stage, rows, _ = cached()
    for value in (0.0, other):
        stage(one, np.array([[value, 1.0]], np.float32))
    assert rows == {("m", "miss"): 2}
    stage(one, np.array([[other, 1.0]], np.float32))
    assert rows["m", "hit"] == 1


ROWS = st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.5, float("nan"), 1e-30]), min_size=2, max_size=2)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("vw"), st.lists(ROWS, min_size=1, max_size=5), st.integers(0, 60))))
def test_outputs_are_always_those_of_the_model(batches):
    house = House()
    made = {"v": house.add("v", 0.25), "w": house.add("w", 0.75)}
    stage, rows, time = cached(limit=5 * (ENTRY_BYTES + 20))
    asked = 0
    for version, values, later in batches:
        time.now += later
        matrix = np.array(values, np.float32)
        asked += len(matrix)
        assert stage(made[version], matrix).tobytes() == infer(made[version], matrix).tobytes()
    assert sum(rows.values()) == asked


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 900))), st.integers(1, 5_000))
def test_the_bound_holds_and_the_latest_stay(puts, limit):
    cache = PredictionCache(limit, ttl_ns=1, timer=lambda: 0)
    held = {}
    for number, size in puts:
        key = number.to_bytes(8, "little")
        cache.put(key, bytes(size))
        held.pop(key, None)
        if 8 + size + ENTRY_BYTES <= limit:
            held[key] = 8 + size + ENTRY_BYTES
        while sum(held.values()) > limit:
            held.pop(next(iter(held)))
        assert cache.bytes == sum(held.values()) <= limit
    assert len(cache) == len(held)
    assert all((cache.get(number.to_bytes(8, "little")) is not None) == (number.to_bytes(8, "little") in held)
               for number in range(31))  # fmt: skip


def test_what_is_found_stays_longer():
    cache = PredictionCache(2 * (ENTRY_BYTES + 2), ttl_ns=1, timer=lambda: 0)
    cache.put(b"a", b"1")
    cache.put(b"b", b"2")
    assert cache.get(b"a") == b"1"
    cache.put(b"c", b"3")
    assert cache.get(b"b") is None
    assert (cache.get(b"a"), cache.get(b"c")) == (b"1", b"3")


@pytest.mark.parametrize("width", [8, 400])
def test_the_memory_is_what_the_bound_says(width):
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        cache = PredictionCache(2_000_000, ttl_ns=10**12, timer=lambda: 10**9)
        for number in range(8_000):
            cache.put(number.to_bytes(4, "little") + bytes(width), bytes(4))
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used <= 2_000_000


@pytest.mark.parametrize(("limit", "ttl_ns"), [(0, 1), (1, 0)])
def test_bounds_must_be_positive(limit, ttl_ns):
    with pytest.raises(InputError, match="room and time"):
        PredictionCache(limit, ttl_ns=ttl_ns, timer=lambda: 0)


def test_outputs_that_are_no_rows_are_never_kept():
    one = House().add("v", 0.5)
    stage, rows, _ = cached(stage=lambda _, values: np.zeros(len(values)))
    for _ in range(2):
        assert stage(one, np.array([[1, 2], [1, 2]], np.float32)).shape == (2,)
        assert stage(one, np.array([[1, 2]], np.float32)).shape == (1,)
    assert rows["m", "hit"] == 0


def test_a_version_is_tried_by_the_model_itself():
    """A version that cannot run must not go live because the cache knows what it once said of a row of zeros."""
    house = House()
    house.add("v", 0.5)
    engine = engine_with(house, ("champion", "v", 1.0))
    take_shortcuts(engine, Meter(LocalCells()), cache_bytes=1 << 20, cache_ttl_ms=1_000, ahead=None)
    first = house.made["v"]
    zeros = np.zeros((1, 2), np.float32)
    engine.pipeline.infer(first, zeros)
    house.add("w", 0.1)
    assert engine.swap(table(2, ("champion", "w", 1.0)), house.load) is None
    house.add("v", 0.5)
    assert engine.swap(table(3, ("champion", "v", 1.0)), house.load) is None
    assert house.made["v"].runtime.rows == [1]


def test_hits_are_answered_and_recorded_as_misses_are():
    house = House()
    house.add("v", 0.5)
    engine = engine_with(house, ("champion", "v", 1.0))
    cells = LocalCells()
    take_shortcuts(engine, Meter(cells), cache_bytes=1 << 20, cache_ttl_ms=60_000, ahead=None)
    desk = Desk(engine)
    for name in ("a", "b", "c"):
        desk.ask({"id": name, "shop": "aa", "basket": 2.0})
        desk.run()
    assert house.made["v"].runtime.rows == [1, 1]  # the trial, and the first request
    rows = desk.records.rows
    assert [(row.request_id, row.status, row.outputs) for row in rows] == [(n, "ok", (4.5,)) for n in "abc"]
    assert len({row.features for row in rows}) == 1
    name = "trimtab_cache_requests_total"
    assert cells.blocks["count", (name, "model", "m", "result", "miss")] == [1]
    assert cells.blocks["count", (name, "model", "m", "result", "hit")] == [2]


def test_without_bytes_nothing_stands_before_the_model():
    house = House()
    house.add("v", 0.5)
    engine = engine_with(house, ("champion", "v", 1.0))
    before = engine.pipeline
    take_shortcuts(engine, Meter(LocalCells()), cache_bytes=0, cache_ttl_ms=60_000, ahead=None)
    assert engine.pipeline is before
    assert engine.ahead is None


def test_any_number_of_threads_use_it_at_once():
    """Models in other processes are asked by several threads: nothing of the table is lost, and none raises."""
    counts, cache = Counts(), PredictionCache(3000, ttl_ns=50_000, timer=time.perf_counter_ns)
    stage = CachedInfer(cache, count=counts, stage=lambda _, values: values[:, :1].copy())
    versions = [SimpleNamespace(version=f"v{n}", manifest=SimpleNamespace(model="m")) for n in range(20)]

    def ask(seed):
        draw = np.random.default_rng(seed)
        for turn in range(3000):
            values = draw.integers(0, 20, (3, 1)).astype(np.float32)
            assert (stage(versions[turn % len(versions)], values) == values).all()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ask, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert sum(counts.rows.values()) == 4 * 3000 * 3
    assert len(set(stage._numbers.values())) == len(versions)
    for key in list(cache._entries):
        cache.get(key)
    assert cache.bytes == sum(len(key) + len(row) + ENTRY_BYTES for key, (_, row) in cache._entries.items()) <= 3000
