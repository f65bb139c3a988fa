"""Batches from and to a real PostgreSQL server: each row once, also after kills, and no password anywhere."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.batch.batch_house import expected, frame, registered, run
from tests.unit.batch.postgres_server import PASSWORD, QUOTED, USER, binaries, postgres

from trimtab.adapters.offline.database import Address, shown
from trimtab.app import schedule_batch
from trimtab.app.batches import BatchRequest, open_output
from trimtab.errors import ConflictError, InputError, MissingExtra, Unavailable

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'trimtab[postgres]'")
SERVER = binaries()
pytestmark = pytest.mark.skipif(SERVER is None, reason="no PostgreSQL server here: initdb and postgres are not found")


@pytest.fixture(scope="module")
def server():
    with postgres(SERVER) as url:
        yield url


@pytest.fixture
def base(server):
    """A connection to an empty schema."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        yield connection


@pytest.fixture
def version(tmp_path):
    return registered(tmp_path / "home")


def fill(base, table, name="asked"):
    base.execute(
        f"CREATE TABLE {name} (id BIGINT, basket NUMERIC(30, 12), visits REAL, noted TIMESTAMPTZ DEFAULT now())"
    )
    with base.cursor().copy(f"COPY {name} (id, basket, visits) FROM STDIN") as copy:
        for row in table.to_pylist():
            copy.write_row((row["id"], row["basket"], row["visits"]))


def scored(base, name="scored"):
    return base.execute(f"SELECT id, prediction, version, status FROM {name} ORDER BY ctid").fetchall()


def test_rows_of_a_table_are_answered_into_a_table(server, base, version, tmp_path):
    table = frame(1000)
    fill(base, table)
    result = run(tmp_path / "home", f"{server}#asked", f"{server}#scored", version=version, chunk=128)
    assert (result["rows"], result["answered"], result["chunks"]) == (1000, 1000, 8)
    found = scored(base)
    assert [row[0] for row in found] == table["id"].to_pylist()
    np.testing.assert_allclose([row[1] for row in found], expected(table), atol=2e-6)
    assert {row[2:] for row in found} == {(version, "ok")}
    assert run(tmp_path / "home", f"{server}#asked", f"{server}#scored", version=version, chunk=128)["already"]
    assert base.execute("SELECT count(*) FROM scored").fetchone() == (1000,)


def test_a_query_and_a_file_give_the_same_and_gaps_are_null(server, base, version, tmp_path):
    table = frame(300)
    fill(base, table)
    base.execute("UPDATE asked SET basket = NULL WHERE id = 150")
    query = "SELECT id::text || ',\"\n' AS id, basket, visits FROM asked WHERE id < 300 ORDER BY asked.id;"
    result = run(tmp_path / "home", server, f"{server}#Public.scored", version=version, query=query, chunk=70)
    found = scored(base)
    assert (result["rows"], result["quarantined"]) == (200, 1)
    assert [row[0] for row in found] == [f'{n},"\n' for n in range(100, 300)]
    assert found[50][1] is None
    assert found[50][3] == "quarantined:basket:missing"
    run(tmp_path / "home", server, tmp_path / "s.parquet", version=version, query=query, chunk=70)
    assert pq.read_table(tmp_path / "s.parquet")["prediction"].to_pylist() == [row[1] for row in found]


def test_a_query_cannot_write(server, base, version, tmp_path):
    fill(base, frame(3))
    base.execute("CREATE FUNCTION spoil() RETURNS INT AS 'DELETE FROM asked; SELECT 1' LANGUAGE sql")
    for query in ("SELECT id, basket, visits, spoil() FROM asked ORDER BY id", "DELETE FROM asked RETURNING *"):
        with pytest.raises(InputError):
            run(tmp_path / "home", server, tmp_path / "s.parquet", version=version, query=query)
    assert base.execute("SELECT count(*) FROM asked").fetchone() == (3,)


@pytest.mark.parametrize("name", ["x; DROP TABLE asked", 'x"', "a.b.c", "x--", ""])
def test_a_name_is_a_name_and_nothing_else(server, base, version, tmp_path, name):
    with pytest.raises(InputError):
        run(tmp_path / "home", frame(3), f"{server}#{name}", version=version)


def test_changed_rows_are_refused_when_a_run_goes_on(server, base, version, tmp_path, monkeypatch):
    fill(base, frame(400))
    query, out = "SELECT id, basket, visits FROM asked ORDER BY id", f"{server}#scored"
    stopped(monkeypatch, lambda: run(tmp_path / "home", server, out, version=version, query=query, chunk=100), at=2)
    base.execute("UPDATE asked SET visits = 7 WHERE id = 110")
    with pytest.raises(InputError, match="not those that were scored"):
        run(tmp_path / "home", server, out, version=version, query=query, chunk=100)
    done = run(tmp_path / "home", server, out, version=version, query=query, chunk=100, anew=True)
    assert done["scored"] == 400
    assert len(scored(base)) == 400


