"""Answers that workers give out later are as of now, or they are not kept."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from tests.e2e.live_house import cli
from tests.unit.batch.batch_house import frame, registered, run

from trimtab.app.batches import AS_OF, HISTORY, LIVE, SENT, BatchRequest, check_precompute
from trimtab.core.clock import HOUR
from trimtab.errors import InputError


@pytest.mark.parametrize(
    ("features", "as_of", "precompute"),
    [(HISTORY, "", HOUR), (AS_OF, "2026-11-10", HOUR), (SENT, "2026-11-10", HOUR), (SENT, "", -1)],
)
def test_what_held_once_is_not_kept_for_workers(features, as_of, precompute):
    with pytest.raises(InputError, match=r"as of now|no time"):
        check_precompute(BatchRequest("m", None, "o", as_of=as_of, precompute=precompute), features)


@pytest.mark.parametrize(
    ("features", "as_of", "precompute"),
    [(LIVE, "", HOUR), (LIVE, "now", HOUR), (SENT, "", HOUR), (HISTORY, "", 0), (AS_OF, "2026-11-10", 0)],
)
def test_what_holds_now_is_kept_and_the_rest_may_be_scored(features, as_of, precompute):
    check_precompute(BatchRequest("m", None, "o", as_of=as_of, precompute=precompute), features)


def test_a_refused_run_leaves_nothing(tmp_path):
    version = registered(tmp_path / "home")
    with pytest.raises(InputError, match="--as-of now"):
        run(tmp_path / "home", frame(10), tmp_path / "s.parquet", version=version, as_of="2026-11-10", precompute=HOUR)
    assert not (tmp_path / "s.parquet").exists()
    assert not (tmp_path / "home" / "precomputed").exists()


def test_no_time_at_all_is_refused_on_the_command_line(tmp_path):
    version = registered(tmp_path / "home")
    pq.write_table(frame(10), tmp_path / "r.parquet")
    done = cli(
        "batch", "m", "-p", tmp_path / "home", "--in", tmp_path / "r.parquet", "--out", tmp_path / "s.parquet",
        "--version", version, "--precompute", "0s", "--json",
    )  # fmt: skip
    assert (done.returncode, json.loads(done.stdout)["kind"]) == (2, "InputError")
    assert not (tmp_path / "s.parquet").exists()
