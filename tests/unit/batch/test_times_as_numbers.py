"""Times in a column of numbers: a time is no number, whatever kind of table it stands in."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.batch.batch_house import frame, run

DAY = dt.date(2020, 1, 1)
MOMENT = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
COLUMNS = {
    "date32": pa.array([DAY] * 10),
    "date64": pa.array([DAY] * 10, pa.date64()),
    "timestamp": pa.array([MOMENT] * 10, pa.timestamp("us")),
    "timestamp in UTC": pa.array([MOMENT] * 10, pa.timestamp("ns", "UTC")),
    "timestamp with a gap": pa.array([MOMENT] * 9 + [None], pa.timestamp("s")),
    "timestamps repeated": pa.array([MOMENT] * 10, pa.timestamp("us")).dictionary_encode(),
    "duration": pa.array([dt.timedelta(1)] * 10),
    "time of day": pa.array([dt.time(1)] * 10),
    "bool": pa.array([True] * 10),
}


@pytest.mark.parametrize("place", ["parquet", "arrow", "pandas"])
@pytest.mark.parametrize("kind", COLUMNS)
def test_what_is_no_number_is_of_the_wrong_type(home, version, tmp_path, kind, place):
    rows = frame(10).set_column(1, "basket", COLUMNS[kind])
    if place == "parquet":
        pq.write_table(rows, tmp_path / "r.parquet")
        rows = str(tmp_path / "r.parquet")
    elif place == "pandas":
        rows = rows.to_pandas()
    result = run(home, rows, tmp_path / "s.parquet", version=version, chunk=4)
    assert result["reasons"] == [{"column": "basket", "reason": "wrong type", "rows": 10}]
    assert set(pq.read_table(tmp_path / "s.parquet")["status"].to_pylist()) == {"quarantined:basket:wrong type"}


def test_a_data_frame_of_datetime64(home, version, tmp_path):
    rows = frame(10).to_pandas()
    rows["basket"] = pd.to_datetime(["2020-01-01"] * 10)
    result = run(home, rows, tmp_path / "s.parquet", version=version)
    assert result["reasons"] == [{"column": "basket", "reason": "wrong type", "rows": 10}]
