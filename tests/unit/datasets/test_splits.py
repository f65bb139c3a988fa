import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.core.clock import DAY, instant
from trimtab.datasets.frozen import freeze, freeze_split
from trimtab.datasets.splits import LabelEvents, split_by_time
from trimtab.errors import NotEnoughData, SchemaError
from trimtab.features.batch import RequestBatch


def asked(at):
    at = np.asarray(at, np.int64)
    return RequestBatch([f"r{n}" for n in range(len(at))], at, {"shop": np.arange(len(at))}, {})


def labels(rows, values, known):
    return LabelEvents(np.array([f"r{n}" for n in rows], dtype=str), np.asarray(values), np.asarray(known, np.int64))


@st.composite
def histories(draw):
    n = draw(st.integers(1, 60))
    at = draw(st.lists(st.integers(0, 100), min_size=n, max_size=n))
    events = draw(st.lists(st.tuples(st.integers(0, n - 1), st.booleans(), st.integers(0, 60)), max_size=100))
    rows = [row for row, _, _ in events]
    return asked(at), labels(rows, [value for _, value, _ in events], [at[row] + late for row, _, late in events])


@given(
    histories(), st.integers(20, 140), st.integers(0, 20), st.integers(0, 30), st.one_of(st.none(), st.integers(1, 90))
)
@settings(max_examples=200, deadline=None)
def test_no_row_of_either_part_could_be_known_too_late(history, cutoff, matures, holdout, span):
    requests, events = history
    try:
        split = split_by_time(
            requests, events, cutoff=cutoff, matures=matures, holdout=holdout, span=span, least=(1, 1)
        )
    except NotEnoughData:
        return
    assert split.trained_until == cutoff - matures - holdout
    at = np.asarray(requests.at)
    assert (at[split.train] <= split.trained_until - matures).all()
    assert (at[split.holdout] > split.trained_until).all()
    assert (at[split.holdout] <= cutoff - matures).all()
    if span is not None:
        assert (at[np.concatenate([split.train, split.holdout])] >= cutoff - span).all()
    for rows, y, by in ((split.train, split.train_y, split.trained_until), (split.holdout, split.holdout_y, cutoff)):
        assert (np.diff(at[rows]) >= 0).all()
        for row, value in zip(rows, y, strict=True):
            fitting = (events.ids == f"r{row}") & (events.known <= by)
            newest = events.known[fitting].max()
            assert value in events.values[fitting & (events.known == newest)]


@given(histories(), st.integers(30, 120))
@settings(max_examples=100, deadline=None)
def test_what_becomes_known_after_the_cutoff_changes_nothing(history, cutoff):
    requests, events = history
    kept = events.known <= cutoff
    past = LabelEvents(events.ids[kept], events.values[kept], events.known[kept])
    shape = {"cutoff": cutoff, "matures": 5, "holdout": 10, "least": (1, 1)}
    try:
        full = split_by_time(requests, events, **shape)
    except NotEnoughData:
        with pytest.raises(NotEnoughData):
            split_by_time(requests, past, **shape)
        return
    known = split_by_time(requests, past, **shape)
    assert full.train.tolist() == known.train.tolist()
    assert full.holdout_y.tolist() == known.holdout_y.tolist()


def test_a_young_request_is_not_used_although_its_label_is_known():
    # r8 was asked within the maturing time of the boundary: the ones whose label is not known yet differ from it.
    requests = asked(range(20))
    events = labels(range(20), [n % 2 for n in range(20)], [n + 1 for n in range(20)])
    split = split_by_time(requests, events, cutoff=20, matures=3, holdout=5, least=(1, 1))
    assert split.trained_until == 12
    assert split.train.tolist() == list(range(10))
    assert split.holdout.tolist() == [13, 14, 15, 16, 17]


def test_the_last_label_known_by_the_boundary_counts():
    requests = asked([0, 1, 50])
    events = labels([0, 0, 0, 1, 2], [1.0, 0.0, 1.0, 1.0, 1.0], [5, 7, 90, 2, 60])
    split = split_by_time(requests, events, cutoff=70, matures=10, holdout=20, least=(1, 1))
    assert split.train_y.tolist() == [0.0, 1.0]


def test_a_missing_label_is_no_label():
    requests = asked([0, 1])
    events = labels([0, 1], [np.nan, 2.0], [1, 2])
    split = split_by_time(requests, events, cutoff=9, matures=1, holdout=0, least=(1, 1))
    assert split.train.tolist() == [1]


@pytest.mark.parametrize(
    ("values", "least", "part"),
    [([1] * 40, 1, "training"), ([0, 1] * 20, 100, "training"), ([0, 1] * 15 + [1] * 10, 1, "held-out")],
)
def test_a_history_that_is_too_short_or_one_sided_is_refused_with_a_hint(values, least, part):
    with pytest.raises(NotEnoughData, match=part) as raised:
        split_by_time(
            asked(range(40)),
            labels(range(40), values, range(40)),
            cutoff=40,
            matures=2,
            holdout=5,
            classes=2,
            least=(least, 1),
        )
    assert "wait for more labels" in raised.value.hint


