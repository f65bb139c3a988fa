"""Batch inference: every row once, from every kind of table to every kind of place, and honest about bad rows."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from tests.unit.batch.batch_house import expected, frame, registered, run

from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.errors import ConflictError, InputError, SchemaError, Unavailable, UnknownName
from trimtab.serving.record import PREDICTIONS, decode_record
from trimtab.serving.scoring import TABLE


def read(place):
    return pq.read_table(place) if not str(place).endswith(".csv") else pacsv.read_csv(place)


def as_file(table, place):
    pq.write_table(table, place, row_group_size=170)
    return str(place)


def as_csv(table, place):
    pacsv.write_csv(table, place)
    return str(place)


def as_directory(table, place):
    place.mkdir()
    for part in range(4):
        pq.write_table(table.slice(part * 250, 250), place / f"p{part}.parquet", row_group_size=90)
    return str(place)


def as_sqlite(table, place):
    with sqlite3.connect(place) as base:
        base.execute("CREATE TABLE asked (id INTEGER, basket REAL, visits REAL, other TEXT)")
        base.executemany("INSERT INTO asked VALUES (?, ?, ?, 'x')", zip(*table.to_pydict().values(), strict=True))
    base.close()
    return f"sqlite:///{place}#asked"


def as_pandas(table, _):
    return table.to_pandas()


def as_arrow(table, _):
    return table


def as_mapping(table, _):
    return {name: table[name].to_numpy() for name in table.column_names}


KINDS = {
    "rows.parquet": as_file,
    "rows.csv": as_csv,
    "rows": as_directory,
    "rows.db": as_sqlite,
    "pandas": as_pandas,
    "arrow": as_arrow,
    "mapping": as_mapping,
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("chunk", [64, 1000, 5000])
def test_every_kind_of_table_gives_every_row_once_in_order(home, version, tmp_path, name, chunk):
    table = frame()
    rows = KINDS[name](table, tmp_path / name)
    result = run(home, rows, tmp_path / "scored.parquet", version=version, chunk=chunk)
    found = read(tmp_path / "scored.parquet")
    assert result["rows"] == result["answered"] == result["scored"] == 1000
    assert result["chunks"] == -(-1000 // chunk)
    assert [str(value) for value in found["id"].to_pylist()] == [str(value) for value in table["id"].to_pylist()]
    np.testing.assert_allclose(found["prediction"].to_numpy(), expected(table), atol=2e-6)
    assert set(found["version"].to_pylist()) == {version}
    assert set(found["status"].to_pylist()) == {"ok"}
    assert not (tmp_path / "scored.parquet.parts").exists()


@pytest.mark.parametrize("out", ["scored.parquet", "scored.csv", "scored/"])
def test_every_kind_of_file_holds_the_same(home, version, tmp_path, out):
    table = frame()
    place = f"{tmp_path}/{out}"
    run(home, table, place, version=version, chunk=128)
    found = read(place) if not out.endswith("/") else pa.concat_tables(
        [pq.read_table(part, partitioning=None) for part in sorted((tmp_path / "scored").glob("*.parquet"))]
    )  # fmt: skip
    assert found["id"].to_pylist() == table["id"].to_pylist()
    np.testing.assert_allclose(found["prediction"].to_numpy(), expected(table), atol=2e-6)


def test_answers_go_to_a_database(home, version, tmp_path):
    table, place = frame(), tmp_path / "s.db"
    result = run(home, table, f"sqlite:///{place}#scored", version=version, chunk=128)
    with sqlite3.connect(place) as base:
        rows = base.execute("SELECT id, prediction, version, status FROM scored").fetchall()
    base.close()
    assert result["answered"] == len(rows) == 1000
    assert [row[0] for row in rows] == table["id"].to_pylist()
    np.testing.assert_allclose([row[1] for row in rows], expected(table), atol=2e-6)
    assert run(home, table, f"sqlite:///{place}#scored", version=version, chunk=128)["already"]
    with pytest.raises(InputError, match="another run"):
        run(home, frame(10), f"sqlite:///{place}#scored", version=version)


def test_the_answers_are_those_of_http(home, version, tmp_path):
    from trimtab.app.alone import serve_model

    table = frame(50)
    run(home, table, tmp_path / "s.parquet", version=version)
    rows = [
        {"basket": b, "visits": v} for b, v in zip(*(table[n].to_pylist() for n in ("basket", "visits")), strict=True)
    ]
    with serve_model(home, version, port=0) as served:
        answers = served.predict(rows)
    assert read(tmp_path / "s.parquet")["prediction"].to_pylist() == answers.tolist()


# -- bad rows


BAD = {
    "missing": (None, "missing"),
    "nan": (np.nan, "missing"),
    "infinite": (np.inf, "not finite"),
    "past float32": (1e300, "past the range of float32"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_row_keeps_its_place_and_says_why(home, version, tmp_path, bad):
    value, reason = BAD[bad]
    table = frame(100)
    basket = table["basket"].to_pylist()
    basket[37] = value
    spoilt = table.set_column(1, "basket", pa.array(basket, pa.float64()))
    result = run(home, spoilt, tmp_path / "s.parquet", version=version, chunk=30)
    found = read(tmp_path / "s.parquet")
    assert result["quarantined"] == 1
    assert result["answered"] == 99
    assert result["reasons"] == [{"column": "basket", "reason": reason, "rows": 1}]
    assert result["bad_rows"][0]["row"] == 37
    assert found["id"].to_pylist() == table["id"].to_pylist()
    assert found["status"][37].as_py() == f"quarantined:basket:{reason}"
    assert found["prediction"].is_null().to_pylist() == [row == 37 for row in range(100)]
    np.testing.assert_allclose(np.delete(found["prediction"].to_numpy(), 37), np.delete(expected(table), 37), atol=2e-6)


def test_threads_and_pieces_make_no_difference(home, version, tmp_path):
    table = frame(9000).to_pydict()
    table["basket"][8999] = float("nan")  # only found when the last piece is made
    for threads in (1, 2, 5):
        result = run(home, table, tmp_path / f"s{threads}.parquet", version=version, threads=threads)
        assert (result["answered"], result["quarantined"], result["bad_rows"][0]["row"]) == (8999, 1, 8999)
    one, *others = [read(tmp_path / f"s{threads}.parquet") for threads in (1, 2, 5)]
    assert one["id"].to_pylist() == table["id"]
    for other in others:
        np.testing.assert_allclose(other["prediction"].to_numpy(), one["prediction"].to_numpy(), rtol=1e-6)
        assert other.drop_columns(["prediction"]).equals(one.drop_columns(["prediction"]))


def test_text_among_numbers_of_a_csv_is_quarantined(home, version, tmp_path):
    (tmp_path / "r.csv").write_text("id,basket,visits\na,1,2\nb,much,2\nc,,2\nd,4,5\n")
    result = run(home, str(tmp_path / "r.csv"), tmp_path / "s.csv", version=version)
    assert [row["row"] for row in result["bad_rows"]] == [1, 2]
    assert {row["reason"] for row in result["reasons"]} == {"wrong type", "missing"}
    assert read(tmp_path / "s.csv")["id"].to_pylist() == ["a", "b", "c", "d"]


def test_an_optional_column_may_be_missing_and_absent(tmp_path):
    version = registered(tmp_path, optional=["visits"])
    table = frame(20)
    gaps = table.set_column(2, "visits", pa.array([None] * 20, pa.float32()))
    assert run(tmp_path, gaps, tmp_path / "s.parquet", version=version)["failed"] == 20  # NaN in, NaN out
    absent = run(tmp_path, table.drop_columns(["visits"]), tmp_path / "t.parquet", version=version)
    assert absent["statuses"] == {"error:not_finite": 20}
    assert absent["quarantined"] == 0


def test_a_table_without_a_column_is_refused_as_a_whole(home, version, tmp_path):
    table = frame(10).rename_columns(["id", "baskt", "visits"])
    with pytest.raises(SchemaError, match=r"'basket' is missing.*rename 'baskt'"):
        run(home, table, tmp_path / "s.parquet", version=version)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow", "pandas"])
@pytest.mark.parametrize("twice", ["basket", "id"])
def test_a_column_that_is_there_twice_is_refused_by_name(home, version, tmp_path, kind, twice):
    table = frame(10).append_column(twice, pa.array(range(10)))
    rows = {
        "csv": lambda: as_csv(table, tmp_path / "r.csv"),
        "parquet": lambda: as_file(table, tmp_path / "r.parquet"),
        "arrow": lambda: table,
        "pandas": lambda: pd.DataFrame(np.ones((10, 4)), columns=table.column_names),
    }[kind]()
    before = list(tmp_path.iterdir())
    with pytest.raises(InputError, match=twice):
        run(home, rows, tmp_path / "s.parquet", version=version)
    assert list(tmp_path.iterdir()) == before


@pytest.mark.parametrize("kind", [as_csv, as_file])
def test_a_column_that_nobody_reads_may_be_there_twice(home, version, tmp_path, kind):
    table = frame(10).append_column("x", pa.array(range(10))).append_column("x", pa.array(range(10)))
    rows = kind(table, tmp_path / ("r.csv" if kind is as_csv else "r.parquet"))
    assert run(home, rows, tmp_path / "s.parquet", version=version)["answered"] == 10


def test_files_of_which_one_repeats_a_column_are_refused(home, version, tmp_path):
    as_file(frame(10), tmp_path / "a.parquet")
    as_file(frame(10).append_column("basket", pa.array(range(10))), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="different columns"):
        run(home, f"{tmp_path}/[ab].parquet", tmp_path / "s.parquet", version=version)


def test_no_rows_are_an_empty_table(home, version, tmp_path):
    result = run(home, frame(0), tmp_path / "s.parquet", version=version)
    assert result["rows"] == 0
    assert read(tmp_path / "s.parquet").column_names == ["id", "prediction", "version", "status"]


def test_rows_without_ids_are_numbered(home, version, tmp_path):
    run(home, frame(300).drop_columns(["id"]), tmp_path / "s.parquet", version=version, chunk=100)
    assert read(tmp_path / "s.parquet")["id"].to_pylist() == list(range(300))


# -- going on


class Stop(Exception):
    pass


def interrupted(home, rows, out, *, after, **more):
    """A run that ends after so many chunks."""
    from trimtab.adapters.clock.system import SystemClock
    from trimtab.app.batches import BatchRequest
    from trimtab.app.scoring import run_batch

    left = [after]

    def progress(_):
        left[0] -= 1
        if not left[0]:
            raise Stop

    with pytest.raises(Stop):
        run_batch(home, BatchRequest("m", rows, str(out), **more), clock=SystemClock(), progress=progress)


@pytest.mark.parametrize("kind", ["rows.parquet", "rows.csv", "rows.db", "arrow"])
@pytest.mark.parametrize("out", ["s.parquet", "s.csv", "sqlite"])
def test_an_interrupted_run_goes_on_and_is_what_a_whole_one_is(home, version, tmp_path, kind, out):
    rows = KINDS[kind](frame(), tmp_path / kind)
    place = tmp_path / out if out != "sqlite" else f"sqlite:///{tmp_path}/s.db#scored"
    whole = tmp_path / f"whole-{out}" if out != "sqlite" else f"sqlite:///{tmp_path}/s.db#whole"
    run(home, rows, whole, version=version, chunk=150)
    interrupted(home, rows, place, after=3, version=version, chunk=150)
    result = run(home, rows, place, version=version, chunk=150)
    assert (result["resumed_chunks"], result["chunks"], result["scored"], result["rows"]) == (3, 7, 550, 1000)
    if out != "sqlite":
        assert place.read_bytes() == whole.read_bytes()
        return
    with sqlite3.connect(tmp_path / "s.db") as base:
        first, second = (base.execute(f"SELECT * FROM {name}").fetchall() for name in ("scored", "whole"))
    base.close()
    assert first == second
    assert len(first) == 1000


def test_a_run_that_is_done_is_not_done_again(home, version, tmp_path):
    rows = as_file(frame(), tmp_path / "r.parquet")
    first = run(home, rows, tmp_path / "s.parquet", version=version)
    before = (tmp_path / "s.parquet").stat().st_mtime_ns
    again = run(home, rows, tmp_path / "s.parquet", version=version)
    assert (again["already"], again["scored"], again["rows"]) == (True, 0, first["rows"])
    assert (tmp_path / "s.parquet").stat().st_mtime_ns == before
    assert not (tmp_path / "s.parquet.parts").exists()


def test_a_changed_input_is_refused_until_asked_anew(home, version, tmp_path):
    rows = as_file(frame(), tmp_path / "r.parquet")
    interrupted(home, rows, tmp_path / "s.parquet", after=2, version=version, chunk=100)
    as_file(frame(seed=1), tmp_path / "r.parquet")
    with pytest.raises(InputError, match=r"content of the input differs.*--anew"):
        run(home, rows, tmp_path / "s.parquet", version=version, chunk=100)
    assert run(home, rows, tmp_path / "s.parquet", version=version, chunk=100, anew=True)["resumed_chunks"] == 0
    np.testing.assert_allclose(
        read(tmp_path / "s.parquet")["prediction"].to_numpy(), expected(frame(seed=1)), atol=2e-6
    )


@pytest.mark.parametrize("change", ["UPDATE asked SET basket = 7 WHERE id = 120", "DELETE FROM asked WHERE id > 150"])
def test_changed_rows_of_a_query_are_refused(home, version, tmp_path, change):
    rows = as_sqlite(frame(), tmp_path / "r.db")
    interrupted(home, rows, tmp_path / "s.parquet", after=2, version=version, chunk=100)
    with sqlite3.connect(tmp_path / "r.db") as base:
        base.execute(change)
    base.close()
    with pytest.raises(InputError, match="not those that were scored"):
        run(home, rows, tmp_path / "s.parquet", version=version, chunk=100)


def test_another_version_is_not_mixed_in(home, version, tmp_path):
    other = registered(home, bias=1.0)
    rows = frame()
    interrupted(home, rows, tmp_path / "s.parquet", after=2, version=version, chunk=100)
    with pytest.raises(InputError, match="the version differs"):
        run(home, rows, tmp_path / "s.parquet", version=other, chunk=100)
    goes_on = run(home, rows, tmp_path / "s.parquet", chunk=100)  # none named: that of the run
    assert goes_on["version"] == version
    assert set(read(tmp_path / "s.parquet")["version"].to_pylist()) == {version}


def test_what_somebody_else_put_there_is_not_overwritten(home, version, tmp_path):
    (tmp_path / "s.parquet").write_bytes(b"mine")
    with pytest.raises(InputError, match="no run of ours"):
        run(home, frame(10), tmp_path / "s.parquet", version=version)
    assert (tmp_path / "s.parquet").read_bytes() == b"mine"
    run(home, frame(10), tmp_path / "s.parquet", version=version, anew=True)
    assert len(read(tmp_path / "s.parquet")) == 10


def test_two_runs_do_not_write_one_place(home, version, tmp_path):
    from trimtab.adapters.offline.answers import FileAnswers

    first = FileAnswers(str(tmp_path / "s.parquet"))
    first.notes()
    with pytest.raises(ConflictError, match="another run"):
        run(home, frame(10), tmp_path / "s.parquet", version=version)
    first.close()
    assert run(home, frame(10), tmp_path / "s.parquet", version=version)["rows"] == 10


@pytest.mark.parametrize("at", [1, 3, 7])
def test_a_full_disk_is_told_and_the_run_goes_on_later(home, version, tmp_path, monkeypatch, at):
    from trimtab.adapters.offline import answers

    real, calls = answers.write_shared, [0]

    def full(path, data, *, through):
        calls[0] += 1
        if calls[0] == at + 1:
            raise Unavailable("cannot write a file", got=f"{path}: No space left on device", hint="check space")
        real(path, data, through=through)

    run(home, frame(), tmp_path / "whole.parquet", version=version, chunk=100)
    monkeypatch.setattr(answers, "write_shared", full)
    with pytest.raises(Unavailable, match="No space left"):
        run(home, frame(), tmp_path / "s.parquet", version=version, chunk=100)
    result = run(home, frame(), tmp_path / "s.parquet", version=version, chunk=100)
    assert result["resumed_chunks"] == at - 1
    assert (tmp_path / "s.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_a_torn_note_does_not_count(home, version, tmp_path):
    interrupted(home, frame(), tmp_path / "s.parquet", after=4, version=version, chunk=100)
    log = tmp_path / "s.parquet.parts" / "chunks.jsonl"
    log.write_bytes(log.read_bytes()[:-9])
    result = run(home, frame(), tmp_path / "s.parquet", version=version, chunk=100)
    assert (result["resumed_chunks"], result["rows"]) == (3, 1000)
    np.testing.assert_allclose(read(tmp_path / "s.parquet")["prediction"].to_numpy(), expected(frame()), atol=2e-6)


# -- records, and answers computed ahead


def test_records_stand_apart_from_live_ones(tmp_path):
    version = registered(tmp_path)
    run(tmp_path, frame(300), tmp_path / "s.parquet", version=version, record=True, chunk=100)
    reader = SpoolRecords(tmp_path / "records", "reader")
    found = [decode_record(row) for _, row in reader.scan(TABLE)]
    assert [record.request_id for record in found] == [str(n + 100) for n in range(300)]
    assert {(record.model, record.version, record.arm) for record in found} == {("m", version, "batch")}
    assert found[7].inputs["basket"] == frame(300)["basket"][7].as_py()
    assert found[7].outputs[0] == read(tmp_path / "s.parquet")["prediction"][7].as_py()
    assert list(reader.scan(PREDICTIONS)) == []


def test_answers_that_are_over_are_dropped_by_the_next_run(tmp_path):
    version = registered(tmp_path)
    held = []
    for number, length in enumerate((1, 3_600_000_000, 3_600_000_000)):
        out = tmp_path / f"s{number}.parquet"
        run(tmp_path, frame(50, seed=number), out, version=version, precompute=length)
        rows = LmdbRows(tmp_path / "precomputed", readonly=True)
        with rows._env.begin() as transaction:
            held.append(transaction.stat()["entries"])
        rows.close()
    assert held == [50, 50, 100]


def test_answers_are_found_by_the_key_of_a_request(tmp_path):
    from trimtab.adapters.clock.system import SystemClock
    from trimtab.adapters.online.precomputed import LmdbPrecomputed
    from trimtab.app.home import Home
    from trimtab.registry.bundle import load
    from trimtab.serving.cache_key import row_key
    from trimtab.serving.codec import RequestCodec

    version = registered(tmp_path)
    table = frame(200)
    run(tmp_path, table, tmp_path / "s.parquet", version=version, precompute=3_600_000_000)
    store = LmdbPrecomputed(tmp_path / "precomputed", clock=SystemClock(), readonly=True)
    codec = RequestCodec(load(Home(tmp_path).blobs(), version).plan.requests)
    body = json.dumps({"id": "x", "basket": table["basket"][3].as_py(), "visits": table["visits"][3].as_py()})
    decoded = codec.decode(body.encode(), new_id=lambda: "")
    asked = codec.batch(decoded.rows, decoded.ids, at=0)
    assert store.get("m", version, row_key(version, asked, 0)) == (
        read(tmp_path / "s.parquet")["prediction"][3].as_py(),
    )
    assert store.get("m", "0" * 64, row_key(version, asked, 0)) is None
    store.close()


# -- asked wrongly


def test_what_cannot_be_is_refused_in_words(home, version, tmp_path):
    table = frame(10)
    for words, rows, out, more in [
        ("no file holds the rows", str(tmp_path / "none*.parquet"), "s.parquet", {}),
        ("directory of the answers does not exist", table, "none/s.parquet", {}),
        ("not a place for answers", table, "s.xlsx", {}),
        ("no such column", table, "s.parquet", {"id": "nobody"}),
        ("no such version", table, "s.parquet", {"version": "f" * 64}),
        ("a query needs a database", str(as_file(table, tmp_path / "q.parquet")), "s.parquet", {"query": "SELECT 1"}),
        ("not a data frame", 7, "s.parquet", {}),
        ("no such table", as_sqlite(table, tmp_path / "w.db").replace("#asked", "#other"), "s.parquet", {}),
    ]:
        with pytest.raises((InputError, UnknownName), match=words):
            run(home, rows, tmp_path / out, **({"version": version} | more))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match="cannot be read"):
        run(home, str(tmp_path / "bad.parquet"), tmp_path / "s.parquet", version=version)
    with pytest.raises(Unavailable, match="database"):
        run(home, f"sqlite:///{tmp_path}/none.db#asked", tmp_path / "s.parquet", version=version)
    assert not (tmp_path / "none.db").exists()
    registered(tmp_path / "fresh")
    with pytest.raises(Unavailable, match="is live"):
        run(tmp_path / "fresh", table, tmp_path / "s.parquet")


def test_pandas_with_gaps_and_an_index(home, version, tmp_path):
    found = frame(50).to_pandas().set_index(pd.Index(range(50, 100)))
    found.loc[60, "basket"] = None
    assert run(home, found, tmp_path / "s.parquet", version=version)["quarantined"] == 1
