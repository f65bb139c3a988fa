"""Counts in mapped files: what was counted is never lost, counted twice or seen to fall, whoever dies when."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

from trimtab.adapters.wire import cells
from trimtab.adapters.wire.cells import CellFile, read_counts
from trimtab.serving.meter import COUNT, LocalCells, Meter

SOURCE = Path(__file__).parents[3] / "src"
CHILD = """
import sys, os, signal
from pathlib import Path
from trimtab.adapters.wire.cells import CellFile
from trimtab.serving.meter import Meter
meter = Meter(CellFile(Path(sys.argv[1]), sys.argv[2]))
meter.gauge("generation", 7)
counter = meter.counter("trimtab_x_total", {"why": "z"})
for _ in range(1000):
    counter.add()
print("ready", flush=True)
sys.stdin.read()
"""


def child(folder, name):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(folder), name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    assert process.stdout.readline() == b"ready\n"
    return process


def total(folder):
    return sum(read_counts(folder).counters.get("trimtab_x_total", {}).values())


def test_counts_of_the_living_and_the_killed_add_up(tmp_path):
    one, two = child(tmp_path, "worker-1-a"), child(tmp_path, "worker-2-a")
    assert total(tmp_path) == 2000
    found = read_counts(tmp_path)
    assert [worker.name for worker in found.workers] == ["worker-1-a", "worker-2-a"]
    assert found.workers[0].gauges["generation"] == 7
    one.send_signal(signal.SIGKILL)
    one.communicate()
    assert total(tmp_path) == 2000
    assert [worker.name for worker in read_counts(tmp_path).workers] == ["worker-2-a"]
    again = child(tmp_path, "worker-1-b")  # takes the killed one over
    assert total(tmp_path) == 3000
    assert not (tmp_path / "1" / "worker-1-a.cells").exists()
    for process in (two, again):
        process.kill()
        process.communicate()
    third = CellFile(tmp_path, "worker-3-a")
    assert total(tmp_path) == 3000
    assert sorted(path.name for path in (tmp_path / "1").glob("*.cells")) == ["worker-3-a.cells"]
    Meter(third).counter("trimtab_x_total", {"why": "z"}).add(5)
    assert total(tmp_path) == 3005


def test_a_take_over_that_was_cut_short_counts_nothing_twice(tmp_path, monkeypatch):
    process = child(tmp_path, "worker-1-a")
    process.kill()
    process.communicate()
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # killed before the file was removed
        CellFile(tmp_path, "worker-2-a")
    assert (tmp_path / "1" / "worker-1-a.cells").exists()
    assert total(tmp_path) == 1000
    CellFile(tmp_path, "worker-3-a")
    assert not (tmp_path / "1" / "worker-1-a.cells").exists()
    assert total(tmp_path) == 1000


def test_without_room_counting_goes_on_unshared(tmp_path, monkeypatch):
    cells = CellFile(tmp_path, "worker-1-a")

    def full(*_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    counter = Meter(cells).counter("trimtab_x_total")
    for _ in range(9):
        cells.block("arm", ("m", "v", "a"), 3000)
    counter.add()
    assert counter.value == 1
    assert cells.unshared > 0


def test_nothing_counted_yet(tmp_path):
    found = read_counts(tmp_path)
    assert (found.arms, found.counters, found.workers) == ([], {}, [])


def test_a_file_that_is_garbage_does_not_hide_the_others(tmp_path):
    cells = CellFile(tmp_path, "worker-1-a")
    Meter(cells).counter("trimtab_x_total").add(3)
    (tmp_path / "1" / "worker-0-a.cells").write_bytes(b"")
    (tmp_path / "1" / "worker-0-b.cells").write_bytes(os.urandom(5001))
    with (tmp_path / "1" / "worker-0-c.cells").open("wb") as noise:
        noise.write(os.urandom(9000))
        noise.truncate(32 << 20)
    assert total(tmp_path) == 3


def test_what_a_worker_left_that_was_killed_while_it_made_its_file_is_removed(tmp_path):
    place = Path(CellFile(tmp_path, "worker-1-1-a").folder)
    cells = next(place.rglob("*.cells"))
    left, fresh = cells.with_name("worker-2-2-b.new"), cells.with_name("worker-3-3-c.new")
    for path, age in ((left, 100), (fresh, 1)):
        path.write_bytes(b"")
        os.utime(path, (cells.stat().st_mtime - age,) * 2)
    CellFile(tmp_path, "worker-4-4-d")
    assert (left.exists(), fresh.exists()) == (False, True)


def test_a_thread_and_the_loop_are_never_given_the_same_cells(tmp_path, monkeypatch):
    """Caches make their counters in threads; taking space on disk lets the others run meanwhile."""
    inside, go = threading.Event(), threading.Event()
    file = CellFile(tmp_path, "worker-1-a")
    meter, reserve = Meter(file), cells._reserve
    while file._taken - file._cells[cells._CELLS_END] >= 8:
        file.block("count", ("fill",), 1)

    def slow(*where):
        if threading.current_thread() is aside:
            inside.set()
            go.wait(0.5)  # the loop may not come past
        reserve(*where)

    def miss():
        meter.counter("trimtab_cache_requests_total", {"result": "miss"}).add(7)

    monkeypatch.setattr(cells, "_reserve", slow)
    aside = threading.Thread(target=miss)
    aside.start()
    assert inside.wait(5)
    meter.counter("trimtab_requests_refused_total", {"kind": "TooLate"}).add(1000)
    go.set()
    aside.join()
    found = read_counts(tmp_path).counters
    assert list(found["trimtab_cache_requests_total"].values()) == [7]
    assert list(found["trimtab_requests_refused_total"].values()) == [1000]


def test_a_counter_that_two_threads_ask_for_at_once_is_one():
    class Slow(LocalCells):
        def block(self, kind, labels, size):
            made.append(labels)
            both.wait(0.2) if kind == COUNT else None
            return [0] * size

    made: list[tuple[str, ...]] = []
    both = threading.Event()
    meter = Meter(Slow())
    found = []
    threads = [threading.Thread(target=lambda: found.append(meter.counter("trimtab_x_total"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1]
    assert made.count(("trimtab_x_total",)) == 1
