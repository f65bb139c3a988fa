"""Answers in a table of a database: one run at a time, and never in place of a table that is somebody else's."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.batch.batch_house import frame, run

from trimtab.adapters.offline import sql
from trimtab.adapters.offline.sql import SqlAnswers
from trimtab.app.batches import open_output
from trimtab.errors import ConflictError, InputError, Unavailable

ROOT = Path(__file__).parents[3]
SCHEMA = pa.schema([("id", pa.int64())])


def counted(file, table="scored"):
    with closing(sqlite3.connect(file)) as base:
        return base.execute(f"SELECT count(*), count(DISTINCT id) FROM {table}").fetchone()


def ids(*numbers):
    return pa.table({"id": list(numbers)})


# -- one run at a time


def test_two_runs_do_not_write_one_table(tmp_path):
    (tmp_path / "link.db").symlink_to(tmp_path / "o.db")
    first = open_output(f"sqlite:///{tmp_path}/o.db#scored")
    for same in (f"sqlite:///{tmp_path}/o.db#main.Scored", f"sqlite:///{tmp_path}/link.db#scored"):
        with pytest.raises(ConflictError, match="another run"):
            open_output(same)
    open_output(f"sqlite:///{tmp_path}/o.db#other").close()
    first.close()
    open_output(f"sqlite:///{tmp_path}/o.db#scored").close()
    assert {path.name for path in tmp_path.iterdir()} == {"o.db", "link.db"}


def test_of_two_runs_that_start_at_once_one_is_refused_and_no_row_is_there_twice(home, version, tmp_path):
    pq.write_table(frame(1000), tmp_path / "rows.parquet")
    command = [sys.executable, "-m", "trimtab", "batch", "m", "--version", version, "--home", str(home), "--json"]
    command += ["--in", str(tmp_path / "rows.parquet"), "--out", f"sqlite:///{tmp_path}/o.db#scored"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    for process, told in zip(both, said, strict=True):  # one may come when the other has ended
        assert process.returncode == 0 or told["kind"] == "ConflictError"
    assert 0 in [process.returncode for process in both]
    assert counted(tmp_path / "o.db") == (1000, 1000)


def test_a_killed_run_holds_no_table(tmp_path):
    script = "import os, sys; from trimtab.app.batches import open_output; "
    script += "held = open_output(sys.argv[1]); os.kill(os.getpid(), 9)"
    out = f"sqlite:///{tmp_path}/o.db#scored"
    done = subprocess.run(
        [sys.executable, "-c", script, out], check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "o.db.scored.lock").exists()
    open_output(out).close()
    assert [path.name for path in tmp_path.iterdir()] == ["o.db"]


@pytest.fixture
def unheld(monkeypatch):
    """As in a database that knows no locks."""
    monkeypatch.setattr(sql, "hold", lambda _: None)


@pytest.mark.parametrize("equal", [False, True])
def test_without_a_lock_the_run_that_began_last_goes_on_and_no_row_is_there_twice(unheld, tmp_path, equal):
    out = f"sqlite:///{tmp_path}/o.db#scored"
    first, second = open_output(out), open_output(out)
    first.begin(b"{}", SCHEMA)
    first.write(0, b"{}", ids(1, 2))
    second.begin(b"{}" if equal else b"{ }", SCHEMA)
    second.write(0, b"{}", ids(1, 2))
    with pytest.raises(InputError if equal else ConflictError):  # the chunk is noted, or the run is not ours
        first.write(0, b"{}", ids(1, 2))
    second.finish(b"{}", chunks=1)
    for late in (lambda: first.write(1, b"{}", ids(3)), lambda: first.finish(b"{}", chunks=1)):
        with pytest.raises(ConflictError, match="another run has begun"):
            late()
    assert counted(tmp_path / "o.db") == (2, 2)
    first.close()
    second.close()


def test_without_a_lock_one_that_goes_on_with_a_run_is_told_when_it_is_begun_anew(unheld, tmp_path):
    out = f"sqlite:///{tmp_path}/o.db#scored"
    killed = open_output(out)
    killed.begin(b"{}", SCHEMA)
    killed.write(0, b"{}", ids(1, 2))
    killed.close()
    goes_on, anew = open_output(out), open_output(out)
    assert set(goes_on.notes()) == {-1, 0}
    goes_on.write(1, b"{}", ids(3))
    anew.begin(b"{ }", SCHEMA)
    with pytest.raises(ConflictError):
        goes_on.write(2, b"{}", ids(4))
    goes_on.close()
    anew.close()
    assert counted(tmp_path / "o.db") == (0, 0)


# -- what is somebody else's


@pytest.fixture
def theirs(tmp_path):
    with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as base:
        base.execute("CREATE TABLE customers (id INTEGER)")
        base.execute("INSERT INTO customers VALUES (1), (2)")
        base.execute("CREATE VIEW few AS SELECT id FROM customers WHERE id < 2")
        yield base


@pytest.mark.parametrize("name", ["customers", "Customers", "main.customers", "few"])
def test_a_table_or_view_of_somebody_else_is_refused(home, version, tmp_path, theirs, name):
    with pytest.raises(InputError, match="no run of ours"):
        run(home, frame(20), f"sqlite:///{tmp_path}/shop.db#{name}", version=version)
    assert theirs.execute("SELECT id FROM customers").fetchall() == [(1,), (2,)]


def test_a_table_that_cannot_be_looked_for_is_not_taken_for_absent(home, version, tmp_path, theirs, monkeypatch):
    real = SqlAnswers.exists

    def locked(self):
        self._driver.connection.execute("PRAGMA busy_timeout = 50")
        theirs.execute("BEGIN EXCLUSIVE")
        try:
            return real(self)
        finally:
            theirs.execute("COMMIT")

    monkeypatch.setattr(SqlAnswers, "exists", locked)
    with pytest.raises(Unavailable, match="cannot be used now"):
        run(home, frame(20), f"sqlite:///{tmp_path}/shop.db#customers", version=version)
    assert theirs.execute("SELECT id FROM customers").fetchall() == [(1,), (2,)]


def test_a_table_that_is_made_after_we_looked_is_not_dropped(home, version, tmp_path, theirs, monkeypatch):
    real = SqlAnswers.exists

    def made_since(self):
        found = real(self)
        theirs.execute("CREATE TABLE scored AS SELECT id FROM customers")
        return found

    monkeypatch.setattr(SqlAnswers, "exists", made_since)
    with pytest.raises(InputError, match="already exists"):
        run(home, frame(20), f"sqlite:///{tmp_path}/shop.db#scored", version=version)
    assert theirs.execute("SELECT id FROM scored").fetchall() == [(1,), (2,)]
    monkeypatch.undo()
    run(home, frame(20), f"sqlite:///{tmp_path}/shop.db#scored", version=version, anew=True)
    assert counted(tmp_path / "shop.db") == (20, 20)


def test_a_run_whose_table_was_dropped_is_done_again(home, version, tmp_path):
    out = f"sqlite:///{tmp_path}/o.db#scored"
    run(home, frame(20), out, version=version)
    with closing(sqlite3.connect(tmp_path / "o.db")) as base:
        base.execute("DROP TABLE scored")
    assert not run(home, frame(20), out, version=version)["already"]
    assert run(home, frame(20), out, version=version)["already"]
    assert counted(tmp_path / "o.db") == (20, 20)


# -- through SQLAlchemy


def test_through_sqlalchemy_a_table_is_held_and_looked_for_alike(home, version, tmp_path, theirs):
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
    place = f"sqlite+pysqlite:///{tmp_path}/shop.db"
    for name in ("customers", "Customers", "few"):
        with pytest.raises(InputError, match="no run of ours"):
            run(home, frame(20), f"{place}#{name}", version=version)
    assert theirs.execute("SELECT id FROM customers").fetchall() == [(1,), (2,)]
    held = open_output(f"{place}#scored")
    with pytest.raises(ConflictError, match="another run"):
        open_output(f"sqlite:///{tmp_path}/shop.db#scored")
    held.close()
    assert run(home, frame(200), f"{place}#scored", version=version, chunk=50)["rows"] == 200
    assert run(home, frame(200), f"{place}#scored", version=version, chunk=50)["already"]
    assert counted(tmp_path / "shop.db") == (200, 200)
