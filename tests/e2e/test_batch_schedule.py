"""A scheduled batch of a running platform: `trimtab batch --every` and `trimtab up` under a clock that is moved."""

from __future__ import annotations

import json
import time

import pyarrow.parquet as pq
from tests.e2e.live_house import MODEL, cli, wait_until

from trimtab.core.clock import HOUR, iso

pytest_plugins = ["tests.e2e.live_fixtures"]


def test_the_control_process_runs_what_is_due(live):
    rows, out = live.project / "data" / "visits.parquet", live.project / "s-{time}.parquet"
    hour = time.time_ns() // 1000 // HOUR * HOUR + HOUR
    live.start("--clock", iso(hour + 60_000_000))
    schedule = ("batch", MODEL, "-p", live.project, "--in", rows, "--out", out)
    assert json.loads(cli(*schedule, "--every", "1h", "--json").stdout)["scheduled"]
    with live.console() as console:
        console.post("/v1/clock", {"now": iso(hour + HOUR + 1_000_000)})
    wait_until(lambda: "BatchRan" in cli("log", "-p", live.project, "--json").stdout, what="the batch")
    [scored] = live.project.glob("s-*Z.parquet")
    assert pq.read_table(scored)["id"].to_pylist() == pq.read_table(rows)["visit"].to_pylist()
    assert cli(*schedule, "--every", "off").returncode == 0
    assert cli(*schedule, "--every", "off").returncode == 2
