"""``trimtab batch --precompute`` beside a worker that runs: foreseen requests are answered from there, others live."""

from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression
from tests.e2e.live_house import cli

import trimtab as tt
from trimtab import app
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.client import JsonClient
from trimtab.app.alone import register_model, serve_model
from trimtab.serving.record import PREDICTIONS, decode_record

SECOND = 1_000_000


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def version(home):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 2)).astype(np.float32)
    model = LogisticRegression().fit(rows, rows.sum(axis=1) > 0)
    return register_model(
        home, model, name="buys", task=tt.binary(positive="b"), columns=["basket", "visits"], rows=rows
    )


def ask(running, basket):
    with JsonClient(running.url) as client:
        return client.post("/predict/buys", {"basket": basket, "visits": 2.0})


def until_precomputed(running, basket, *, within=10.0):
    """A worker looks once a second whether there is something now."""
    end = time.monotonic() + within
    while (said := ask(running, basket))["status"] != "precomputed":
        assert time.monotonic() < end, said
        time.sleep(0.05)
    return said


def test_a_worker_answers_what_was_foreseen_and_computes_the_rest(home, version, tmp_path):
    pq.write_table(pa.table({"basket": [1.5, 0.5], "visits": [2.0, 2.0]}), tmp_path / "rows.parquet")
    with serve_model(home, version, port=0) as running:
        live = ask(running, 1.5)
        assert live["status"] == "ok"
        done = cli(
            "batch", "buys", "--home", home, "--in", tmp_path / "rows.parquet", "--out", tmp_path / "s.parquet",
            "--precompute", "1h", "--json",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["answered"] == 2
        kept = until_precomputed(running, 1.5)
        assert kept["prediction"] == pq.read_table(tmp_path / "s.parquet")["prediction"][0].as_py()
        assert abs(kept["prediction"] - live["prediction"]) < 1e-6
        assert (kept["version"], kept["arm"]) == (version, "champion")
        assert ask(running, 9.0)["status"] == "ok"  # nobody foresaw it
    found = [decode_record(row) for _, row in SpoolRecords(home / "records", "reader").scan(PREDICTIONS)]
    ahead = [record for record in found if record.status == "precomputed"]
    assert ahead
    assert all((record.features, record.inputs["basket"]) == (b"", 1.5) for record in ahead)


def test_an_answer_that_is_over_is_computed(home, version, tmp_path):
    rows = {"basket": [1.5], "visits": [2.0]}
    with serve_model(home, version, port=0) as running:
        began = time.monotonic()
        app.batch(
            home, "buys", rows, out=tmp_path / "s.parquet", options={"version": version, "precompute": 6 * SECOND}
        )
        until_precomputed(running, 1.5, within=5.5)
        while (status := ask(running, 1.5)["status"]) == "precomputed":
            assert time.monotonic() - began < 20
            time.sleep(0.1)
        assert status == "ok"


def test_a_worker_that_is_told_not_to_look_does_not(home, version, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIMTAB_PRECOMPUTED", "off")
    monkeypatch.setenv("TRIMTAB_CACHE_BYTES", "1MB")
    rows = {"basket": [1.5], "visits": [2.0]}
    app.batch(home, "buys", rows, out=tmp_path / "s.parquet", options={"version": version, "precompute": 3600 * SECOND})
    with serve_model(home, version, port=0) as running:
        said = [ask(running, 1.5) for _ in range(3)]
    assert {one["status"] for one in said} == {"ok"}
    assert len({one["prediction"] for one in said}) == 1
    counted = b"".join(path.read_bytes() for path in (home / "run").rglob("worker-1-*"))
    assert b"trimtab_cache_requests_total" in counted
