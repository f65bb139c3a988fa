"""Random histories: online reads, point-in-time reads and a naive reference give the same features."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.core.clock import DAY, HOUR, MINUTE
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History, point_in_time, point_in_time_exact
from trimtab.features.online import OnlineReader, OnlineWriter
from trimtab.features.plan import LatestPart, compile_plan
from trimtab.features.sources import Entity, Events, Requests, Table, column
from trimtab.features.views import latest, window_start, windows
from trimtab.testing.memory import MemoryRows

SHOP, USER = Entity("shop"), Entity("user", int)
SALES = Events(
    "sales",
    time="at",
    known="seen",
    keys=[SHOP, USER],
    schema={"amount": int, "big": bool, "price": column(float, optional=True), "stars": column(int, optional=True)},
)
STOCK = Table("stock", time="at", known="seen", keys=[SHOP, USER], schema={"left": int, "share": float, "open": bool})
VISITS = Requests("visits", id="visit", at="asked", keys=[SHOP, USER], inputs={})
NUMBERS = {
    "sum": ["amount", "big", "price", "stars"],
    "mean": ["amount", "price", "stars"],
    "min": ["amount", "price"],
    "max": ["price", "stars"],
}


def plan_of(along, lengths, ttl):
    views = [
        windows(SALES, by=[SHOP, USER], over=lengths, count="*", along=along, **NUMBERS),
        latest(STOCK, ["left", "share", "open"], ttl=ttl),
    ]
    return compile_plan(VISITS, views, {})


def naive(plan, rows, batch, limits):
    """Every feature by definition: rationals, one row at a time."""
    out = []
    for i, asked in enumerate(batch.at.tolist()):
        line = []
        for part in plan.parts:
            applied = rows[part.source][: limits[part.source][i]]
            as_of = max([asked, *(row["seen"] for row in applied[-1:])])
            names = part.keys if isinstance(part, LatestPart) else (part.entity,)
            mine = [row for row in applied if all(row[name] == batch.keys[name][i] for name in names)]
            if isinstance(part, LatestPart):
                line += naive_latest(part, mine, as_of)
            else:
                for length in part.over:
                    start = window_start(as_of, length)
                    inside = [row for row in mine if start <= when(row, part.along) <= as_of]
                    line += [naive_aggregate(what, name, inside) for what, name in part.aggregates]
        out.append(line)
    return np.array(out, dtype=float).reshape(len(batch), -1)


def when(row, along):
    return row["seen"] if along == "known" else min(row["at"], row["seen"])


def naive_latest(part, mine, as_of):
    best = None
    for row in mine:
        if best is None or row["at"] >= best["at"]:
            best = row
    if best is None or 0 < part.ttl < as_of - best["at"]:
        return [math.nan] * len(part.columns)
    return [float(best[name]) for name in part.columns]


def naive_aggregate(what, name, inside):
    if what == "count":
        return float(len(inside))
    values = [Fraction(row[name]) for row in inside if math.isfinite(row[name])]
    if what == "sum":
        return float(sum(values))
    if not values:
        return math.nan
    return float({"mean": lambda v: sum(v) / len(v), "min": min, "max": max}[what](values))


PRICES = st.one_of(
    st.sampled_from([1e17, -1e17, 0.0, 5842.5, 1e-9, 0.1, math.nan, 1e300, 5e-324, math.inf]),
    st.floats(-1e6, 1e6, allow_nan=False),
)


@st.composite
def worlds(draw, delays=(0, 0, MINUTE, 7 * MINUTE, 2 * HOUR, 3 * DAY, -5 * MINUTE)):
    steps = st.sampled_from([0, 0, 1, MINUTE, 4 * MINUTE, 5 * MINUTE, HOUR, 11 * HOUR, 2 * DAY, 15 * DAY])
    shops = st.sampled_from(["a", "ab", "b", "ü", "longer-than-eight"])
    users = st.sampled_from([1, 2, -(2**40)])
    rows = {"sales": [], "stock": []}
    for source, made in rows.items():
        seen = draw(st.integers(-HOUR, HOUR))
        for _ in range(draw(st.integers(0, 25))):
            seen += draw(steps)
            row = {"shop": draw(shops), "user": draw(users), "seen": seen, "at": seen - draw(st.sampled_from(delays))}
            if source == "sales":
                row["amount"] = draw(st.sampled_from([0, 1, -7, 2**31, -(2**45), 2**62]))
                row["big"] = draw(st.booleans())
                row["price"] = draw(PRICES)
                row["stars"] = draw(st.sampled_from([math.nan, 1.0, 5.0, -2.0]))
            else:
                row |= {"left": draw(st.integers(-5, 5)), "share": draw(PRICES), "open": draw(st.booleans())}
            made.append(row)
    asked = draw(st.lists(st.tuples(st.integers(-HOUR, 40 * DAY), shops, users), min_size=1, max_size=12))
    return rows, asked


TYPES = {
    "shop": str,
    "user": np.int64,
    "seen": np.int64,
    "at": np.int64,
    "amount": np.int64,
    "big": bool,
    "price": float,
}
TYPES |= {"stars": float, "left": np.int64, "share": float, "open": bool}


def columns_of(source, rows):
    names = list(source.every_column())
    return {name: np.array([row[name] for row in rows], dtype=TYPES[name]) for name in names}


def batch_of(asked):
    keys = {"shop": np.array([a[1] for a in asked]), "user": np.array([a[2] for a in asked], np.int64)}
    return RequestBatch([str(i) for i in range(len(asked))], np.array([a[0] for a in asked], np.int64), keys, {})


def assert_same(plan, got, wanted):
    for place, name in enumerate(plan.names()):
        np.testing.assert_allclose(got[:, place], wanted[:, place], rtol=1e-12, atol=0, err_msg=name)
        if "_price" not in name and "mean" not in name:  # counts, and sums and extremes of whole numbers
            np.testing.assert_array_equal(got[:, place], wanted[:, place], err_msg=name)


lengths_of = st.sampled_from([("3h",), ("7m", "3h", "24h"), ("24h", "7d", "20d"), ("2d", "13d")])
along_of = st.sampled_from(["known", "time"])
ttl_of = st.sampled_from([0, HOUR, 3 * DAY])


@settings(max_examples=120, deadline=None)
@given(worlds(), along_of, lengths_of, ttl_of)
def test_point_in_time_is_what_the_definition_says(world, along, lengths, ttl):
    rows, asked = world
    plan, batch = plan_of(along, lengths, ttl), batch_of(asked)
    histories = {s.name: History.of(s, columns_of(s, rows[s.name])) for s in (SALES, STOCK)}
    limits = {name: [sum(row["seen"] <= a[0] for row in rows[name]) for a in asked] for name in rows}
    got = point_in_time_exact(plan, histories, batch, {})
    assert_same(plan, got, naive(plan, rows, batch, limits))
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(point_in_time(plan, histories, batch, {}), got.astype(np.float32))


@settings(max_examples=120, deadline=None)
@given(worlds(), along_of, lengths_of, ttl_of, st.data())
def test_online_reads_are_point_in_time_reads_at_their_watermark(world, along, lengths, ttl, data):
    rows, asked = world
    plan, store = plan_of(along, lengths, ttl), MemoryRows()
    writer, reader = OnlineWriter(plan.parts, store), OnlineReader(plan, store, {})
    histories = {s.name: History.of(s, columns_of(s, rows[s.name])) for s in (SALES, STOCK)}
    done = dict.fromkeys(rows, 0)
    served, seqs, order = [], {name: [] for name in rows}, []
    for i in np.argsort([a[0] for a in asked], kind="stable"):
        for name, history in histories.items():
            due = data.draw(st.integers(0, len(history) - done[name]), label=f"rows of {name}")
            while due:
                size = data.draw(st.integers(1, due), label="batch")
                again = data.draw(st.integers(0, done[name]), label="redelivered")
                part = slice(done[name] - again, done[name] + size)
                writer.apply(name, {c: v[part] for c, v in history.columns.items()}, done[name] - again)
                done[name] += size
                due -= size
        values, marks = reader.read_exact(batch_of([asked[i]]))
        served.append(values[0])
        order.append(asked[i])
        for name in rows:
            assert marks[name].seq == done[name] == writer.watermark(name).seq
            seqs[name].append(done[name])
    batch = batch_of(order)
    limits = {name: np.array(seq) for name, seq in seqs.items()}
    recomputed = point_in_time_exact(plan, histories, batch, {}, watermarks=limits)
    assert_same(plan, np.array(served), recomputed)
    assert_same(plan, recomputed, naive(plan, rows, batch, seqs))
