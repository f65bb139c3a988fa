"""Which arms /metrics tells by name when a model has had many, and that no count is lost over it."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from tests.unit.serving.test_meter import answers
from tests.unit.wire.test_worker_metrics_text import samples

from trimtab.adapters.wire.cells import CellFile, read_counts
from trimtab.adapters.wire.metrics import WorkerMetrics
from trimtab.core.clock import HOUR, SECOND, VirtualClock
from trimtab.serving.counted import MOST_ARMS
from trimtab.serving.meter import ANSWERED, ARM, ARM_CELLS
from trimtab.serving.routing import Arm, Route, RouteTable

SOURCE = Path(__file__).parents[3] / "src"
DEAD = """
import os, sys
from pathlib import Path
from trimtab.adapters.wire.cells import CellFile
from trimtab.serving.meter import ARM, ARM_CELLS
cells = CellFile(Path(sys.argv[1]), "worker-0-a")
for number in range(int(sys.argv[2])):
    cells.block(ARM, ("m", f"old{number}", "champion"), ARM_CELLS)[0] = 10
os._exit(0)
"""


class House:
    """Workers of one home, of a model whose champion is ``live``."""

    def __init__(self, folder):
        self.folder, self.clock, self.workers = folder, VirtualClock(1000 * HOUR), []
        route = Route("m", (Arm("champion", "live", 1.0),))
        engine = SimpleNamespace(shadow_rows=0, live=SimpleNamespace(table=RouteTable(1, {"m": route})), counts={})
        self.dispatcher = SimpleNamespace(waiting=0, engine=engine)

    def start(self, name):
        self.workers.append(WorkerMetrics(self.folder, name, clock=self.clock))
        self.look()

    def look(self):
        for worker in self.workers:
            worker.look(self.dispatcher)

    def answer(self, version, arm="champion", *, rows=1, worker=0):
        given = answers(rows, version=version, arm=arm)
        self.workers[worker].meter.answered("m", [given], waited_ns=[0], total_ns=[0], waiting=0)
        self.look()
        self.clock.advance_to(self.clock.now() + SECOND)

    def told(self, worker=0):
        """Rows by (version, arm), and those of arms without a name."""
        found = samples(self.workers[worker].exposition().decode())
        rows = {
            (dict(labels)["version"], dict(labels)["arm"]): value
            for (name, *labels), value in found.items()
            if name == "trimtab_predictions_total"
        }
        return rows, found.get(("trimtab_other_predictions_total", ("model", "m")), 0)


@pytest.fixture
def house(tmp_path):
    return House(tmp_path)


def test_the_champion_keeps_its_name_however_many_came_after_it(house):
    house.start("worker-1-a")
    house.answer("live", rows=1225)
    for number in range(40):
        house.answer("live" if number % 2 else "beside", f"arm{number}", rows=6)
    rows, other = house.told()
    assert (rows["live", "champion"], len(rows), other) == (1225, 41, 0)  # a test of now is told whole
    house.clock.advance_to(house.clock.now() + HOUR)
    rows, other = house.told()
    assert (rows["live", "champion"], len(rows), other) == (1225, MOST_ARMS, 9 * 6)  # though it was silent longest
    house.answer("live")
    assert house.told()[0]["live", "champion"] == 1226


def test_what_a_worker_still_holds_moves_once_and_never_falls(house, tmp_path):
    house.start("worker-1-a")
    house.start("worker-2-a")
    for number in range(MOST_ARMS + 5):
        house.answer(f"v{number}", rows=10, worker=number % 2)
    house.clock.advance_to(house.clock.now() + HOUR)
    for worker in (0, 1, 0):
        rows, other = house.told(worker)
        assert (len(rows), other) == (MOST_ARMS, 50)
        assert ("v0", "champion") not in rows
    house.answer("v0", rows=3)  # it comes back: with what it has done since
    rows, other = house.told(1)
    assert (rows["v0", "champion"], other) == (3, 60)  # another one made room
    assert sum(rows.values()) + other == (MOST_ARMS + 5) * 10 + 3
    assert {arm.version for arm in read_counts(tmp_path).workers[0].arms} >= {"v0"}


def test_the_dead_are_taken_over_whole_and_then_put_in_order(house, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    count = MOST_ARMS + 8
    subprocess.run([sys.executable, "-c", DEAD, str(tmp_path), str(count)], check=True, env=environment)
    CellFile(tmp_path, "worker-9-a")  # takes over, and knows of no route
    assert len(read_counts(tmp_path).arms) == count
    house.start("worker-1-a")  # looks, scraped or not
    assert len(read_counts(tmp_path).arms) == MOST_ARMS + 1
    rows, other = house.told()
    assert (len(rows), sum(rows.values()) + other) == (MOST_ARMS, 10 * count)


def test_cells_of_a_file_that_was_lost_are_never_below_zero(tmp_path):
    past = [(ARM, ("m", "lost", "champion"), [-7] * ARM_CELLS), (ARM, ("m", "v", "champion"), [7] * ARM_CELLS)]
    place = tmp_path / "1"
    place.mkdir()
    (place / "past.msgpack").write_bytes(msgspec.msgpack.encode({"covers": [], "blocks": past}))
    assert [(arm.version, arm.answered) for arm in read_counts(tmp_path).arms] == [("v", 7)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-c", DEAD, str(tmp_path), "1"], check=True, env=environment)
    CellFile(tmp_path, "worker-1-a")
    kept = msgspec.msgpack.decode((place / "past.msgpack").read_bytes())["blocks"]
    assert {labels[1]: cells[ANSWERED] for kind, labels, cells in kept if kind == ARM} == {"v": 7, "old0": 10}
