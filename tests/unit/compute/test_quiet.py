import subprocess
import sys
import time

import numpy as np
import pytest

from trimtab.adapters.compute import quiet as module
from trimtab.adapters.compute.processes import ProcessCompute
from trimtab.adapters.compute.quiet import quiet
from trimtab.training.ports import Job


def test_a_machine_with_a_busy_process_is_not_quiet():
    busy = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        busy.stdout.readline()
        time.sleep(0.05)
        assert not quiet()
    finally:
        busy.kill()
        busy.communicate()


class Stat:
    """Hundredths of a second that a machine worked, look by look."""

    def __init__(self, worked):
        self.lines = [0, *np.cumsum(np.array(worked))]
        self.shown = [0] + [n for k in range(1, len(self.lines)) for n in (k, k)]

    def read_text(self, _):
        return f"cpu  {50 + self.lines[self.shown.pop(0)]} 0 20 900 0 0 0 0 0 0\ncpu0 1\n"


@pytest.mark.parametrize(
    ("worked", "expected"),
    [
        ([0, 0, 0], True),
        ([0, 1, 2], True),
        ([10, 10, 10], False),
        ([10, 0, 0, 10, 0], True),
        ([10, 0, 10, 0, 10], False),
    ],
)
def test_most_looks_decide_and_clocks_and_the_like_do_not_count(monkeypatch, worked, expected):
    monkeypatch.setattr(module, "_STAT", Stat(worked))
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    assert quiet(look_s=0.1) is expected


def test_a_system_that_does_not_tell_is_not_taken_to_be_quiet(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_STAT", tmp_path / "none")
    assert not quiet(look_s=0)


@pytest.mark.parametrize(
    ("idle", "told", "spins"),
    [(True, None, "10000"), (False, None, "1000"), (False, "OMP_WAIT_POLICY", None), (False, "GOMP_SPINCOUNT", "7")],
)
def test_threads_spin_longer_where_nobody_else_works_unless_told(tmp_path, monkeypatch, idle, told, spins):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    if told:
        monkeypatch.setenv(told, {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "7"}[told])
    compute = ProcessCompute(tmp_path, idle=idle)
    compute.submit(Job("j", "trimtab.testing.jobs:environment", {"name": "GOMP_SPINCOUNT"}))
    assert compute.wait("j", timeout_s=30).result == spins
