"""A batch killed at any moment, again and again, ends as one that nobody touched: each row once, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tests.unit.batch.batch_house import frame, registered

ROOT = Path(__file__).parents[2]
ROWS = 60_000


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("batch")
    version = registered(root / "home")
    pq.write_table(frame(ROWS), root / "rows.parquet", row_group_size=7000)
    return root, version


def start(root, version, out):
    command = [sys.executable, "-m", "trimtab.cli.main", "batch", "m", "-p", str(root / "home"), "--json"]
    command += ["--in", str(root / "rows.parquet"), "--out", str(out), "--version", version, "--chunk", "500"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def killed_until_done(root, version, out, *, generator):
    """How often it was killed; each run gets a little further, and the last one to the end."""
    kills = 0
    alone = 0.6
    while True:
        process = start(root, version, out)
        time.sleep(0.35 + generator.random() * alone)
        if kills < 8 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
            process.communicate()
            continue
        said, wrong = process.communicate(timeout=120)
        assert process.returncode == 0, wrong.decode() + said.decode()
        return kills


@pytest.mark.parametrize("seed", [1, 2])
def test_a_file_is_the_same_as_without_kills(place, tmp_path, seed):
    root, version = place
    whole = start(root, version, tmp_path / "whole.parquet")
    _, wrong = whole.communicate(timeout=120)
    assert whole.returncode == 0, wrong
    kills = killed_until_done(root, version, tmp_path / "s.parquet", generator=random.Random(seed))
    assert kills > 0
    assert (tmp_path / "s.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    found = pq.read_table(tmp_path / "s.parquet")["id"].to_numpy()
    assert np.array_equal(found, np.arange(ROWS) + 100)
    left = {path.name for path in tmp_path.iterdir()} - {"s.parquet", "whole.parquet"}
    assert left == {"s.parquet.report.json", "whole.parquet.report.json"}


def test_a_table_of_a_database_holds_each_row_once(place, tmp_path):
    root, version = place
    kills = killed_until_done(root, version, f"sqlite:///{tmp_path}/s.db#scored", generator=random.Random(3))
    assert kills > 0
    with sqlite3.connect(tmp_path / "s.db") as base:
        found = [row[0] for row in base.execute("SELECT id FROM scored ORDER BY rowid")]
    base.close()
    assert found == list(range(100, ROWS + 100))
