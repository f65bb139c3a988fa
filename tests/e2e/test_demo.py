"""The demo, cut short: it says what held, and its exit code says the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from tests.projects.staged import FLIGHTS, ROOT, prepare_flights, script, stage_flights

UNTIL = "2013-03-07"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    root = tmp_path_factory.mktemp("demo")
    return stage_flights(root / "flights", prepare_flights(root / "data"), until=UNTIL) / "demo.py"


def test_a_short_demo_ends_well(demo):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(demo), "--until", UNTIL, "--no-live", "--no-fault"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^2013-03 +[\d,]+ ", done.stdout, re.MULTILINE)
    assert re.search(r"^ok +every request was answered$", done.stdout, re.MULTILINE)
    assert re.search(r"^ok +served features are what training computes$", done.stdout, re.MULTILINE)
    assert re.search(r" 0 mismatches, 0 missing, 0 extra", done.stdout)
    assert re.search(r"^decision digest: [0-9a-f]{64}$", done.stdout, re.MULTILINE)
    assert re.search(r"Done in \d+ s; peak memory [\d,]+ MB, of the largest child [\d,]+ MB\.$", done.stdout.strip())
    assert "FAILED" not in done.stdout
    assert (demo.parent / "report.html").read_text("utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("counts", "parity", "failed"),
    [
        ({}, {}, []),
        ({"requests answered": 9}, {}, ["every request was answered"]),
        ({"requests answered": 0, "requests asked": 0}, {}, ["every request was answered"]),
        ({}, {"mismatch": 1}, ["served features are what training computes"]),
        ({}, {"missing": 1}, ["served features are what training computes"]),
        ({}, {"sampled": 0}, ["served features are what training computes"]),
    ],
)
def test_what_does_not_hold_fails_the_demo(counts, parity, failed, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(FLIGHTS))
    module = script(FLIGHTS / "demo.py")
    found = {
        "counts": {"requests answered": 10, "requests asked": 10, **counts},
        "parity": {"sampled": 5, "values": 50, "mismatch": 0, "missing": 0, "extra": 0, "largest": 0.0, **parity},
    }
    checks = module.checks_of(found)
    assert [name for name, held in checks.items() if not held] == failed
    assert module.conclude(checks, seconds=1.0) == (1 if failed else 0)
    assert capsys.readouterr().out.count("FAILED") == len(failed)
