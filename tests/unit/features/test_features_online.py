"""Online rows: exactly once, in one snapshot, exact, and refused when damaged."""

import numpy as np
import pytest

from trimtab.core.clock import DAY, HOUR, MINUTE
from trimtab.errors import ConflictError, IntegrityError, SchemaError, UnknownName
from trimtab.features.batch import RequestBatch, Watermark
from trimtab.features.history import History, point_in_time_exact
from trimtab.features.online import OnlineReader, OnlineWriter
from trimtab.features.onrequest import inspect_module, load_module
from trimtab.features.plan import compile_plan
from trimtab.features.sources import Entity, Events, Requests, Table
from trimtab.features.views import OnRequest, latest, windows
from trimtab.testing.memory import MemoryRows

SHOP, USER = Entity("shop"), Entity("user", int)
SALES = Events("sales", time="at", known="seen", keys=[SHOP, USER], schema={"amount": int, "price": float})
STOCK = Table("stock", time="at", known="seen", keys=[SHOP], schema={"left": int})
VISITS = Requests("visits", id="visit", at="asked", keys=[SHOP, USER], inputs={"basket": float})
VIEW = windows(SALES, by=[SHOP], over=["1h", "7d"], count="*", sum=["amount"], mean=["price"], fresh="5m")
DOUBLE = inspect_module(
    "features.double", "FEATURES = ('double',)\ndef compute(c):\n    return {'double': 2 * c['basket']}\n", "double.py"
)


class Counting(MemoryRows):
    reads = writes = 0

    def get_many(self, keys):
        self.reads += 1
        return super().get_many(keys)

    def put_many(self, rows):
        self.writes += 1
        super().put_many(rows)


def rows(seen, *, shop="a", amount=1, price=1.0):
    n = len(seen)
    seen = np.array(seen, np.int64)
    return {
        "at": seen,
        "seen": seen,
        "shop": np.array([shop] * n),
        "user": np.arange(n),
        "amount": np.full(n, amount),
        "price": np.full(n, price),
    }


def asked(*at, shop="a"):
    keys = {"shop": np.array([shop] * len(at)), "user": np.zeros(len(at), np.int64)}
    return RequestBatch([str(i) for i in range(len(at))], np.array(at, np.int64), keys, {"basket": np.ones(len(at))})


def house(*views, modules=()):
    plan = compile_plan(VISITS, list(views or [VIEW]), {m.name: m for m in modules})
    store = Counting()
    loaded = {m.name: load_module(m.name, m.text, m.sha256) for m in modules}
    return plan, store, OnlineWriter(plan.parts, store), OnlineReader(plan, store, loaded)


def test_a_batch_of_reads_is_one_snapshot_and_a_batch_of_rows_one_write():
    second = windows(SALES, by=[USER], over=["1h"], count="*")
    _, store, writer, reader = house(VIEW, second, latest(STOCK, ["left"]))
    assert writer.apply("sales", rows([1, 2, 3]), 0) == (3, 3)
    assert store.writes == 1
    store.reads = 0
    batch = reader.read(asked(3, 4, 5))
    assert store.reads == 1
    assert batch.watermarks == {"sales": Watermark(3, 3), "stock": Watermark(0, 0)}
    np.testing.assert_array_equal(batch.values[:, :3], [[3, 3, 1]] * 3)


def test_delivering_again_changes_nothing():
    _, _, writer, reader = house()
    table = rows([1, 2, 3, 4])
    writer.apply("sales", {name: column[:3] for name, column in table.items()}, 0)
    assert writer.apply("sales", {name: column[1:3] for name, column in table.items()}, 1) == (3, 3)
    assert writer.apply("sales", table, 0) == (4, 4)
    assert reader.read(asked(4)).values[0, 0] == 4


def test_a_gap_is_refused_and_nothing_is_written():
    _, store, writer, reader = house()
    writer.apply("sales", rows([1]), 0)
    store.writes = 0
    with pytest.raises(ConflictError, match="deliver 'sales' again from 1"):
        writer.apply("sales", rows([5]), 2)
    assert store.writes == 0
    assert reader.read(asked(9)).values[0, 0] == 1


def test_a_part_that_is_new_to_the_store_asks_for_the_whole_log():
    _, store, writer, _ = house()
    table = rows([1, 2])
    writer.apply("sales", table, 0)
    plan = compile_plan(VISITS, [VIEW, windows(SALES, by=[USER], over=["2h"], count="*")], {})
    writer, reader = OnlineWriter(plan.parts, store), OnlineReader(plan, store, {})
    assert writer.watermark("sales") == (0, 0)
    with pytest.raises(ConflictError):
        writer.apply("sales", rows([3]), 2)
    assert writer.apply("sales", table, 0) == (2, 2)
    assert reader.read(asked(2)).values[0].tolist() == [2, 2, 1, 2, 2, 1, 1]  # the old part has not counted twice


def test_equal_parts_of_two_models_share_their_rows():
    plan, store, _, _ = house()
    writer = OnlineWriter([*plan.parts, *plan.parts], store)
    writer.apply("sales", rows([1]), 0)
    assert len(store._rows) == 2  # one key, one watermark


def test_a_late_arrival_is_known_no_earlier_than_the_row_before_it():
    plan, _, writer, reader = house()
    history = History.of(SALES, rows([2 * HOUR]))
    writer.apply("sales", history.columns, 0)
    assert writer.apply("sales", rows([5]), 1) == (2, 2 * HOUR)
    history = history.extend(rows([5]))
    request = asked(3 * HOUR - 1)
    wanted = point_in_time_exact(plan, {"sales": history}, request, {}, watermarks={"sales": np.array([2])})
    np.testing.assert_array_equal(reader.read_exact(request)[0], wanted)
    assert wanted[0, 0] == 2