def stopped(monkeypatch, work, *, at):
    """Do some work whose server goes away before a chunk is noted."""
    from trimtab.adapters.offline.sql import SqlAnswers

    note = SqlAnswers._note

    def failing(self, number, text):
        if number == at:
            with psycopg.connect(self._address.url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (self._driver.connection.info.backend_pid,))
        return note(self, number, text)

    with monkeypatch.context() as patched:
        patched.setattr(SqlAnswers, "_note", failing)
        with pytest.raises(Unavailable, match="cannot be used now"):
            work()


def test_a_lost_server_leaves_whole_chunks_and_the_run_goes_on(server, base, version, tmp_path, monkeypatch):
    table = frame(500)
    stopped(monkeypatch, lambda: run(tmp_path / "home", table, f"{server}#scored", version=version, chunk=100), at=3)
    assert [row[0] for row in scored(base)] == table["id"].to_pylist()[:300]
    again = run(tmp_path / "home", table, f"{server}#scored", version=version, chunk=100)
    assert (again["resumed_chunks"], again["scored"]) == (3, 200)
    assert [row[0] for row in scored(base)] == table["id"].to_pylist()


def test_two_runs_do_not_write_one_table(server, base, monkeypatch):
    monkeypatch.setattr("trimtab.adapters.offline.database._HELD_S", 0.3)
    first = open_output(f"{server}#scored")
    with pytest.raises(ConflictError, match="another run"):
        open_output(f"{server}#scored")
    open_output(f"{server}#other").close()
    first.close()
    open_output(f"{server}#scored").close()


def test_one_table_is_held_however_it_is_written(server, base, monkeypatch):
    monkeypatch.setattr("trimtab.adapters.offline.database._HELD_S", 0.3)
    base.execute("CREATE SCHEMA there")
    for made in (False, True):
        first = open_output(f"{server}#scored")
        for same in ("Scored", "public.scored", "PUBLIC.Scored"):
            with pytest.raises(ConflictError, match="another run"):
                open_output(f"{server}#{same}")
        open_output(f"{server}#there.scored").close()
        first.close()
        if not made:
            base.execute("CREATE TABLE scored (id INT)")


def test_a_table_is_found_where_we_may_not_read_it(server, base, version, tmp_path):
    base.execute("DROP SCHEMA IF EXISTS team CASCADE; DROP ROLE IF EXISTS team; DROP ROLE IF EXISTS bea")
    base.execute("CREATE ROLE team LOGIN PASSWORD 'x'; CREATE ROLE bea LOGIN; CREATE SCHEMA team AUTHORIZATION team")
    base.execute("GRANT USAGE, CREATE ON SCHEMA team TO bea; ALTER ROLE team SET search_path = team")
    base.execute("SET ROLE bea; CREATE TABLE team.prices (id INT); INSERT INTO team.prices VALUES (1), (2); RESET ROLE")
    ours = server.replace(f"{USER}:{QUOTED}@", "team:x@")
    for name in ("prices", "team.prices"):
        with pytest.raises(InputError, match="no run of ours"):
            run(tmp_path / "home", frame(20), f"{ours}#{name}", version=version)
    assert base.execute("SELECT id FROM team.prices").fetchall() == [(1,), (2,)]


