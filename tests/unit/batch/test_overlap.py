"""Answers never go where the rows come from, whatever is asked: --anew would destroy the rows."""

from __future__ import annotations

import os
import sqlite3

import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from tests.unit.batch.batch_house import frame, run

from trimtab.errors import InputError


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Rows of every kind, named as somebody does who stands beside them."""
    monkeypatch.chdir(tmp_path)
    table = frame(20)
    pacsv.write_csv(table, "small.csv")
    pq.write_table(table, "small.parquet")
    for folder in ("d", "d/deep", "elsewhere", "left.parquet.parts"):
        (tmp_path / folder).mkdir()
    pq.write_table(table, "d/part-00000000.parquet")
    pq.write_table(table, "left.parquet.parts/part-00000000.parquet")
    (tmp_path / "link.csv").symlink_to("small.csv")
    (tmp_path / "way").symlink_to("d")
    os.link("small.csv", "hard.csv")
    with sqlite3.connect("t.db") as base:
        base.execute("CREATE TABLE visits (id INTEGER, basket REAL, visits REAL)")
        base.executemany("INSERT INTO visits VALUES (?, ?, ?)", zip(*table.to_pydict().values(), strict=True))
        base.execute("CREATE VIEW recent AS SELECT * FROM visits WHERE id > 105")
    base.close()
    (tmp_path / "link.db").symlink_to("t.db")
    return tmp_path


def content(place):
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


OWN = {
    "a file": ("small.csv", "small.csv"),
    "a file by another path": ("small.csv", "d/../small.csv"),
    "a file by a link": ("small.csv", "link.csv"),
    "a file by a hard link": ("hard.csv", "small.csv"),
    "a file of a glob": ("*.parquet", "small.parquet"),
    "a file that a glob would find": ("*.csv", "new.csv"),
    "a folder": ("d", "d/"),
    "a folder by a link": ("d", "way/"),
    "a folder in it": ("d", "d/deep/"),
    "a new folder in it": ("d", "d/new/"),
    "a folder around it": ("d/deep/../../d", "./"),
    "a file in the folder": ("d", "d/s.parquet"),
    "the folder of the file": ("d/part-00000000.parquet", "d/"),
    "the folder of the glob": ("d/*.parquet", "d/"),
    "what is not put together yet": ("left.parquet.parts", "left.parquet"),
    "a table": ("sqlite:///t.db#visits", "sqlite:///t.db#visits"),
    "a table by a link": ("sqlite:///t.db#visits", "sqlite:///link.db#visits"),
    "a table in other letters": ("sqlite:///t.db#visits", "sqlite:///t.db#main.Visits"),
    "a table under a view": ("sqlite:///t.db#recent", "sqlite:///t.db#visits"),
    "the file of a database": ("sqlite:///base.csv#visits", "base.csv"),
}


@pytest.mark.parametrize("anew", [False, True])
@pytest.mark.parametrize("kind", OWN)
def test_the_place_of_the_rows_is_refused(home, version, place, kind, anew):
    os.link("t.db", "base.csv")
    rows, out = OWN[kind]
    before = content(place)
    with pytest.raises(InputError, match="would go where the rows come from") as refused:
        run(home, rows, out, version=version, anew=anew)
    assert "--anew" not in str(refused.value)
    assert content(place) == before


QUERIES = [
    "SELECT * FROM visits ORDER BY id",
    'SELECT * FROM (SELECT * FROM main."VISITS") ORDER BY id;',
    "WITH some AS (SELECT * FROM recent) SELECT * FROM some ORDER BY id",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_reads_the_table_is_refused(home, version, place, query):
    before = content(place)
    with pytest.raises(InputError, match="would go where the rows come from"):
        run(home, "sqlite:///t.db", "sqlite:///t.db#visits", query=query, version=version, anew=True)
    assert content(place) == before


OTHER = {
    "beside it": ("small.csv", "scored.csv", ""),
    "a glob of other names": ("d/*.parquet", "scored.parquet", ""),
    "another folder": ("d", "elsewhere/", ""),
    "a table beside it": ("sqlite:///t.db#visits", "sqlite:///t.db#scored", ""),
    "a column of that name": ("sqlite:///t.db", "sqlite:///t.db#basket", "SELECT id, basket, visits FROM visits"),
    "the same table elsewhere": ("sqlite:///t.db#visits", "sqlite:///other.db#visits", ""),
}


@pytest.mark.parametrize("kind", OTHER)
def test_another_place_is_taken(home, version, place, kind):
    rows, out, query = OTHER[kind]
    before = content(place)
    assert run(home, rows, out, query=query, version=version, anew=True)["answered"] == 20
    after = content(place)
    assert all(after[path] == before[path] for path in before if path.suffix != ".db")
    with sqlite3.connect("t.db") as base:
        assert base.execute("SELECT count(*) FROM visits").fetchone() == (20,)
    base.close()
