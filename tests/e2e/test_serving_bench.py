"""The serving benchmark still runs: right answers, one record for each, none from the worker without records."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.live_house import environment

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark keeps processes on cores, and reads /proc")
def test_the_table_of_one_model(tmp_path):
    found = tmp_path / "table.json"
    command = [sys.executable, ROOT / "bench" / "serving" / "table.py", "--servers", "trimtab,trimtab:bare"]
    command += ["--models", "TAB", "--forms", "infer,predict", "--connections", "1,4", "--requests", "100"]
    done = subprocess.run(
        [*map(str, command), "--repeats", "1", "--json", str(found)],
        check=False, capture_output=True, text=True, timeout=120, env=environment(TMPDIR=str(tmp_path)),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(found.read_text())
    assert result["problems"] == {}
    assert len(result["runs"]) == 8
    assert all(run["requests"] == 100 and run["errors"] == run["wrong"] == 0 for run in result["runs"])
    assert all(run["cpu_us"] > 0 for run in result["runs"])
