"""The clocks between processes and against a machine whose time is set back."""

import subprocess
import sys

import pytest

from trimtab.adapters.clock import system
from trimtab.adapters.clock.shared import SharedClock
from trimtab.adapters.clock.system import SystemClock
from trimtab.errors import InputError, Unavailable

READER = """
import sys
from pathlib import Path
from trimtab.adapters.clock.shared import SharedClock
clock = SharedClock(Path(sys.argv[1]))
for _ in sys.stdin:
    print(clock.now(), flush=True)
"""


def test_another_process_sees_the_time_at_once(tmp_path):
    clock = SharedClock(tmp_path / "clock", writable=True)
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(tmp_path / "clock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        for when in (0, 1, 2**32 - 1, 2**32, 1_362_355_200_000_000):
            clock.advance_to(when)
            child.stdin.write(b"\n")
            child.stdin.flush()
            assert int(child.stdout.readline()) == when


def test_the_time_survives_its_driver_and_never_goes_back(tmp_path):
    clock = SharedClock(tmp_path / "clock", writable=True)
    clock.advance_to(7)
    clock.close()
    again = SharedClock(tmp_path / "clock", writable=True)
    again.advance_to(3)
    assert again.now() == 7


def test_a_reader_needs_a_clock_and_may_not_move_it(tmp_path):
    with pytest.raises(Unavailable):
        SharedClock(tmp_path / "clock")
    (tmp_path / "clock").write_bytes(b"")
    with pytest.raises(Unavailable):
        SharedClock(tmp_path / "clock")
    SharedClock(tmp_path / "clock", writable=True)
    with pytest.raises(InputError):
        SharedClock(tmp_path / "clock").advance_to(5)


def test_the_real_clock_stands_still_while_the_machine_is_set_back(monkeypatch):
    times = iter([5_000_000, 4_000_000, 6_000_999])
    monkeypatch.setattr(system.time, "time_ns", lambda: next(times))
    clock = SystemClock()
    assert [clock.now() for _ in range(3)] == [5_000, 5_000, 6_000]
