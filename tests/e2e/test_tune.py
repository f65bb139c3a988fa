"""Tuning a served model by measuring it, and a worker that obeys what was found."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tests.e2e.worker_house import WorkerHouse, call, onnx_model

import trimtab as tt
from trimtab.adapters.wire.client import JsonClient
from trimtab.app.alone import register_model, serve_model
from trimtab.app.driving import drive
from trimtab.app.home import Home
from trimtab.app.tuned_rows import requests_for
from trimtab.cli.main import trimtab
from trimtab.registry.bundle import load

COLUMNS = ["basket", "visits"]


@pytest.fixture
def home(tmp_path):
    """A home with a version that was served, and forty recorded requests."""
    made = tmp_path / "home"
    version = register_model(made, onnx_model(0.0), name="buys", task=tt.binary(positive="b"), columns=COLUMNS)
    with serve_model(made, version, port=0) as served:
        served.predict([{"basket": float(n), "visits": 1.0} for n in range(40)])
    return made


def tuned(home, *options):
    told = CliRunner().invoke(trimtab, ["tune", "buys", "--home", str(home), "--json", "--seconds", "0.4", *options])
    return told.exit_code, json.loads(told.stdout)


def bundle_of(home):
    place = Home(home)
    version = json.loads(place.route_file.read_text())["routes"]["buys"]["arms"][0]["version"]
    return load(place.blobs(), version)


def batch_sizes(url, since=None):
    """Batches by the upper bound of their bucket, cumulative; the counts go on where those of the worker before ended."""
    text = urllib.request.urlopen(f"{url}/metrics").read().decode()
    since = since or {}
    return {
        bound: float(count) - since.get(bound, 0)
        for bound, count in re.findall(r'^trimtab_batch_rows_bucket\{.*le="([^"]+)"\} (\S+)$', text, re.MULTILINE)
    }


def ours(root):
    """Processes whose command line names a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(root).encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def test_what_was_found_is_obeyed_by_the_next_worker(home, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    before = sorted(path.name for path in (home / "records").rglob("*"))
    code, found = tuned(
        home, "--p99", "5s", "--batch", "2,4", "--workers", "1", "--threads", "1", "--connections", "16"
    )
    assert code == 0, found
    assert "40 recorded requests" in found["requests"]
    assert {one["batch"] for one in found["measured"]} == {2, 4}
    assert all(one["met"] and one["rows"] > 1 and one["rate"] > 0 and not one["errors"] for one in found["measured"])
    written = json.loads((home / "serving.json").read_text())
    chosen = found["chosen"]
    assert (
        written
        == found["profile"]
        == {
            "models": {"buys": {"max_batch": chosen["batch"], "max_wait_ms": 0.0, "threads": 1}},
            "workers": 1,
        }
    )
    assert sorted(path.name for path in (home / "records").rglob("*")) == before  # what was measured is no traffic
    assert ours(tmp_path / "scratch") == []
    assert list((tmp_path / "scratch").glob("trimtab-*")) == []

    bundle = bundle_of(home)
    requests = requests_for(Home(home), bundle).requests
    with serve_model(home, bundle.version, port=0) as served:
        port, before = int(served.url.rpartition(":")[2]), batch_sizes(served.url)
        load = drive([("127.0.0.1", port)], requests, connections=16, seconds=0.5)
        sizes = batch_sizes(served.url, before)
    assert (load.errors, load.requests > 100) == (0, True)
    assert sizes[str(chosen["batch"])] == sizes["+Inf"]
    assert sizes["1"] < sizes["+Inf"]  # and requests did share batches


def test_nothing_is_written_when_nothing_keeps_the_latency_or_for_a_dry_run(home):
    quick = ("--batch", "8", "--workers", "1", "--threads", "1", "--connections", "4")
    code, found = tuned(home, "--p99", "0.001ms", *quick)
    assert (code, found["chosen"], found["written"]) == (1, None, False)
    assert "closest: p99" in found["why"]
    # Long enough that a pause of this machine, some 40 ms, is no lack of answers.
    code, found = tuned(home, "--p99", "5s", "--rate", "50", "--seconds", "2", "--dry-run", *quick)
    assert code == 0, (found["why"], found["measured"])
    assert (found["written"], found["target"]["rate"]) == (False, 50)
    assert found["profile"]["models"]["buys"]["max_batch"] == 8
    assert not (home / "serving.json").exists()


def test_ctrl_c_leaves_no_process_and_no_profile(home, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "trimtab", "tune", "buys", "--p99", "5s", "--home", str(home), "--seconds", "30"]
    for number in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(
            command, env={**os.environ, "TMPDIR": str(scratch)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                deadline = time.monotonic() + 60
                while not (found := ours(scratch)) and time.monotonic() < deadline:
                    time.sleep(0.02)
                assert found
                process.send_signal(number)
                assert process.wait(30) == 1
            finally:
                process.kill()
        assert ours(scratch) == []
        assert list(scratch.glob("trimtab-*")) == []
    assert not (home / "serving.json").exists()


def test_a_kill_leaves_no_worker(home, tmp_path):
    command = [sys.executable, "-m", "trimtab", "tune", "buys", "--p99", "5s", "--home", str(home), "--seconds", "30"]
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 60
        while not (found := ours(tmp_path)) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert found
    deadline = time.monotonic() + 30
    while ours(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert ours(tmp_path) == []


@pytest.mark.parametrize(
    "options", [("--p99", "fast"), ("--p99", "5ms", "--workers", "two"), ("--p99", "5ms", "--batch", "0")]
)
def test_bad_input_is_refused(home, options):
    assert tuned(home, *options)[0] == 2


def test_a_batch_is_held_back_for_as_long_as_the_profile_says(home):
    (home / "serving.json").write_text('{"models": {"buys": {"max_batch": 4, "max_wait_ms": 150}}}')
    bundle = bundle_of(home)
    requests = requests_for(Home(home), bundle).requests
    with serve_model(home, bundle.version, port=0) as served:
        before, began = batch_sizes(served.url), time.perf_counter()
        served.predict([{"basket": 1.0, "visits": 1.0}])
        assert 0.14 < time.perf_counter() - began < 2  # alone it waits, and only so long
        address = ("127.0.0.1", int(served.url.rpartition(":")[2]))
        full = drive([address], requests, connections=4, seconds=0.5)
        lonely = drive([address], requests, connections=2, seconds=0.5)
        sizes = batch_sizes(served.url, before)
    assert full.quantile_ms(0.5) < 100  # full batches do not wait
    assert 140 < lonely.quantile_ms(0.5) < 1000
    assert sizes["4"] == sizes["+Inf"]


def test_a_profile_that_cannot_be_used_costs_no_answer(home):
    (home / "serving.json").write_text('{"models": {"buys": {"max_batch": "many"}}}')
    with serve_model(home, bundle_of(home).version, port=0) as served:
        assert np.isfinite(served.predict([{"basket": 1.0, "visits": 1.0}])).all()
        with JsonClient(served.url) as client:
            assert client.get("/health")["status"] == "ok"
    assert "max_batch" in (home / "run" / "worker.log").read_text()


def test_a_model_of_a_project_is_asked_by_its_keys_and_its_features_are_looked_up(tmp_path):
    house = WorkerHouse(tmp_path / "home")
    version = house.add(0.0)
    house.route(("champion", version, 1.0))
    port = house.start(1).port
    for number in range(5):
        body = {"id": f"r{number}", "shop": "aa", "basket": float(number)}
        assert call(port, "POST", "/predict/m", json.dumps(body).encode())[0] == 200
    house.kill()
    (first, *_), _ = requests_for(Home(house.home), load(house.blobs, version))
    assert json.loads(first.partition(b"\r\n\r\n")[2]) == {"shop": "aa", "basket": 0.0}
    options = ["--p99", "5s", "--batch", "4", "--workers", "1,2", "--threads", "1", "--seconds", "0.4", "--json"]
    told = CliRunner().invoke(trimtab, ["tune", "m", "--home", str(house.home), *options])
    found = json.loads(told.stdout)
    assert told.exit_code == 0
    assert "5 recorded requests, sent to /predict/m" in found["requests"]
    assert [(one["workers"], one["errors"]) for one in found["measured"]] == [(1, 0), (2, 0)]
