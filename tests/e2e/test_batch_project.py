"""``trimtab batch`` on a project with features: as of each row's own time from history, and as of now from online rows."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.e2e.live_house import MODEL, cli, wait_until

from trimtab.adapters.project.file import load_project
from trimtab.app.batches import batch_home, resolve
from trimtab.app.jobs import modules_of
from trimtab.app.loading import live_pipeline, load_deployed
from trimtab.features.history import point_in_time
from trimtab.testing.memory import MemoryRows

pytest_plugins = ["tests.e2e.live_fixtures"]


def batch(project, rows, out, *more):
    done = cli("batch", MODEL, "-p", project, "--in", rows, "--out", out, "--json", *more)
    return done.returncode, json.loads(done.stdout)


def until_precomputed(live, row):
    """Ask until it is answered from what was foreseen: each worker looks once a second whether there is something now."""

    def said():
        done = cli("predict", MODEL, "-p", live.project, f"shop={row['shop']}", f"basket={row['basket']}", "--json")
        answer = json.loads(done.stdout)
        return answer if answer["status"] == "precomputed" else None

    return wait_until(said, what="an answer that was foreseen")


@pytest.fixture
def project(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "clicks")


def test_rows_with_a_time_are_answered_as_of_that_time(project, tmp_path):
    from trimtab.app.data import read_known

    rows = project / "data" / "visits.parquet"
    code, result = batch(project, rows, tmp_path / "s.parquet", "--chunk", "500", "--record")
    assert code == 0, result
    assert result["features"].startswith("history, each row")
    loaded = load_project(project)
    spec = loaded.model(MODEL)
    known = read_known(loaded, spec)
    values = point_in_time(loaded.plan(MODEL), known.histories, known.requests, modules_of(loaded))
    home = batch_home(project)
    ready = load_deployed(home.blobs(), MemoryRows(), resolve(home, MODEL, ""))
    wanted = dict(zip(known.requests.ids, live_pipeline().postprocess(ready, ready.runtime.run(values)), strict=True))
    found = pq.read_table(tmp_path / "s.parquet")
    assert found["id"].to_pylist() == pq.read_table(rows)["visit"].to_pylist()
    assert result["answered"] == len(found) > 500
    # Trees are added up in another order when other numbers of rows go through the model at once.
    predictions = [wanted[name] for name in found["id"].to_pylist()]
    np.testing.assert_allclose(found["prediction"].to_numpy(), predictions, rtol=0, atol=5e-7)


def test_rows_without_a_time_are_answered_from_the_online_rows(live, tmp_path):
    live.start()
    table = pq.read_table(live.project / "data" / "visits.parquet").drop_columns(["asked"]).slice(0, 40)
    pq.write_table(table, tmp_path / "r.parquet")
    _, result = batch(live.project, tmp_path / "r.parquet", tmp_path / "s.parquet")
    assert result["features"] == "online rows"
    found = pq.read_table(tmp_path / "s.parquet")["prediction"].to_pylist()
    for row, prediction in zip(table.slice(0, 5).to_pylist(), found[:5], strict=True):
        done = cli("predict", MODEL, "-p", live.project, f"shop={row['shop']}", f"basket={row['basket']}", "--json")
        assert json.loads(done.stdout)["outputs"] == pytest.approx([prediction], abs=1e-6)


def test_what_was_foreseen_is_answered_from_there_and_counted_as_an_answer(live, tmp_path):
    from trimtab.app.eventlog import asked_requests
    from trimtab.app.home import Home
    from trimtab.app.live_observer import LiveObserver
    from trimtab.serving.record import PREDICTIONS, decode_record

    live.start()
    table = pq.read_table(live.project / "data" / "visits.parquet").slice(0, 5)
    pq.write_table(table, tmp_path / "r.parquet")
    asked_for = ("--as-of", "now", "--precompute", "1h")
    code, _ = batch(live.project, tmp_path / "r.parquet", tmp_path / "s.parquet", *asked_for)
    assert code == 0
    kept = pq.read_table(tmp_path / "s.parquet")["prediction"].to_pylist()
    for row, prediction in zip(table.to_pylist(), kept, strict=True):
        assert until_precomputed(live, row)["outputs"] == [prediction]  # the very bits
    cli("predict", MODEL, "-p", live.project, f"shop={table['shop'][0]}", "basket=7.0625", "--json")
    records = Home.of(live.project).records("reader")
    found = [decode_record(row) for _, row in records.scan(PREDICTIONS)]
    assert [record.status for record in found].count("precomputed") == 5
    assert [record.status for record in found].count("ok") >= 1
    loaded = load_project(live.project)
    asked = asked_requests(loaded.model(MODEL), records)
    assert asked is not None
    assert len(asked) == len({record.request_id for record in found})
    home = Home.of(live.project)
    watched = LiveObserver(loaded.model(MODEL), home.root, blobs=home.blobs(), records=records, slow=False)
    watched.restore([found[0].version], None, first_seq=0)
    assert sum(one.answered for one in watched.observer.arms("")) == len(found)


def test_all_rows_as_of_one_time(project, tmp_path):
    table = pq.read_table(project / "data" / "visits.parquet")
    moment = table["asked"][300].as_py()
    pq.write_table(table.slice(300, 1), tmp_path / "own.parquet")
    pq.write_table(table.slice(300, 1).drop_columns(["asked"]), tmp_path / "one.parquet")
    batch(project, tmp_path / "own.parquet", tmp_path / "a.parquet")
    _, result = batch(project, tmp_path / "one.parquet", tmp_path / "b.parquet", "--as-of", moment.isoformat())
    assert result["as_of"].startswith(moment.isoformat()[:19])
    assert pq.read_table(tmp_path / "a.parquet")["prediction"] == pq.read_table(tmp_path / "b.parquet")["prediction"]


@pytest.mark.parametrize("more", [(), ("--as-of", "2026-01-01"), ("--every", "1h")])
def test_features_of_another_time_are_not_kept_for_workers(project, tmp_path, more):
    pq.write_table(pq.read_table(project / "data" / "visits.parquet").slice(0, 5), tmp_path / "r.parquet")
    asked = (project, tmp_path / "r.parquet", tmp_path / "{time}.parquet", "--precompute", "24h")
    code, result = batch(*asked, *more)
    assert (code, result["kind"]) == (2, "InputError")
    assert "--as-of now" in result["hint"]
    assert not list(project.rglob("precomputed"))


def test_bad_rows_end_with_1_and_bad_input_with_2(project, tmp_path):
    table = pq.read_table(project / "data" / "visits.parquet").slice(0, 50)
    baskets = table["basket"].to_pylist()
    baskets[7] = -5.0
    place = table.column_names.index("basket")
    pq.write_table(table.set_column(place, "basket", pa.array(baskets)), tmp_path / "r.parquet")
    code, result = batch(project, tmp_path / "r.parquet", tmp_path / "s.parquet")
    assert code == 1
    assert result["reasons"] == [{"column": "basket", "reason": "out of range", "rows": 1}]
    text = cli("batch", MODEL, "-p", project, "--in", tmp_path / "r.parquet", "--out", tmp_path / "s.parquet").stdout
    assert "done already" in text
    assert "row 7: basket = -5.0: out of range" in text
    pq.write_table(table.drop_columns(["basket"]), tmp_path / "w.parquet")
    code, result = batch(project, tmp_path / "w.parquet", tmp_path / "t.parquet")
    assert (code, result["kind"]) == (2, "SchemaError")


def test_records_of_a_batch_do_not_feed_the_training(project, tmp_path):
    from trimtab.app.eventlog import asked_requests
    from trimtab.app.home import Home

    batch(project, project / "data" / "visits.parquet", tmp_path / "s.parquet", "--record")
    records = Home.of(project).records("reader")
    assert "batch" in records.tables()
    assert asked_requests(load_project(project).model(MODEL), records) is None
