"""Validation: nothing bad passes, nothing is lost, and both ways of checking agree."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.core.clock import DAY, MINUTE, instant
from trimtab.datasets.coercion import coerce, rule
from trimtab.datasets.validation import Validator, request_batch, rows_to_columns, validate
from trimtab.errors import InputError, SchemaError
from trimtab.features.sources import Column, Entity, Events, Requests, Table, column

SHOP, TILL = Entity("shop"), Entity("till", int)
SALES = Events(
    "sales",
    time="sold",
    known="told",
    keys=[SHOP, TILL],
    schema={
        "amount": column(float, between=(0, 100)),
        "count": int,
        "paid": bool,
        "note": column(str, optional=True),
        "age": column(int, between=(0, 120), optional=True),
        "member": column(bool, optional=True),
        "due": column(dt.datetime, optional=True),
        "tip": column(float, optional=True),
    },
    id="sale",
)
GOOD = {
    "sold": 10,
    "told": 20,
    "shop": "a",
    "till": 3,
    "sale": "s1",
    "amount": 5.0,
    "count": 2,
    "paid": True,
    "note": "x",
    "age": 30,
    "member": False,
    "due": 99,
    "tip": 0.5,
}
REQUIRED = ("sold", "told", "shop", "till", "sale", "amount", "count", "paid")
OPTIONAL = ("note", "age", "member", "due", "tip")
DTYPES = {
    "sold": "int64",
    "told": "int64",
    "till": "int64",
    "amount": "float64",
    "count": "int64",
    "paid": "bool",
    "age": "float64",
    "member": "float64",
    "due": "int64",
    "tip": "float64",
}


def one(**changes):
    return validate(SALES, {name: [value] for name, value in (GOOD | changes).items()})


def reason(**changes):
    (row,) = one(**changes).quarantine.rows
    return row.column, row.reason


def test_a_good_row_is_typed():
    result = one()
    assert len(result) == 1
    assert result.quarantine.to_json()["quarantined"] == 0
    assert {name: result.columns[name].dtype.name for name in DTYPES} == DTYPES
    assert result.columns["shop"].dtype.kind == result.columns["note"].dtype.kind == "U"
    assert {name: values.tolist() for name, values in result.columns.items()} == {k: [v] for k, v in GOOD.items()}


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("nothing", [None, math.nan])
def test_a_required_value_may_not_be_missing(name, nothing):
    assert reason(**{name: nothing}) == (name, "missing")


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("nothing", [None, math.nan])
def test_an_optional_value_may_be_missing(name, nothing):
    (value,) = one(**{name: nothing}).columns[name].tolist()
    assert math.isnan(value) if name not in ("note", "due") else value == {"note": "", "due": -(2**63)}[name]


def test_an_optional_column_may_be_absent():
    result = validate(SALES, {name: [GOOD[name]] for name in REQUIRED})
    assert len(result) == 1
    assert {name: result.columns[name].dtype.name for name in DTYPES} == DTYPES


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"amount": "5"}, ("amount", "wrong type")),
        ({"amount": True}, ("amount", "wrong type")),
        ({"amount": [5.0, 6.0]}, ("amount", "wrong type")),
        ({"amount": np.array([5.0, 6.0])}, ("amount", "wrong type")),
        ({"amount": math.inf}, ("amount", "not finite")),
        ({"amount": -math.inf}, ("amount", "not finite")),
        ({"tip": math.inf}, ("tip", "not finite")),
        ({"tip": 10**400}, ("tip", "not finite")),
        ({"amount": 100.1}, ("amount", "out of range")),
        ({"amount": -1}, ("amount", "out of range")),
        ({"age": 121}, ("age", "out of range")),
        ({"count": True}, ("count", "wrong type")),
        ({"count": 2.0}, ("count", "wrong type")),
        ({"count": "2"}, ("count", "wrong type")),
        ({"count": 2**63}, ("count", "out of range")),
        ({"count": 10**30}, ("count", "out of range")),
        ({"paid": 1}, ("paid", "wrong type")),
        ({"paid": "true"}, ("paid", "wrong type")),
        ({"shop": 3}, ("shop", "wrong type")),
        ({"shop": ""}, ("shop", "empty")),
        ({"sale": ""}, ("sale", "empty")),
        ({"sale": "x" * 201}, ("sale", "too long")),
        ({"note": "x" * 1001}, ("note", "too long")),
        ({"shop": "a\x00"}, ("shop", "wrong type")),
        ({"shop": "\ud800"}, ("shop", "wrong type")),
        ({"sold": "soon"}, ("sold", "wrong type")),
        ({"sold": 10**18}, ("sold", "out of range")),
        ({"sold": True}, ("sold", "wrong type")),
        ({"told": 9}, ("told", "known before it happened")),
    ],
)
def test_each_fault_has_its_reason(changes, expected):
    assert reason(**changes) == expected


@pytest.mark.parametrize(
    "value", [5, np.float32(5), np.float64(5), np.int64(5)], ids=["int", "float32", "float64", "int64"]
)
def test_a_whole_number_is_a_float(value):
    assert one(amount=value).columns["amount"].tolist() == [5.0]


@pytest.mark.parametrize(
    "value",
    [
        dt.datetime(1970, 1, 1, 0, 0, 0, 10),  # noqa: DTZ001 - taken as UTC
        dt.datetime(1970, 1, 1, 1, 0, 0, 10, dt.timezone(dt.timedelta(hours=1))),
        np.datetime64(10, "us"),
    ],
)
def test_times_of_other_kinds(value):
    assert one(sold=value).columns["sold"].tolist() == [10]


def test_a_row_known_in_the_future():
    raw = {name: [value] for name, value in GOOD.items()}
    assert len(validate(SALES, raw, now=20 - 5 * MINUTE)) == 1
    late = validate(SALES, raw, now=20 - 5 * MINUTE - 1).quarantine
    assert late.counts == {("told", "known in the future"): 1}
    assert late.rows[0].value == "1970-01-01T00:00:00.000020Z"


def batch(rows, **changes):
    """Many good rows of different ids, as arrays, with some columns replaced."""
    raw = {name: np.array([value] * rows) for name, value in GOOD.items()}
    return raw | {"sale": np.array([f"s{number}" for number in range(rows)])} | changes


def test_the_first_of_two_equal_ids_is_taken():
    result = validate(SALES, batch(4, sale=["a", "b", "a", "a"]))
    assert result.accepted.tolist() == [True, True, False, False]
    assert result.quarantine.counts == {("sale", "duplicate"): 2}


def test_an_id_of_a_bad_row_is_free():
    result = validate(SALES, batch(2, sale=["a", "a"], amount=[-1.0, 1.0]))
    assert result.accepted.tolist() == [False, True]


def test_without_an_id_equal_rows_are_one():
    table = Table("t", time="at", known="at", keys=[SHOP], schema={"x": column(float, optional=True)})
    raw = {"at": [1, 1, 1, 1], "shop": ["a", "a", "a", "b"], "x": [math.nan, math.nan, 1.0, math.nan]}
    assert validate(table, raw).accepted.tolist() == [True, False, True, True]


def test_a_row_is_counted_once_under_its_first_fault():
    report = one(amount=-1, count="x", told=0).quarantine
    assert report.counts == {("amount", "out of range"): 1}


def test_the_report():
    amounts = np.array([1.0, -1.0, 200.0, np.nan, np.inf, 2.0])
    report = validate(SALES, batch(6, amount=amounts), limit=2).quarantine
    said = json.loads(json.dumps(report.to_json()))
    assert said == {
        "source": "sales",
        "sent": 6,
        "accepted": 2,
        "quarantined": 4,
        "reasons": [
            {"column": "amount", "reason": "missing", "rows": 1},
            {"column": "amount", "reason": "not finite", "rows": 1},
            {"column": "amount", "reason": "out of range", "rows": 2},
        ],
        "rows": [
            {"index": 1, "column": "amount", "reason": "out of range", "value": "-1.0"},
            {"index": 2, "column": "amount", "reason": "out of range", "value": "200.0"},
        ],
        "rows_not_shown": 2,
    }


def test_a_long_value_is_cut_in_the_report():
    (row,) = one(note="x" * 5000).quarantine.rows
    assert len(row.value) == 80


def test_one_huge_text_does_not_widen_the_column():
    notes = ["x"] * 20
    notes[7] = "x" * 1_000_000
    result = validate(SALES, batch(20, note=notes))
    assert result.columns["note"].dtype.itemsize <= 4000
    assert result.quarantine.counts == {("note", "too long"): 1}


def test_one_huge_text_in_an_array():
    notes = np.array(["x"] * 20)
    notes = np.where(np.arange(20) == 7, "y" * 3000, notes)
    result = validate(SALES, batch(20, note=notes))
    assert result.columns["note"].dtype.itemsize <= 4000
    assert result.quarantine.counts == {("note", "too long"): 1}


def test_gaps_in_arrays():
    ages, members = np.array([1.0, np.nan, 2.5, 130.0]), np.array([1.0, 0.0, np.nan, 2.0])
    result = validate(SALES, batch(4, age=ages, member=members))
    assert result.quarantine.counts == {("age", "wrong type"): 1, ("age", "out of range"): 1}
    assert result.columns["age"].tolist()[0] == 1.0
    assert result.columns["member"].tolist() == [1.0, 0.0]


def test_unsigned_integers_past_the_signed_range():
    counts = np.array([1, 2**63], dtype=np.uint64)
    assert validate(SALES, batch(2, count=counts)).quarantine.counts == {("count", "out of range"): 1}


def test_arrays_of_a_wrong_type_quarantine_every_row():
    for name, values in {
        "amount": ["1"] * 9,
        "count": [1.5] * 9,
        "paid": [1] * 9,
        "shop": [1] * 9,
        "sold": [1.0] * 9,
    }.items():
        result = validate(SALES, batch(9, **{name: np.array(values)}))
        assert result.quarantine.counts == {(name, "wrong type"): 9}
        assert {n: result.columns[n].dtype.name for n in DTYPES} == DTYPES


def test_a_missing_column_is_refused_as_a_whole():
    raw = {name: [value] for name, value in GOOD.items() if name != "amount"} | {"amuont": [5.0]}
    with pytest.raises(SchemaError, match=r"column 'amount' of 'sales' is missing.*rename 'amuont' to 'amount'"):
        validate(SALES, raw)


def test_columns_of_different_lengths():
    with pytest.raises(SchemaError, match=r"differ in length.*amount: 2"):
        validate(SALES, {name: [value] for name, value in GOOD.items()} | {"amount": [1.0, 2.0]})


def test_an_empty_batch():
    for empty in ([], np.array([]), np.array([], dtype=str)):
        result = validate(SALES, dict.fromkeys(GOOD, empty))
        assert len(result) == 0
        assert {name: result.columns[name].dtype.name for name in DTYPES} == DTYPES


# Rows of a JSON body.


def test_rows_with_iso_times():
    rows = [
        GOOD | {"sold": "1970-01-01T00:00:00.000010Z", "told": "1970-01-02"},
        GOOD | {"sale": "s2", "sold": "never"},
    ]
    result = validate(SALES, rows_to_columns(SALES, rows))
    assert result.columns["sold"].tolist() == [10]
    assert result.columns["told"].tolist() == [DAY]
    (bad,) = result.quarantine.rows
    assert (bad.index, bad.column, bad.reason, bad.value) == (1, "sold", "wrong type", "'never'")


def test_a_value_of_the_wrong_type_costs_only_its_own_row():
    rows = [GOOD | {"sale": f"s{number}"} for number in range(20)]
    rows[3]["amount"] = "5"
    rows[4] = {name: value for name, value in rows[4].items() if name != "count"}
    result = validate(SALES, rows_to_columns(SALES, rows))
    assert [(row.index, row.column, row.reason) for row in result.quarantine.rows] == [
        (3, "amount", "wrong type"),
        (4, "count", "missing"),
    ]
    assert result.columns["amount"].dtype == np.float64


def test_a_column_that_no_row_has_is_named():
    rows = [{name: value for name, value in GOOD.items() if name != "paid"}] * 2
    with pytest.raises(SchemaError, match="column 'paid' of 'sales' is missing"):
        validate(SALES, rows_to_columns(SALES, rows))


@pytest.mark.parametrize("row", [3, "x", None, [1]])
def test_a_row_that_is_no_object(row):
    with pytest.raises(InputError, match="row 1 for 'sales' is not an object"):
        rows_to_columns(SALES, [GOOD, row])


def test_no_rows_at_all():
    assert len(validate(SALES, rows_to_columns(SALES, []))) == 0


def test_a_request_batch():
    visits = Requests("visits", id="visit", at="at", keys=[TILL], inputs={"basket": float, "due": dt.datetime})
    rows = [{"visit": "v1", "at": "2013-03-04", "till": 4, "basket": 2, "due": 77}]
    found = request_batch(visits, validate(visits, rows_to_columns(visits, rows)).columns)
    assert (list(found.ids), found.at.tolist()) == (["v1"], [instant("2013-03-04")])
    assert found.keys["till"].tolist() == [4]
    assert list(found.inputs) == ["basket", "due"]
    assert isinstance(found.ids[0], str)


def test_only_requests_make_a_request_batch():
    with pytest.raises(InputError, match="holds events"):
        request_batch(SALES, {})


# Properties.

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 130),
    st.floats(),
    st.floats(0, 100),
    st.text(max_size=3),
    st.sampled_from(["a", "b", "s1", "s2", "x" * 201]),
    st.datetimes(),
)
likely = {
    "str": st.sampled_from(["", "a", "b", "ç"]),
    "bool": st.booleans(),
    "int": st.integers(-5, 130),
    "float": st.floats(),
    "time": st.integers(-5, 50),
}


@st.composite
def batches(draw):
    rows = draw(st.integers(0, 25))
    raw = {}
    for name, declared in SALES.every_column().items():
        of = draw(st.sampled_from([likely[declared.kind], st.one_of(likely[declared.kind], values)]))
        raw[name] = draw(st.lists(of, min_size=rows, max_size=rows))
    return raw


@settings(max_examples=150, deadline=None)
@given(batches(), st.one_of(st.none(), st.integers(0, 10**6)))
def test_no_row_is_lost(raw, now):
    rows = len(raw["shop"])
    result = validate(SALES, raw, now=now)
    report = result.quarantine
    assert len(result) + report.total == report.sent == rows
    assert int(result.accepted.sum()) == len(result)
    assert [row.index for row in report.rows] == np.flatnonzero(~result.accepted).tolist()
    assert all(len(column) == len(result) for column in result.columns.values())
    assert {name: result.columns[name].dtype.name for name in DTYPES} == DTYPES
    json.dumps(report.to_json(), allow_nan=False)
    # What was accepted is acceptable: nothing changes when it comes again.
    again = validate(SALES, result.columns, now=now)
    assert again.quarantine.total == 0
    for name, column_ in again.columns.items():
        np.testing.assert_array_equal(column_, result.columns[name])


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["str", "bool", "int", "float", "time"]), st.booleans(), st.booleans(), st.data())
def test_value_by_value_and_all_at_once_agree(kind, optional, identifying, data):
    types = {"str": str, "bool": bool, "int": int, "float": float, "time": dt.datetime}
    between = (-3.0, 100.0) if kind in ("int", "float") else None
    checked = rule("x", Column(types[kind], between, optional), identifying=identifying)
    sent = data.draw(st.lists(st.one_of(likely[kind], values), min_size=9, max_size=30))
    whole, whole_faults = coerce(checked, sent)
    for index, value in enumerate(sent):
        single, faults = coerce(checked, [value])
        mine = [why for where, why in whole_faults if (where == index if isinstance(where, int) else where[index])]
        assert [why for _, why in faults] == mine[:1]
        np.testing.assert_array_equal(single[0], whole[index])


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["int", "float", "bool"]), st.booleans(), st.data())
def test_an_array_and_its_list_agree(kind, optional, data):
    types = {"bool": bool, "int": int, "float": float}
    between = (-3.0, 100.0) if kind in ("int", "float") else None
    checked = rule("x", Column(types[kind], between, optional), identifying=False)
    sent = np.array(data.draw(st.lists(likely[kind], min_size=1, max_size=30)))
    typed, faults = coerce(checked, sent)
    listed, listed_faults = coerce(checked, sent.tolist())
    np.testing.assert_array_equal(typed, listed)
    assert typed.dtype == listed.dtype == checked.dtype
    bad = np.zeros(len(sent), bool)
    also = np.zeros(len(sent), bool)
    for found, marks in ((faults, bad), (listed_faults, also)):
        for where, _ in found:
            marks[where] = True if isinstance(where, int) else marks[where] | where[where]
    np.testing.assert_array_equal(bad, also)


def test_one_validator_serves_many_batches():
    checker = Validator(SALES)
    for number in range(3):
        raw = {name: [value] for name, value in (GOOD | {"sale": f"s{number}"}).items()}
        assert checker.validate(raw).columns["sale"].tolist() == [f"s{number}"]


@pytest.mark.parametrize("unit", ["us", "ns"])
@pytest.mark.parametrize(("kind", "of"), [(float, "datetime64"), (int, "datetime64"), (int, "timedelta64")])
@pytest.mark.parametrize("rows", [1, 20])
def test_times_and_durations_are_no_numbers(kind, of, unit, rows):
    sent = np.full(rows, 7, dtype=f"{of}[{unit}]")
    checked = rule("x", Column(kind), identifying=False)
    for column_ in (sent, list(sent)):
        _, faults = coerce(checked, column_)
        assert {why for _, why in faults} == {"wrong type"}


def test_a_duration_is_no_time():
    _, faults = coerce(rule("x", Column(dt.datetime), identifying=False), [np.timedelta64(7, "ns")])
    assert [why for _, why in faults] == ["wrong type"]
