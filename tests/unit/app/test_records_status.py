"""Lost records are on the status, in the terminal and on the page, for as long as the home lives."""

from trimtab.adapters.records.compaction import compact
from trimtab.adapters.records.layouts import OPAQUE
from trimtab.app.home import Home
from trimtab.app.overview import records_status
from trimtab.cli.status import _text
from trimtab.serving.counted import counted
from trimtab.serving.meter import COUNT, UNWRITABLE, LocalCells, Meter
from trimtab.serving.recordmode import LOST, WRITTEN
from trimtab.web.status import render_status


def test_lost_records_are_told_of(tmp_path):
    records = records_status(counted({(COUNT, (LOST,)): [1234], (COUNT, (WRITTEN,)): [7]}), Home(tmp_path))
    assert records == {"written": 7, "lost": 1234, "refusing": [], "tables": {}}
    assert "RECORDS LOST: 1,234 predictions have no record" in list(_text({"records": records}))
    assert "predictions have no record" in render_status({"project": "p", "records": records})


def test_nothing_is_said_when_none_was_lost(tmp_path):
    records = records_status(counted({(COUNT, (WRITTEN,)): [7]}), Home(tmp_path))
    assert records == {"written": 7, "lost": 0, "refusing": [], "tables": {}}
    assert not [line for line in _text({"records": records}) if "LOST" in line]
    assert "have no record" not in render_status({"project": "p", "records": records})


def test_workers_that_refuse_are_told_of(tmp_path):
    cells = LocalCells()
    Meter(cells).gauge(UNWRITABLE, 1)
    records = records_status(counted({}, {"worker-2-41-7f": cells.blocks}), Home(tmp_path))
    assert records["refusing"] == ["worker-2"]
    assert [line for line in _text({"records": records}) if line.startswith("RECORDS CANNOT BE WRITTEN: worker-2 ")]
    assert "Records cannot be written: worker-2 " in render_status({"project": "p", "records": records})


def test_each_table_says_what_it_takes_up(tmp_path):
    home = Home.of(tmp_path)
    records = home.records("w")
    records.write("events.sales", [b"x" * 2_000_000])
    records.write("predictions", [b"y"])
    compact(records, home.root / "records" / "predictions" / "parquet", layout=OPAQUE)
    found = records_status(counted({}), home)
    sales, predictions = found["tables"]["events.sales"], found["tables"]["predictions"]
    assert sales == {"spool_bytes": 2_000_032, "parquet_bytes": 0, "files": 1}
    assert predictions["files"] == 2
    assert predictions["parquet_bytes"] > 0
    assert "records events.sales: 2.0 MB in spools, 0.0 MB in Parquet, 1 files" in list(_text({"records": found}))
    assert "Records on disk" in render_status({"project": "p", "records": found})
