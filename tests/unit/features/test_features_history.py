"""Point in time: hand-computed values, edges of windows, TTL, watermarks, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from trimtab.core.clock import DAY, HOUR, MINUTE
from trimtab.errors import InputError, ProjectError, SchemaError, UnknownName
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History, point_in_time, point_in_time_exact
from trimtab.features.plan import Plan, compile_plan
from trimtab.features.sources import Entity, Events, Requests, Table, column
from trimtab.features.views import latest, windows

SHOP, USER = Entity("shop"), Entity("user", int)
SALES = Events(
    "sales", time="at", known="seen", keys=[SHOP], schema={"amount": int, "price": column(float, optional=True)}
)
STOCK = Table("stock", time="hour", known="seen", keys=[SHOP, USER], schema={"left": int, "name": str})
VISITS = Requests("visits", id="visit", at="asked", keys=[SHOP, USER], inputs={})
NAN = float("nan")


def sales(*rows):
    at, seen, shop, amount, price = zip(*rows, strict=True) if rows else ((),) * 5
    return History.of(
        SALES,
        {
            "at": np.array(at, np.int64),
            "seen": np.array(seen, np.int64),
            "shop": np.array(shop, "U4"),
            "amount": np.array(amount, np.int64),
            "price": np.array(price, np.float64),
        },
    )


def asked(*rows):
    at, shop, user = zip(*rows, strict=True)
    keys = {"shop": np.array(shop), "user": np.array(user, np.int64)}
    return RequestBatch([str(i) for i in range(len(at))], np.array(at, np.int64), keys, {})


def window_plan(**options):
    return compile_plan(VISITS, [windows(SALES, **({"by": [SHOP], "over": ["1h"], "count": "*"} | options))], {})


def read(plan, histories, requests, **options):
    return point_in_time_exact(plan, histories, requests, {}, **options).tolist()


def test_windows_by_hand():
    plan = window_plan(over=["1h", "24h"], sum=["amount"], mean=["price"], min=["amount"], max=["price"])
    history = sales(
        (0, 0, "a", 5, 1.5),
        (HOUR, HOUR, "b", 7, 2.0),
        (2 * HOUR, 2 * HOUR, "a", -3, NAN),
        (2 * HOUR, 2 * HOUR, "a", 4, 2.5),
    )
    requests = asked((2 * HOUR, "a", 1), (2 * HOUR - 1, "a", 1), (3 * HOUR, "b", 1), (3 * HOUR, "zz", 1))
    got = point_in_time_exact(plan, {"sales": history}, requests, {})
    np.testing.assert_array_equal(
        got,
        [
            [2, 1, 2.5, -3, 2.5, 3, 6, 2.0, -3, 2.5],
            [0, 0, NAN, NAN, NAN, 1, 5, 1.5, 5, 1.5],
            [0, 0, NAN, NAN, NAN, 1, 7, 2.0, 7, 2.0],
            [0, 0, NAN, NAN, NAN, 0, 0, NAN, NAN, NAN],
        ],
    )
    assert plan.names()[:3] == ["sales.shop.count_1h", "sales.shop.sum_amount_1h", "sales.shop.mean_price_1h"]


def test_the_far_end_of_a_window_moves_in_hops_and_the_near_end_is_exact():
    plan = window_plan()
    history = sales(*((t, t, "a", 1, 1.0) for t in (5 * MINUTE - 1, 5 * MINUTE, 70 * MINUTE)))
    # A window of one hour asked at 1:09 starts at 0:05 (hops of five minutes), not at 0:09.
    at = [69 * MINUTE, 70 * MINUTE - 1, 70 * MINUTE]
    assert read(plan, {"sales": history}, asked(*((t, "a", 1) for t in at))) == [[1], [1], [1]]
    assert read(plan, {"sales": history}, asked((65 * MINUTE - 1, "a", 1), (65 * MINUTE, "a", 1))) == [[2], [1]]


def test_a_row_counts_from_when_it_was_known():
    history = sales((0, 30 * MINUTE, "a", 1, 1.0))
    requests = asked((30 * MINUTE - 1, "a", 1), (30 * MINUTE, "a", 1), (80 * MINUTE, "a", 1))
    assert read(window_plan(), {"sales": history}, requests) == [[0], [1], [1]]
    assert read(window_plan(along="time"), {"sales": history}, requests) == [[0], [1], [0]]


def test_one_huge_or_missing_value_does_not_poison_later_windows():
    prices = [1e17, 5842.5, NAN, 0.25, 1e300]
    history = sales(*((i * HOUR, i * HOUR, "a", 1, p) for i, p in enumerate(prices)))
    plan = window_plan(over=["30m"], count="", sum=["price"])
    requests = asked(*((i * HOUR, "a", 1) for i in range(5)))
    assert read(plan, {"sales": history}, requests) == [[1e17], [5842.5], [0], [0.25], [1e300]]


def test_a_sum_that_cancels_is_exact():
    history = sales(*((0, 0, "a", 1, p) for p in (1e17, 1.25, -1e17, 1e-12)))
    plan = window_plan(count="", sum=["price"])
    assert read(plan, {"sales": history}, asked((0, "a", 1))) == [[1.25 + 1e-12]]


def test_requests_need_not_be_sorted():
    rng = np.random.default_rng(1)
    history = sales(*((int(t), int(t), f"s{t % 7}", 1, 1.0) for t in np.sort(rng.integers(0, DAY, 300))))
    at = rng.integers(0, DAY, 50)
    requests = asked(*((int(t), f"s{i % 9}", 1) for i, t in enumerate(at)))
    order = np.argsort(at)
    in_order = asked(*((int(at[i]), f"s{i % 9}", 1) for i in order))
    got = np.array(read(window_plan(), {"sales": history}, requests))
    np.testing.assert_array_equal(got[order], read(window_plan(), {"sales": history}, in_order))


def stock(*rows):
    hour, seen, shop, user, left = zip(*rows, strict=True)
    return History.of(
        STOCK,
        {
            "hour": np.array(hour, np.int64),
            "seen": np.array(seen, np.int64),
            "shop": np.array(shop),
            "user": np.array(user, np.int64),
            "left": np.array(left, np.int64),
        },
    )


def test_latest_takes_the_greatest_time_known_and_of_equal_ones_the_later():
    history = stock((0, 0, "a", 1, 10), (2, 5, "a", 1, 20), (1, 6, "a", 1, 30), (2, 7, "a", 1, 40), (9, 9, "a", 2, 50))
    plan = compile_plan(VISITS, [latest(STOCK, ["left"])], {})
    requests = asked(*((t, "a", 1) for t in (-1, 0, 4, 5, 6, 7, 100)), (100, "a", 2), (100, "b", 1))
    got = np.array(read(plan, {"stock": history}, requests))[:, 0]
    np.testing.assert_array_equal(got, [NAN, 10, 10, 20, 20, 40, 40, 50, NAN])


def test_a_latest_value_past_its_ttl_is_missing():
    plan = compile_plan(VISITS, [latest(STOCK, ["left"], ttl="1h")], {})
    history = stock((0, 10, "a", 1, 3))
    got = np.array(read(plan, {"stock": history}, asked((HOUR, "a", 1), (HOUR + 1, "a", 1))))[:, 0]
    np.testing.assert_array_equal(got, [3, NAN])


def test_watermarks_decide_instead_of_the_time_of_asking():
    history = sales((0, 0, "a", 1, 1.0), (1, 1, "a", 1, 1.0), (2 * HOUR, 2 * HOUR, "a", 1, 1.0))
    requests = asked((1, "a", 1), (1, "a", 1), (1, "a", 1))
    marks = {"sales": np.array([0, 1, 3])}
    # The last was read after a row known at 2:00 had been applied: it is answered as of 2:00.
    assert read(window_plan(), {"sales": history}, requests, watermarks=marks) == [[0], [1], [1]]
    with pytest.raises(InputError, match="outside the history"):
        read(window_plan(), {"sales": history}, requests, watermarks={"sales": np.array([0, 1, 4])})
    with pytest.raises(InputError, match="contradict"):
        point_in_time(window_plan(), {"sales": history}, requests, {}, watermarks=marks, trust_time=True)


def test_trusting_event_time_counts_rows_that_were_not_known_yet():
    history = sales((0, HOUR, "a", 1, 1.0))
    requests = asked((0, "a", 1))
    plan = window_plan(along="time")
    assert point_in_time(plan, {"sales": history}, requests, {}).tolist() == [[0]]
    assert point_in_time(plan, {"sales": history}, requests, {}, trust_time=True).tolist() == [[1]]


def test_history_keeps_known_order_and_cuts_by_known_time():
    history = sales((3, 9, "a", 1, 1.0), (1, 5, "b", 2, 1.0), (2, 9, "c", 3, 1.0))
    assert history.columns["shop"].tolist() == ["b", "a", "c"]
    assert len(history.until(8)) == 1
    assert len(history.until(9)) == 3
    late = {name: values[:1] for name, values in sales((0, 4, "dddd", 4, 1.0)).columns.items()}
    longer = history.extend(late)
    assert longer.known.tolist() == [5, 9, 9, 9]
    assert longer.columns["shop"].tolist() == ["b", "a", "c", "dddd"]


def test_an_empty_history_gives_empty_windows():
    assert read(window_plan(along="time"), {"sales": sales()}, asked((0, "a", 1))) == [[0]]
    assert read(window_plan(), {"sales": sales()}, asked((0, "a", 1)), watermarks={"sales": np.array([0])}) == [[0]]


def test_what_is_refused():
    with pytest.raises(UnknownName, match="no history"):
        read(window_plan(), {}, asked((0, "a", 1)))
    with pytest.raises(SchemaError, match="lack columns"):
        History.of(SALES, {"at": np.array([1])})
    numbers = RequestBatch(["x"], np.array([0]), {"shop": np.array([5]), "user": np.array([1])}, {})
    with pytest.raises(SchemaError, match="different types"):
        read(window_plan(), {"sales": sales((0, 0, "a", 1, 1.0))}, numbers)
    with pytest.raises(ProjectError, match="no number") as error:
        compile_plan(VISITS, [latest(STOCK, ["name"])], {})
    assert "take one of left" in str(error.value)
    with pytest.raises(ProjectError, match="no such column"):
        window_plan(sum=["amout"])


def test_the_plan_of_two_views_is_the_golden_one():
    plan = compile_plan(
        VISITS,
        [
            windows(SALES, by=[SHOP], over=["24h", "1h"], count="*", mean=["amount", "price"], fresh="5m"),
            latest(STOCK, ["left"], ttl="3h"),
        ],
        {},
    )
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.to_json().decode() + "\n" == (Path(__file__).parents[2] / "golden" / "plan.json").read_text()
