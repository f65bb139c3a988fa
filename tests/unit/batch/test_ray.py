"""Batches whose chunks are scored on a real Ray cluster: the same answers, each row once, also when things are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.unit.batch.batch_house import expected, frame, registered, run

from trimtab.adapters.compute.ray_actors import RayActors
from trimtab.app.batches import batch_home
from trimtab.errors import InputError, MissingExtra
from trimtab.serving.scoring import TABLE

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'trimtab[ray]'")
# Ray leaves a socket or two for the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def cluster():
    """A cluster of its own with two actors' worth of processors."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patched.setenv("RAY_AUTH_MODE", "disabled")
        context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
        yield context.address_info["address"]
        ray.shutdown()


@pytest.fixture
def version(tmp_path):
    return registered(tmp_path / "home")


def test_the_answers_are_those_of_one_process(cluster, version, tmp_path):
    table = frame(3000)
    here = run(tmp_path / "home", table, tmp_path / "here.parquet", version=version, chunk=250)
    there = run(tmp_path / "home", table, tmp_path / "there.parquet", version=version, chunk=250, on="ray", record=True)
    assert (there["answered"], there["chunks"]) == (here["answered"], 12) == (3000, 12)
    found = pq.read_table(tmp_path / "there.parquet")
    assert found["id"].to_pylist() == table["id"].to_pylist()
    np.testing.assert_allclose(found["prediction"].to_numpy(), expected(table), atol=2e-6)
    assert found["prediction"].equals(pq.read_table(tmp_path / "here.parquet")["prediction"])
    records = batch_home(tmp_path / "home").records("reader")
    assert len(list(records.scan(TABLE))) == 3000


def test_a_bad_row_is_told_with_its_number(cluster, version, tmp_path):
    table = frame(100).to_pydict()
    table["basket"][71] = float("inf")
    result = run(tmp_path / "home", table, tmp_path / "s.parquet", version=version, chunk=20, on="ray")
    assert (result["quarantined"], result["bad_rows"][0]["row"]) == (1, 71)


def test_a_killed_run_goes_on_and_each_row_is_there_once(cluster, version, tmp_path):
    pq.write_table(frame(60_000), tmp_path / "rows.parquet")
    command = [sys.executable, "-m", "trimtab", "batch", "m", "-p", str(tmp_path / "home"), "--json", "--on", "ray"]
    command += ["--in", str(tmp_path / "rows.parquet"), "--out", str(tmp_path / "s.parquet"), "--version", version]
    command += ["--chunk", "500"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src"), "RAY_ADDRESS": cluster}
    notes = tmp_path / "s.parquet.parts" / "chunks.jsonl"
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until and not (notes.exists() and notes.stat().st_size > 2000):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert 0 < result["resumed_chunks"] < 120
    assert pq.read_table(tmp_path / "s.parquet")["id"].to_pylist() == list(range(100, 60_100))


def test_a_lost_actor_is_started_again_and_its_work_done_again(cluster):
    actors = RayActors(lambda: lambda number: number * number)

    def numbers():
        for number in range(40):
            if number in (5, 20):
                ray.kill(actors._actors[0], no_restart=False)
            yield number

    try:
        assert list(actors.map(numbers())) == [(number, number * number) for number in range(40)]
    finally:
        actors.close()


def test_what_an_actor_refuses_is_told_in_its_own_words(cluster):
    def make():
        def refuse(thing):
            raise InputError("not this one", got=repr(thing))

        return refuse

    actors = RayActors(make)
    try:
        with pytest.raises(InputError, match="not this one"):
            list(actors.map(iter([1])))
    finally:
        actors.close()


def test_another_place_is_refused(version, tmp_path):
    with pytest.raises(InputError, match="no such place"):
        run(tmp_path / "home", frame(3), tmp_path / "s.parquet", version=version, on="moon")


def test_without_ray_it_says_how_to_install_it(version, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"trimtab\[ray\]"):
        run(tmp_path / "home", frame(3), tmp_path / "s.parquet", version=version, on="ray")