def test_a_table_is_found_while_somebody_locks_it(server, base, version, tmp_path):
    base.execute("CREATE TABLE customers AS SELECT 1 AS id")
    with psycopg.connect(server) as other:
        other.execute("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(InputError, match="no run of ours"):
            run(tmp_path / "home", frame(20), f"{server}?options=-clock_timeout%3D300#customers", version=version)
    assert base.execute("SELECT id FROM customers").fetchall() == [(1,)]


def test_through_sqlalchemy_a_table_is_held_and_looked_for_alike(server, base, version, tmp_path, monkeypatch):
    pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
    monkeypatch.setattr("trimtab.adapters.offline.database._HELD_S", 0.3)
    through = server.replace("postgresql://", "postgresql+psycopg://")
    base.execute("CREATE TABLE customers AS SELECT 1 AS id")
    with pytest.raises(InputError, match="no run of ours"):
        run(tmp_path / "home", frame(20), f"{through}#customers", version=version)
    first = open_output(f"{through}#scored")
    for same in (f"{server}#scored", f"{through}#public.scored"):
        with pytest.raises(ConflictError, match="another run"):
            open_output(same)
    first.close()
    fill(base, frame(300))
    asked = {"version": version, "chunk": 100}
    assert run(tmp_path / "home", f"{through}#asked", f"{through}#scored", **asked)["rows"] == 300
    assert run(tmp_path / "home", f"{through}#asked", f"{through}#scored", **asked)["already"]
    assert len(scored(base)) == 300


def test_killed_again_and_again_every_row_is_there_once(server, base, version, tmp_path):
    rows, generator, kills = 60_000, random.Random(5), 0
    fill(base, frame(rows))
    command = [sys.executable, "-m", "trimtab", "batch", "m", "-p", str(tmp_path / "home"), "--json", "--chunk", "500"]
    command += ["--in", server, "--query", "SELECT * FROM asked ORDER BY id", "--out", f"{server}#scored"]
    command += ["--version", version]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")}
    while True:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(0.6 + generator.random())
        if kills < 4 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
            process.communicate()
            continue
        said, wrong = process.communicate(timeout=120)
        break
    assert process.returncode == 0, wrong
    assert kills > 0
    assert [row[0] for row in scored(base)] == list(range(100, rows + 100))
    assert json.loads(said)["rows"] == rows
    assert PASSWORD.encode() not in said + wrong
    assert QUOTED.encode() not in said + wrong


def test_no_password_is_told_or_kept(server, base, version, tmp_path):
    home = tmp_path / "home"
    said = json.dumps(run(home, frame(3), f"{server}#scored", version=version))
    kept = "".join(facts for (facts,) in base.execute("SELECT facts FROM trimtab_batch"))
    for wrong in (server.replace("/postgres", "/nothing"), server.replace(QUOTED, "wr0ng-w0rd")):
        with pytest.raises(Unavailable) as refused:
            run(home, f"{wrong}#asked", tmp_path / "s.parquet", version=version)
        said += str(refused.value)
    with pytest.raises(InputError, match="a password must not be") as refused:
        schedule_batch(home, "m", f"{server}#asked", out="s/{time}.parquet", every=86_400_000_000, options={})
    said += str(refused.value) + kept
    for secret in (PASSWORD, QUOTED, "wr0ng-w0rd"):
        assert secret not in said
        assert not [path for path in home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert shown(f"{server}#scored") == server.replace(f":{QUOTED}", "") + "#scored"


def test_a_password_may_come_from_the_environment(server, base, version, tmp_path, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    plain = server.replace(f":{QUOTED}", "")
    assert run(tmp_path / "home", frame(5), f"{plain}#scored", version=version)["answered"] == 5


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:s3c@h/d",
        "postgresql://h/d?user=a&password=s3c",
        "postgresql://a:s3c@[h/d",
        "mysql://a:s3c@h:x/d",
    ],
)
def test_an_address_is_shown_without_its_password(url):
    address = Address.of(f"{url}#t")
    assert "s3c" not in address.shown
    assert "s3c" not in address.cleaned(f"could not connect to {url}")


def test_a_missing_driver_says_how_to_install_it(monkeypatch, version, tmp_path):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"trimtab\[postgres\]"):
        run(tmp_path / "home", frame(3), "postgresql://h/d#t", version=version)


def test_the_schema_of_arrow_types_is_that_of_the_table(server, base, version, tmp_path):
    table = pa.table({"id": ["a", "", None], "basket": [1.0, 2.0, 3.0], "visits": [1.0, 2.0, 3.0]})
    run(tmp_path / "home", table, f"{server}#scored", version=version)
    assert [row[0] for row in scored(base)] == ["a", "", None]
    kinds = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'scored'"
    assert dict(base.execute(kinds).fetchall()) == {
        "id": "text", "prediction": "double precision", "version": "text", "status": "text",
    }  # fmt: skip
    assert BatchRequest("m", table, "x").threads == 0


@pytest.mark.parametrize("kind", ["table", "other address", "schema", "query", "view", "partitions"])
def test_answers_never_go_to_the_table_of_the_rows(server, base, version, tmp_path, kind):
    fill(base, frame(30))
    base.execute("CREATE VIEW few AS SELECT * FROM asked WHERE id < 120")
    base.execute("CREATE TABLE whole (LIKE asked) PARTITION BY RANGE (id)")
    base.execute("CREATE TABLE half PARTITION OF whole FOR VALUES FROM (0) TO (1000)")
    rows, out, query = {
        "table": (f"{server}#asked", f"{server}#asked", ""),
        "other address": (f"{server}#asked", f"{server.replace('127.0.0.1', 'localhost')}?connect_timeout=9#asked", ""),
        "schema": (f"{server}#asked", f"{server}#public.asked", ""),
        "query": (server, f"{server}#asked", "SELECT * FROM Asked WHERE id % 2 = 0 ORDER BY id;"),
        "view": (f"{server}#few", f"{server}#asked", ""),
        "partitions": (f"{server}#whole", f"{server}#whole", ""),
    }[kind]
    for anew in (False, True):
        with pytest.raises(InputError, match="would go where the rows come from") as refused:
            run(tmp_path / "home", rows, out, query=query, version=version, anew=anew)
        assert PASSWORD not in str(refused.value)
        assert "--anew" not in str(refused.value)
    assert base.execute("SELECT count(*) FROM asked").fetchone() == (30,)
    base.execute("DROP SCHEMA IF EXISTS there CASCADE")
    base.execute("CREATE SCHEMA there")
    assert run(tmp_path / "home", f"{server}#asked", f"{server}#there.asked", version=version)["answered"] == 30
