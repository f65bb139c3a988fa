import subprocess
import sys
import time

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


@pytest.mark.parametrize(("more", "expected"), [(0, True), (1, True), (15, False)])
def test_clocks_and_the_like_do_not_count(monkeypatch, more, expected):
    lines = iter([f"cpu  50 0 20 900 0 0 0 0 0 0\ncpu0 {n}\n" if n == 0 else f"cpu  {50 + n} 0 20 990 0 0 0 0 0 0\n"
                  for n in (0, more)])  # fmt: skip

    class Stat:
        def read_text(self, _):
            return next(lines)

    monkeypatch.setattr(module, "_STAT", Stat())
    assert quiet(look_s=0.2) is expected


def test_a_system_that_does_not_tell_is_not_taken_to_be_quiet(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_STAT", tmp_path / "none")
    assert not quiet(look_s=0)


@pytest.mark.parametrize(
    ("idle", "told", "policy"), [(True, None, None), (False, None, "PASSIVE"), (False, "ACTIVE", "ACTIVE")]
)
def test_threads_spin_only_where_nobody_else_works(tmp_path, monkeypatch, idle, told, policy):
    if told is None:
        monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    else:
        monkeypatch.setenv("OMP_WAIT_POLICY", told)
    compute = ProcessCompute(tmp_path, idle=idle)
    compute.submit(Job("j", "trimtab.testing.jobs:environment", {"name": "OMP_WAIT_POLICY"}))
    assert compute.wait("j", timeout_s=30).result == policy
