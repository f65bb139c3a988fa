"""A scheduled batch of a running platform: `trimtab batch --every` and `trimtab up` under a clock that is moved."""

from __future__ import annotations

import json
import time

import pyarrow.parquet as pq
from tests.e2e.live_house import MODEL, cli, wait_until

from trimtab.core.clock import HOUR, iso

pytest_plugins = ["tests.e2e.live_fixtures"]


def test_the_control_process_runs_what_is_due(live):
    rows, out = live.project / "data" / "visits.parquet", live.project / "scores" / "s-{time}.parquet"
    hour = time.time_ns() // 1000 // HOUR * HOUR + HOUR
    live.start("--clock", iso(hour + 60_000_000))
    schedule = ("batch", MODEL, "-p", live.project, "--in", rows, "--out", out)
    assert json.loads(cli(*schedule, "--every", "1h", "--json").stdout)["scheduled"]
    with live.console() as console:
        console.post("/v1/clock", {"now": iso(hour + HOUR + 1_000_000)})
    log = ("log", "-p", live.project, "--model", MODEL, "--json")
    wait_until(lambda: "BatchRan" in cli(*log).stdout, what="the batch")
    [scored] = (live.project / "scores").glob("s-*Z.parquet")
    [seen] = json.loads(cli("status", "-p", live.project, "--json").stdout)["batches"]
    assert (seen["model"], seen["every"], seen["last"]["result"]) == (MODEL, "1h", "ran")
    assert f"{seen['last']['rows']:,} rows, 0 failed" in cli("status", "-p", live.project).stdout
    assert pq.read_table(scored)["id"].to_pylist() == pq.read_table(rows)["visit"].to_pylist()
    assert cli(*schedule, "--every", "off").returncode == 0
    assert cli(*schedule, "--every", "off").returncode == 2
