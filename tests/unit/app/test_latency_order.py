"""Which arms `trimtab latency` shows, which first, and what it cannot show."""

import pytest
from msgspec.structs import replace

from trimtab.app.home import Home
from trimtab.app.latency import LatencyRequest, latency_status, recorded, show_latency
from trimtab.errors import InputError
from trimtab.serving.budget import derived_budget
from trimtab.serving.counted import OTHER, Arm, Counted
from trimtab.serving.meter import ANSWERED, ARM_CELLS
from trimtab.serving.record import PREDICTIONS, PredictionRecord, encode_record
from trimtab.serving.routing import Arm as RoutedArm
from trimtab.serving.routing import Route, RouteTable

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


def counts(rows):
    arms = []
    for model, version, arm, count in rows:
        cells = [0] * ARM_CELLS
        cells[ANSWERED] = count
        arms.append(Arm(model, version, arm, cells))
    return Counted(arms, {}, {})


def routes(**models):
    return RouteTable(1, models)


A = Route("a", (RoutedArm("champion", "v0", 0.5), RoutedArm("canary", "v2", 0.5)), "r")
B = Route("b", (RoutedArm("champion", "v1", 1.0),))


def shown(rows, **models):
    found = latency_status(counts(rows), BUDGETS, routes(**models))
    return [(arm["model"], arm["version"], arm["arm"]) for arm in found]


def test_from_workers_what_answers_now_comes_first_where_it_answers_most():
    assert [(model, arm) for model, _, arm in shown(ROWS, a=A, b=B)] == [row for row in SHOWN if row[1] != "ended"]
    assert shown(ROWS) == []


# Version 2 was tried and went back: version 1 was seen first, and answers.
BACK = [("b", "v1", "champion", 40), ("b", "v2", "champion", 5), ("b", "v2", "pinned", 12), ("b", "v3", "pinned", 1)]
BACK_SHOWN = [("b", "v1", "champion"), ("b", "v2", "pinned"), ("b", "v3", "pinned")]


def test_after_a_rollback_the_version_that_answers_is_shown_and_each_that_was_named():
    assert shown([*BACK, ("b", OTHER, OTHER, 99)], b=B) == BACK_SHOWN
    assert shown(BACK, b=Route("b", B.arms, constant=(0.5,))) == BACK_SHOWN[1:]
    assert shown([*BACK, ("b", "constant", "constant", 3)], b=B) == BACK_SHOWN


def test_a_shadow_is_shown_while_there_is_one():
    rows = [("a", version, "shadow", 3) for version in ("v0", "v1", "v2")]
    assert shown(rows, a=A) == [("a", "v0", "shadow"), ("a", "v2", "shadow")]
    assert shown(rows, a=Route("a", (RoutedArm("champion", "v2", 1.0),))) == []
    assert shown(rows, a=Route("a", A.arms, unit="request")) == []


def test_from_records_the_version_that_answered_last(tmp_path):
    spans = [
        ("v1", "champion", 1),
        ("v2", "champion", 2),
        ("v2", "pinned", 3),
        ("v3", "pinned", 3),
        ("v1", "champion", 9),
    ]
    spans += [("v4", "shadow", 4), ("v5", "shadow", 5), ("v1", "shadow", 6), ("v1", "champion", 8)]
    rollouts = {4: "r1", 5: "r2", 6: "r2"}
    rows = [
        encode_record(
            PredictionRecord(
                f"q{at}",
                "p",
                asked,
                "b",
                version,
                arm,
                rollouts.get(asked, ""),
                {},
                b"",
                b"",
                {},
                (0.5,),
                (1,) * 6,
                "ok",
            )
        )
        for at, (version, arm, asked) in enumerate(spans)
    ]
    home = Home(tmp_path)
    home.records("w").write(PREDICTIONS, rows)
    found = {(arm["version"], arm["arm"]): arm["rows"] for arm in recorded(home, BUDGETS)}
    expected = {
        ("v1", "champion"): 3,
        ("v2", "pinned"): 1,
        ("v3", "pinned"): 1,
        ("v5", "shadow"): 1,
        ("v1", "shadow"): 1,
    }
    assert found == expected
    still = Home(tmp_path / "still")  # a clock that stands: the order of the records decides
    record = PredictionRecord("", "p", 7, "b", "", "champion", "", {}, b"", b"", {}, (0.5,), (1,) * 6, "ok")
    rows = [encode_record(replace(record, request_id=f"q{at}", version=v)) for at, v in enumerate(("v1", "v2", "v1"))]
    still.records("w").write(PREDICTIONS, rows)
    assert [(arm["version"], arm["rows"]) for arm in recorded(still, BUDGETS)] == [("v1", 2)]


def test_a_time_that_workers_cannot_go_by_is_in_the_hint(tmp_path):
    with pytest.raises(InputError, match="--from records --since 2026-03-09"):
        show_latency(LatencyRequest(tmp_path, since="2026-03-09"))
    with pytest.raises(InputError, match="not a time"):  # before a hint that would lead there
        show_latency(LatencyRequest(tmp_path, since="2026"))
