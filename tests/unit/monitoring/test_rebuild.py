"""Answers come back from prediction records as they were."""

import numpy as np
import pytest
from msgspec.structs import replace

from trimtab.core.clock import DAY, HOUR, WEEK
from trimtab.errors import IntegrityError
from trimtab.features.plan import LatestPart, Plan, RequestShape
from trimtab.monitoring.observer import Observer, ObserverConfig
from trimtab.monitoring.rebuild import answers_from_records, failures
from trimtab.serving.record import PredictionRecord, decode_record, encode_record

START = 20 * WEEK
PLAN = Plan(
    requests=RequestShape("visits", "visit", "at", {"shop": "str"}, {"basket": "float"}, (), {}),
    parts=(LatestPart("stock", ("shop",), ("left", "price"), HOUR),),
)


def record(number, *, version="A", arm="champion", mark=3, status="ok", features=None, rollout="r", unit=""):
    values = np.array([number, -number], dtype="<f4").tobytes() if features is None else features
    return PredictionRecord(
        request_id=f"v{number}",
        prediction_id=f"p{number}{version}",
        asked_at=START + number,
        model="late",
        version=version,
        arm=arm,
        rollout=rollout,
        keys={"shop": f"s{number % 3}"},
        features=values,
        ages=np.array([number / 2], dtype="<f4").tobytes(),
        watermarks={"stock": (mark, START)},
        outputs=(number / 100,),
        timings=(1, 2, 3),
        status=status,
        unit=unit,
        together=unit != "",
    )


def test_neighbours_become_batches():
    rows = [record(1), record(2), record(3, mark=4), record(3, version="B", arm="shadow", mark=4)]
    rows = [decode_record(encode_record(row)) for row in rows]
    made = list(answers_from_records(rows, PLAN))
    assert [(list(a.requests.ids), a.version, a.arm) for a in made] == [
        (["v1", "v2"], "A", "champion"),
        (["v3"], "A", "champion"),
        (["v3"], "B", "shadow"),
    ]
    first = made[0]
    assert first.features.values.tolist() == [[1, -1], [2, -2]]
    assert first.features.ages.tolist() == [[0.5], [1.0]]
    assert first.features.watermarks["stock"].seq == 3
    assert first.requests.keys["shop"].tolist() == ["s1", "s2"]
    assert first.requests.at.tolist() == [START + 1, START + 2]
    assert first.outputs.tolist() == [0.01, 0.02]
    assert first.timings == (1, 2, 3)


def test_failed_requests_are_counted_apart():
    rows = [record(1), record(2, status="error:timeout"), record(3, status="stale:stock")]
    made = list(answers_from_records(rows, PLAN))
    assert [(list(a.requests.ids), a.features.stale) for a in made] == [(["v1"], ()), (["v3"], ("stock",))]
    assert failures(rows) == {("r", "champion", "A"): (1, 0, ["v2"])}


def test_what_fell_to_its_arm_together_comes_back_so_failed_or_not():
    rows = [
        record(number, unit="user" if number % 3 == 0 else "", status="error:x" if number > 5 else "ok")
        for number in range(10)
    ]
    (made,) = answers_from_records(rows, PLAN)
    assert list(made.together) == [True, False, False, True, False, False]
    assert list(made.units) == ["user", "", "", "user", "", ""]
    assert failures(rows) == {("r", "champion", "A"): (4, 2, ["user", "v7", "v8", "user"])}
    (alone,) = answers_from_records(rows[1:3], PLAN)
    assert (alone.together, alone.units) == ((), ())


def test_a_unit_of_an_ab_test_did_not_fall_together():
    rows = [replace(record(number, unit="user"), together=False) for number in range(2)]
    (made,) = answers_from_records(rows, PLAN)
    assert (made.together, made.units) == ((), ())


def test_sampled_records_without_features_still_count_as_predictions():
    rows = [record(1), record(2, features=b"")]
    made = list(answers_from_records(rows, PLAN))
    assert [a.features.values.shape for a in made] == [(1, 2), (1, 0)]


def test_records_of_another_plan_are_refused():
    with pytest.raises(IntegrityError, match="feature plan"):
        list(answers_from_records([record(1, features=b"\0" * 12)], PLAN))


def test_an_observer_rebuilt_from_records_says_the_same():
    rows = [record(number) for number in range(50)]
    rows += [record(number, version="B", arm="shadow") for number in range(50)]
    rows += rows[:10]
    blocks = []
    for order in (rows, sorted(rows, key=lambda row: row.request_id)):
        observer = Observer(ObserverConfig("late", "binary", "log_loss", matures=DAY))
        for answers in answers_from_records(order, PLAN):
            observer.answered(answers)
        observer.labelled([f"v{n}" for n in range(50)], np.arange(50) % 2 * 1.0, np.full(50, START + HOUR))
        blocks.append(observer.advance(START + 3 * DAY))
    assert blocks[0] == blocks[1]
    (day,) = blocks[0]
    assert [block.answered for block in day.blocks] == [50, 50]
    assert (day.pairs[0].rows, day.pairs[0].gain) == (50, 0.0)
