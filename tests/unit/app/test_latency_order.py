"""Which arm `trimtab latency` shows first, and what it cannot show."""

import pytest

from trimtab.app.home import Home
from trimtab.app.latency import LatencyRequest, latency_status, recorded, show_latency
from trimtab.errors import InputError
from trimtab.serving.budget import derived_budget
from trimtab.serving.counted import Arm, Counted
from trimtab.serving.meter import ANSWERED, ARM_CELLS
from trimtab.serving.record import PREDICTIONS, PredictionRecord, encode_record

BUDGETS = {name: derived_budget(100) for name in ("a", "b")}
ROWS = [("b", "v1", "champion", 5), ("a", "v0", "ended", 2), ("a", "v1", "pinned", 3), ("a", "v2", "shadow", 9)]
SHOWN = [("a", "shadow"), ("a", "pinned"), ("a", "ended"), ("b", "champion")]


def test_from_records_the_arm_with_the_most_traffic_comes_first(tmp_path):
    home = Home(tmp_path)
    rows = [
        encode_record(
            PredictionRecord(
                f"{version}-{row}", "p", 0, model, version, arm, "", {}, b"", b"", {}, (0.5,), (1,) * 6, "ok"
            )
        )
        for model, version, arm, count in ROWS
        for row in range(count)
    ]
    home.records("w").write(PREDICTIONS, rows)
    found = recorded(home, BUDGETS)
    assert [(arm["model"], arm["arm"]) for arm in found] == SHOWN
    assert [arm["rows"] for arm in found] == [9, 3, 2, 5]


def test_from_workers_too():
    arms = []
    for model, version, arm, count in ROWS:
        cells = [0] * ARM_CELLS
        cells[ANSWERED] = count
        arms.append(Arm(model, version, arm, cells))
    assert [(arm["model"], arm["arm"]) for arm in latency_status(Counted(arms, {}, {}), BUDGETS)] == SHOWN


def test_a_time_that_workers_cannot_go_by_is_in_the_hint(tmp_path):
    with pytest.raises(InputError, match="--from records --since 2026-03-09"):
        show_latency(LatencyRequest(tmp_path, since="2026-03-09"))
    with pytest.raises(InputError, match="not a time"):  # before a hint that would lead there
        show_latency(LatencyRequest(tmp_path, since="2026"))
