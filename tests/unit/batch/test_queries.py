"""A query without an order is taken, and somebody is told what depends on it."""

from __future__ import annotations

import json
import sqlite3

import pytest
from click.testing import CliRunner
from tests.unit.batch.batch_house import frame, registered

from trimtab.adapters.offline.queries import names, ordered
from trimtab.cli.main import trimtab

ORDERED = [
    "SELECT * FROM t ORDER BY id",
    "select * from t order\n  by id desc limit 5;",
    "SELECT * FROM (SELECT * FROM t) AS a ORDER BY (a.id)",
    "SELECT ')' AS b FROM t ORDER BY id -- (",
]
UNORDERED = [
    "SELECT * FROM t",
    "SELECT * FROM (SELECT * FROM t ORDER BY id)",
    "SELECT row_number() OVER (PARTITION BY f(a, (b)) ORDER BY id) FROM t",
    "SELECT 'ORDER BY id' FROM t",
    "SELECT * FROM t -- ORDER BY id",
    "SELECT * FROM t /* then\nORDER BY id */",
    'SELECT "order by" FROM t',
    "SELECT border, by FROM t",
]


@pytest.mark.parametrize("query", ORDERED + UNORDERED)
def test_the_order_of_the_whole_is_what_counts(query):
    assert ordered(query) is (query in ORDERED)


def test_names_are_words_outside_of_texts_and_comments():
    assert names("SELECT a FROM \"Scored\" WHERE b = 'visits' -- shop") == {
        "select",
        "a",
        "from",
        "scored",
        "where",
        "b",
    }


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("query", ["SELECT * FROM asked", "SELECT * FROM asked ORDER BY id"])
def test_a_query_without_order_is_warned_of_on_stderr(tmp_path, query, as_json):
    version = registered(tmp_path / "home")
    with sqlite3.connect(tmp_path / "r.db") as base:
        base.execute("CREATE TABLE asked (id INTEGER, basket REAL, visits REAL)")
        base.executemany("INSERT INTO asked VALUES (?, ?, ?)", zip(*frame(5).to_pydict().values(), strict=True))
    base.close()
    command = ["batch", "m", "-p", str(tmp_path / "home"), "--version", version, "--query", query]
    command += ["--in", f"sqlite:///{tmp_path}/r.db", "--out", str(tmp_path / "s.parquet")]
    said = CliRunner().invoke(trimtab, [*command, "--json"] if as_json else command)
    assert said.exit_code == 0, said.output
    warned = said.stderr.splitlines()
    assert len(warned) == ("ORDER" not in query)
    assert all("no ORDER BY" in line for line in warned)
    assert "ORDER BY" not in said.stdout or as_json
    if as_json:
        assert json.loads(said.stdout)["rows"] == 5