def test_no_requests_at_all():
    with pytest.raises(NotEnoughData):
        split_by_time(asked([]), labels([], [], []), cutoff=10, matures=1, holdout=1)


def test_frozen_rows_are_those_of_the_split_and_computed_once():
    requests = asked([30, 10, 20, 40, 5])
    events = labels(range(5), [1, 0, 1, 0, 1], [31, 11, 21, 41, 6])
    split = split_by_time(requests, events, cutoff=45, matures=2, holdout=18, least=(1, 1))
    calls = []

    def compute(rows):
        calls.append(rows)
        return np.stack([requests.at[rows], requests.keys["shop"][rows]], axis=1).astype(np.float32)

    frozen = freeze_split(requests, split, names=["at", "shop"], compute=compute)
    assert len(calls) == 1
    assert frozen.train.at.tolist() == [5, 10, 20]
    assert frozen.train.X[:, 1].tolist() == [4, 1, 2]
    assert frozen.holdout.at.tolist() == [30, 40]
    assert frozen.holdout.y.tolist() == [1.0, 0.0]


def test_places_found_once_serve_many_splits():
    requests = asked([30, 10, 20, 40, 5])
    events = labels([4, 9, 1, 2, 0, 3, 1], [1, 1, 0, 1, 0, 1, 1], [6, 7, 11, 21, 31, 41, 44])
    placed = events.placed(requests)
    assert placed.places.tolist() == [4, -1, 1, 2, 0, 3, 1]
    assert placed.placed(requests) is placed
    shape = {"cutoff": 45, "matures": 2, "holdout": 18, "least": (1, 1)}
    again, once = (split_by_time(requests, given, **shape) for given in (placed, events))
    for part in ("train", "train_y", "holdout", "holdout_y"):
        assert getattr(again, part).tolist() == getattr(once, part).tolist()


def test_of_labels_in_any_order_the_last_one_known_by_the_boundary_counts():
    requests = asked([1, 2, 3])
    events = labels([0, 0, 1, 2, 0], [9, 1, 1, 1, 5], [30, 4, 5, 6, 7])  # 9 is known too late
    split = split_by_time(requests, events, cutoff=10, matures=3, holdout=0, least=(1, 1))
    assert split.train_y.tolist() == [5, 1, 1]


def one(**changes):
    parts = {
        "values": np.array([[1.0, np.nan], [2.0, 3.0]]),
        "y": np.array([0.0, 1.0]),
        "at": np.array([1, 2]),
        "names": ["a", "b"],
        "ids": ["r1", "r2"],
    } | changes
    return freeze(parts["values"], parts["y"], parts["at"], names=parts["names"], ids=parts["ids"])


@pytest.mark.parametrize(
    "changes",
    [
        {"values": np.array([[1.0, np.nan], [2.0, 3.0000002]], np.float32)},
        {"values": np.array([[1.0, 0.0], [2.0, 3.0]])},
        {"y": np.array([1.0, 0.0])},
        {"at": np.array([1, 3])},
        {"names": ["a", "c"]},
        {"ids": ["r1", "r3"]},
    ],
)
def test_the_digest_sees_every_part(changes):
    assert one(**changes).digest != one().digest


def test_the_digest_does_not_see_which_nan_it_is_or_how_the_array_lies_in_memory():
    odd = np.array([[1.0, 0.0], [2.0, 3.0]], np.float32)
    odd.view(np.uint32)[0, 1] = 0xFFC12345
    assert np.isnan(odd[0, 1])
    assert one(values=np.asfortranarray(odd)).digest == one().digest


def test_a_frozen_dataset_cannot_be_written_and_does_not_lock_the_callers_array():
    mine = np.ones((1, 1), np.float32)
    frozen = freeze(mine, np.ones(1), np.ones(1, np.int64), names=["f"], ids=["r"])
    with pytest.raises(ValueError, match="read-only"):
        frozen.X[0, 0] = 2
    mine[0, 0] = 1


@pytest.mark.parametrize("changes", [{"ids": ["r1"]}, {"names": ["a"]}, {"at": np.array([2, 1])}, {"y": np.ones(3)}])
def test_parts_that_do_not_fit_are_refused(changes):
    with pytest.raises(SchemaError):
        one(**changes)


def test_a_history_that_ended_long_ago_says_as_of_when_to_train():
    at = np.arange(100, dtype=np.int64) * DAY
    ids = at.astype(str)
    requests, events = RequestBatch(ids.tolist(), at, {}, {}), LabelEvents(ids, at % 2 == 0, at + DAY)
    shape = {"matures": DAY, "holdout": 7 * DAY, "least": (1, 1)}
    with pytest.raises(NotEnoughData, match="held-out part") as refused:
        split_by_time(requests, events, cutoff=400 * DAY, **shape)
    assert "trimtab train MODEL --cutoff 1970-04-11T00:00:00Z" in refused.value.hint
    assert len(split_by_time(requests, events, cutoff=instant("1970-04-11T00:00:00Z"), **shape).holdout) == 7
    with pytest.raises(NotEnoughData) as young:
        split_by_time(requests, events, cutoff=100 * DAY, **shape | {"least": (1, 1000)})
    assert "--cutoff" not in young.value.hint