def test_a_source_older_than_its_freshness_is_named():
    _, _, writer, reader = house()
    writer.apply("sales", rows([0]), 0)
    fresh = reader.read(asked(0, 5 * MINUTE))
    assert fresh.stale == ()
    assert fresh.ages.tolist() == [[0], [300]]
    assert reader.read(asked(0, 5 * MINUTE + 1)).stale == ("sales",)


def test_ttl_holds_online_as_offline():
    plan, _, writer, reader = house(latest(STOCK, ["left"], ttl="1h"))
    table = {"at": np.array([0]), "seen": np.array([10]), "shop": np.array(["a"]), "left": np.array([7])}
    writer.apply("stock", table, 0)
    request = asked(HOUR, HOUR + 1)
    got = reader.read(request).values[:, 0]
    np.testing.assert_array_equal(got, [7, np.nan])
    history = {"stock": History.of(STOCK, table)}
    np.testing.assert_array_equal(point_in_time_exact(plan, history, request, {})[:, 0], got)


@pytest.mark.parametrize("size", [1, 4])
def test_of_rows_that_happened_at_the_same_time_the_later_known_one_is_latest(size):
    _, _, writer, reader = house(latest(STOCK, ["left"]))
    at, left = np.array([5, 5, 3, 5]), np.array([1, 2, 9, 4])
    table = {"at": at, "seen": np.arange(4) + 5, "shop": np.array(["a"] * 4), "left": left}
    for first in range(0, 4, size):
        writer.apply("stock", {name: column[first : first + size] for name, column in table.items()}, first)
    assert reader.read(asked(9)).values.tolist() == [[4]]


def test_a_row_widens_with_what_it_sees():
    plan, _, writer, reader = house(
        windows(SALES, by=[SHOP], over=["1h", "13d"], sum=["amount", "price"], max=["price"])
    )
    amounts = [1, 2**31, 2**62, 2**62, -(2**62), 3]
    prices = [2.0, 0.1, 1e300, -1e300, 5e-324, np.inf]
    table = rows([i * 20 * MINUTE for i in range(6)]) | {"amount": np.array(amounts), "price": np.array(prices)}
    history = {"sales": History.of(SALES, table)}
    for i in range(6):
        writer.apply("sales", {name: column[i : i + 1] for name, column in table.items()}, i)
        request = asked(i * 20 * MINUTE)
        got = reader.read_exact(request)[0]
        np.testing.assert_array_equal(got, point_in_time_exact(plan, history, request, {}))
    assert got[0, 3] == float(2**62 + 2**31 + 4)


def test_one_large_batch_is_many_small_ones():
    rng = np.random.default_rng(3)
    n = 3000
    table = rows(np.sort(rng.integers(0, 30 * DAY, n))) | {
        "shop": rng.choice(["a", "b", "c"], n),
        "price": rng.normal(size=n),
    }
    _, small, writer, reader = house()
    for first in range(0, n, 7):
        writer.apply("sales", {name: column[first : first + 7] for name, column in table.items()}, first)
    _, _, writer, other = house()
    writer.apply("sales", table, 0)
    request = asked(30 * DAY, 31 * DAY, 36 * DAY, 60 * DAY)
    np.testing.assert_array_equal(reader.read(request).values, other.read(request).values)
    assert small.writes == -(-n // 7)


def test_on_request_features_stand_in_plan_order():
    _, _, writer, reader = house(OnRequest("features.double"), VIEW, modules=[DOUBLE])
    writer.apply("sales", rows([1]), 0)
    assert reader.read(asked(1, 2)).values.tolist() == [[2, 1, 1, 1, 1, 1, 1]] * 2
    _, store, _, _ = house()
    with pytest.raises(UnknownName, match="was not loaded"):
        OnlineReader(compile_plan(VISITS, [OnRequest("features.double")], {DOUBLE.name: DOUBLE}), store, {})


def test_nothing_applied_and_nobody_known():
    _, _, writer, reader = house()
    assert writer.watermark("sales") == (0, 0)
    assert writer.apply("sales", rows([]), 0) == (0, 0)
    np.testing.assert_array_equal(reader.read(asked(5, shop="nobody")).values, [[0, 0, np.nan] * 2])
    assert reader.read(asked()).values.shape == (0, 6)


def test_what_is_refused():
    _, store, writer, reader = house()
    with pytest.raises(UnknownName, match="no feature reads"):
        writer.apply("other", rows([1]), 0)
    with pytest.raises(SchemaError, match="lack"):
        writer.apply("sales", {"seen": np.array([1])}, 0)
    with pytest.raises(SchemaError, match="'amount' is not of its declared kind int"):
        writer.apply("sales", rows([1]) | {"amount": np.array([1.5])}, 0)
    writer.apply("sales", rows([1]), 0)
    key = next(key for key in store._rows if not key.startswith(b"watermark"))
    whole = store._rows[key]
    store._rows[key] = whole[:-1]
    with pytest.raises(IntegrityError, match="damaged"):
        reader.read(asked(2))
    store._rows[key] = b"\x07" + whole[1:]
    with pytest.raises(IntegrityError, match="rebuild"):
        reader.read(asked(2))
    store._rows[key] = b"\x01\x04"
    with pytest.raises(IntegrityError, match="rebuild"):
        reader.read(asked(2))
