"""Rows of a file as they are sent: numbered from 1, times as ISO 8601, and a bad line is named."""

import io
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trimtab.adapters.offline.rows import json_rows, parquet_rows
from trimtab.errors import InputError


def test_empty_lines_are_passed_over_and_count():
    assert list(json_rows(io.StringIO('{"a": 1}\n\n  \n{"a": null}'))) == [(1, {"a": 1}), (4, {"a": None})]


@pytest.mark.parametrize("line", ["{", "[1]", "3", '{"a": NaN}'])
def test_a_line_that_is_no_object_is_named(line):
    rows = json_rows(io.StringIO(f'{{"a": 1}}\n{line}\n'))
    assert next(rows) == (1, {"a": 1})
    with pytest.raises(InputError, match="line 2"):
        next(rows)


def test_text_that_is_not_utf8_is_refused():
    with pytest.raises(InputError, match="not UTF-8"):
        list(json_rows(io.TextIOWrapper(io.BytesIO(b'{"a": "\xff"}'), encoding="utf-8")))


def test_parquet_rows_hold_the_declared_columns_as_json_has_them(tmp_path):
    at = datetime(2024, 5, 1, 12, tzinfo=UTC)
    table = pa.table(
        {
            "at": pa.array([at, None], pa.timestamp("us", "UTC")),
            "day": pa.array([date(2024, 5, 1), None]),
            "price": pa.array([Decimal("1.50"), Decimal("2.00")]),
            "shop": ["ams", None],
            "other": [1, 2],
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    assert list(parquet_rows(tmp_path / "rows.parquet", ["at", "day", "price", "shop", "absent"])) == [
        (1, {"at": "2024-05-01T12:00:00Z", "day": "2024-05-01", "price": 1.5, "shop": "ams"}),
        (2, {"at": None, "day": None, "price": 2, "shop": None}),
    ]


def test_what_is_not_parquet_is_refused(tmp_path):
    (tmp_path / "rows.parquet").write_text("no")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        list(parquet_rows(tmp_path / "rows.parquet", ["a"]))
