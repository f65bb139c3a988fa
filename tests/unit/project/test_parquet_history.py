"""History from Parquet: any sensible Arrow type comes in typed, and what cannot be read says why."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trimtab.adapters.offline.parquet import read_history, to_numpy, write_parquet
from trimtab.errors import ProjectError, SchemaError
from trimtab.features.sources import Entity, Events, column

SALES = Events(
    "sales",
    time="sold",
    known="told",
    keys=[Entity("shop"), Entity("till", int)],
    schema={"amount": float, "count": column(int, optional=True), "paid": column(bool, optional=True)},
    history="data/*.parquet",
)
ROWS = 5
NEW_YEAR = np.datetime64(1_356_998_400_000_000, "us")


def columns(rows=ROWS):
    return {
        "sold": np.arange(rows) * 1_000_000 + 7,
        "told": np.arange(rows) * 1_000_000 + 9,
        "shop": np.array([f"é{number % 2}" for number in range(rows)]),
        "till": np.arange(rows),
        "amount": np.arange(rows) / 3,
        "count": np.arange(rows),
        "paid": np.arange(rows) % 2 == 0,
        "other": np.arange(rows),
    }


def test_what_is_written_is_read(tmp_path):
    write_parquet(tmp_path / "data" / "a.parquet", columns(), times=("sold", "told"))
    stored = pq.read_schema(tmp_path / "data" / "a.parquet")
    assert stored.field("sold").type == pa.timestamp("us", "UTC")
    found = read_history(SALES, tmp_path)
    assert len(found) == ROWS
    assert "other" not in found.columns
    for name, values in found.columns.items():
        assert values.tolist() == columns()[name].tolist()
    assert [item.name for item in (tmp_path / "data").iterdir()] == ["a.parquet"]


def test_files_of_a_glob_follow_each_other_by_name(tmp_path):
    second = columns(2) | {"amount": np.array([1.0, np.nan])}
    write_parquet(tmp_path / "data" / "2.parquet", second, times=("sold", "told"))
    write_parquet(tmp_path / "data" / "10.parquet", columns(3), times=("sold", "told"))
    found = read_history(SALES, tmp_path)
    assert found.columns["amount"].tolist() == [0, 1 / 3, 2 / 3, 1]
    (bad,) = found.quarantine.rows
    assert (bad.index, bad.column, bad.reason) == (4, "amount", "missing")


@pytest.mark.parametrize(
    ("arrow", "expected"),
    [
        (pa.array([dt.datetime(2013, 1, 1)], pa.timestamp("s")), [NEW_YEAR]),  # noqa: DTZ001
        (pa.array([1_356_998_400_000_000_123], pa.timestamp("ns", "America/New_York")), [NEW_YEAR]),
        (pa.array([dt.date(2013, 1, 1)]), [NEW_YEAR]),
        (pa.array([dt.date(2013, 1, 1), None]), [NEW_YEAR, np.datetime64("NaT")]),
        (pa.array([Decimal("1.25"), None], pa.decimal128(9, 2)), [1.25, np.nan]),
        (pa.array([Decimal(3)], pa.decimal128(9, 0)), [3]),
        (pa.array(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
        (pa.array(["a"] * 9 + ["bcd"]), ["a"] * 9 + ["bcd"]),
        (pa.array(["a", None]), ["a", None]),
        (pa.array([], pa.string()), []),
        (pa.array([1, None]), [1.0, np.nan]),
        (pa.array([True, None]), [True, None]),
        (pa.array([1.5], pa.float32()), [1.5]),
    ],
)
def test_arrow_types(arrow, expected):
    np.testing.assert_array_equal(to_numpy(pa.chunked_array([arrow])), np.array(expected))


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("name", ["amount", "till"])
def test_times_in_a_column_of_numbers_are_of_the_wrong_type(tmp_path, name, gap):
    spoilt = columns() | {name: np.arange(ROWS).astype("datetime64[us]")}
    if gap:
        spoilt[name][1] = "NaT"
    write_parquet(tmp_path / "data" / "a.parquet", spoilt, times=("sold", "told"))
    found = read_history(SALES, tmp_path).quarantine.to_json()
    assert found["reasons"] == [{"column": name, "reason": "wrong type", "rows": ROWS}]


def test_a_time_at_fault_is_shown_as_a_time(tmp_path):
    early = columns(1) | {"sold": np.array([NEW_YEAR.astype(int)])}
    write_parquet(tmp_path / "data" / "a.parquet", early, times=("sold", "told"))
    (bad,) = read_history(SALES, tmp_path).quarantine.rows
    assert (bad.column, bad.reason) == ("told", "known before it happened")
    assert bad.value.startswith("1970-01-01T00:00:00")


def test_text_in_several_chunks():
    found = to_numpy(pa.chunked_array([["a"] * 5, ["b"] * 5, []], pa.string()))
    assert found.tolist() == ["a"] * 5 + ["b"] * 5
    assert found.dtype.kind == "U"


def test_gaps(tmp_path):
    table = pa.table(
        {
            "sold": pa.array([1, 2, None], pa.timestamp("us")),
            "told": pa.array([3, 3, 3], pa.timestamp("us")),
            "shop": ["a", None, "c"],
            "till": [1, 2, 3],
            "amount": [1.0, 2.0, 3.0],
            "count": [None, 2, 3],
            "paid": [None, True, False],
        }
    )
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data" / "a.parquet")
    found = read_history(SALES, tmp_path)
    assert found.quarantine.counts == {("shop", "missing"): 1, ("sold", "missing"): 1}
    assert np.isnan(found.columns["count"]).tolist() == np.isnan(found.columns["paid"]).tolist() == [True]


def test_no_file(tmp_path):
    with pytest.raises(
        ProjectError, match=r"no file matches the history of 'sales'.*relative to the project"
    ) as raised:
        read_history(SALES, tmp_path)
    assert raised.value.where.startswith(__file__)


def test_no_history(tmp_path):
    bare = Events("bare", time="at", known="at", keys=[], schema={})
    with pytest.raises(ProjectError, match="declares no history"):
        read_history(bare, tmp_path)


def test_a_file_that_is_not_parquet(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.parquet").write_bytes(b"not Parquet")
    with pytest.raises(ProjectError, match=r"a\.parquet of 'sales' cannot be read as Parquet"):
        read_history(SALES, tmp_path)


def test_a_file_that_was_cut(tmp_path):
    file = tmp_path / "data" / "a.parquet"
    write_parquet(file, columns(1000), times=("sold", "told"))
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + b"\x00" * 1000 + whole[1100:])
    with pytest.raises(ProjectError, match="cannot be read as Parquet"):
        read_history(SALES, tmp_path)


def test_a_file_that_lacks_a_column(tmp_path):
    short = {name: values for name, values in columns().items() if name not in ("amount", "count")}
    write_parquet(tmp_path / "data" / "a.parquet", short, times=("sold", "told"))
    with pytest.raises(SchemaError, match=r"a\.parquet lacks columns that 'sales' declares.*add amount, or"):
        read_history(SALES, tmp_path)


def test_a_column_that_only_one_file_has(tmp_path):
    short = {name: values for name, values in columns(2).items() if name != "count"}
    write_parquet(tmp_path / "data" / "a.parquet", short, times=("sold", "told"))
    write_parquet(tmp_path / "data" / "b.parquet", columns(2), times=("sold", "told"))
    np.testing.assert_array_equal(read_history(SALES, tmp_path).columns["count"], [np.nan, np.nan, 0, 1])


def test_a_failed_write_leaves_what_was_there(tmp_path):
    file = tmp_path / "a.parquet"
    write_parquet(file, columns(3), times=("sold", "told"))
    before = file.read_bytes()
    with pytest.raises(pa.ArrowInvalid):
        write_parquet(file, columns(3) | {"till": np.arange(2)}, times=("sold", "told"))
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
