"""The observer: each day once, in order, from whatever order and batches things arrive in."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.core.clock import DAY, HOUR, SECOND, WEEK
from trimtab.datasets.profile import ScoredRows, build_profile
from trimtab.errors import InputError
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.monitoring.blocks import ArmCount
from trimtab.monitoring.observer import Observer, ObserverConfig
from trimtab.monitoring.rebuild import cells
from trimtab.serving.answers import Answers
from trimtab.stats.metrics import log_losses

START = 20 * WEEK
CONFIG = ObserverConfig("late", "binary", "log_loss", matures=48 * HOUR)


def batch(ids, at, outputs, *, version="A", arm="champion", rollout="", values=None, timings=(1, 2, 3), **more):
    n = len(ids)
    matrix = np.zeros((n, 2), dtype=np.float32) if values is None else values
    return Answers(
        requests=RequestBatch(ids, np.asarray(at, dtype=np.int64), {}, {}),
        features=FeatureBatch(matrix, np.zeros((n, 1), dtype=np.float32), {}, ()),
        version=version,
        arm=arm,
        rollout=rollout,
        outputs=np.asarray(outputs, dtype=np.float64),
        timings=timings,
        **more,
    )


def label(observer, ids, values, known):
    observer.labelled(ids, np.asarray(values, dtype=np.float64), np.asarray(known, dtype=np.int64))


def test_a_day_closes_once_when_its_labels_have_matured():
    observer = Observer(CONFIG)
    observer.answered(batch(["a", "b", "c"], [START, START + HOUR, START + DAY], [0.5, 0.25, 0.9]))
    label(observer, ["a", "b"], [1.0, 0.0], [START + 3 * HOUR, START + 4 * HOUR])
    assert observer.advance(START + DAY + 48 * HOUR - 1) == []
    (first,) = observer.advance(START + DAY + 48 * HOUR)
    assert first.day == START
    (block,) = first.blocks
    assert (block.version, block.answered, block.labelled) == ("A", 2, 2)
    assert block.loss == pytest.approx(log_losses([1, 0], [0.5, 0.25]).sum())
    assert (block.label, block.prediction) == (1.0, 0.75)
    assert block.positives[50] == 1
    assert block.negatives[25] == 1
    assert sum(block.positives) + sum(block.negatives) == 2
    assert observer.advance(START + DAY + 48 * HOUR) == []
    (second,) = observer.advance(START + 30 * DAY)
    assert (second.day, second.blocks[0].answered, second.blocks[0].labelled) == (START + DAY, 1, 0)
    assert observer.advance(START + 60 * DAY) == []


def test_answers_without_features_count_beside_those_with():
    observer = Observer(CONFIG)
    nothing = np.empty((2, 0), np.float32)
    observer.answered(batch(["a", "b"], [START] * 2, [0.5, 0.25], values=nothing))
    observer.answered(batch(["c"], [START], [0.9]))
    observer = Observer.restore(CONFIG, observer.snapshot())
    observer.answered(batch(["d", "a"], [START] * 2, [0.5, 0.5], values=nothing))
    assert [(one.answered, one.errors) for one in observer.arms("")] == [(4, 0)]
    (day,) = observer.advance(START + 30 * DAY)
    assert day.blocks[0].answered == 4


def test_several_days_close_in_order():
    observer = Observer(CONFIG)
    for place in (3, 1, 2):
        observer.answered(batch([f"r{place}"], [START + place * DAY], [0.5]))
    assert [day.day for day in observer.advance(START + 30 * DAY)] == [START + place * DAY for place in (1, 2, 3)]


def test_only_labels_known_within_the_horizon_count():
    observer = Observer(CONFIG)
    observer.answered(batch(["in", "late", "never", "corrected", "nan"], [START] * 5, [0.5] * 5))
    label(observer, ["in", "late"], [1.0, 1.0], [START + 48 * HOUR, START + 48 * HOUR + 1])
    label(observer, ["corrected"] * 3, [1.0, 0.0, 1.0], [START + HOUR, START + 2 * HOUR, START + 50 * HOUR])
    label(observer, ["nan", "nobody"], [np.nan, 1.0], [START + HOUR, START + HOUR])
    (day,) = observer.advance(START + 10 * DAY)
    assert (day.blocks[0].labelled, day.blocks[0].label) == (2, 1.0)


def test_labels_may_come_before_the_answer_and_twice():
    observer = Observer(CONFIG)
    label(observer, ["a"], [1.0], [START + HOUR])
    observer.answered(batch(["a"], [START], [0.5]))
    label(observer, ["a"], [1.0], [START + HOUR])
    (day,) = observer.advance(START + 10 * DAY)
    assert day.blocks[0].labelled == 1


def test_repeated_answers_count_once_and_late_ones_only_as_late():
    observer = Observer(CONFIG)
    observer.answered(batch(["a", "a", "b"], [START] * 3, [0.5, 0.6, 0.7]))
    observer.answered(batch(["b", "c"], [START] * 2, [0.1, 0.2]))
    assert observer.arms("") == (ArmCount("", "champion", "A", 3, 0, 0),)
    observer.answered(batch(["b"], [START], [0.1]))
    assert observer.arms("")[0].answered == 3
    (day,) = observer.advance(START + 10 * DAY)
    assert day.blocks[0].answered == 3
    observer.answered(batch(["d"], [START], [0.1]))
    assert observer.advance(START + 20 * DAY) == []
    assert observer.late == 1


def test_pairs_are_rows_that_both_versions_scored_under_the_rollout_and_that_have_labels():
    observer = Observer(CONFIG)
    at = [START] * 4
    # Before the rollout, the champion alone; then shadow; then the canary answers one and the champion shadows it.
    observer.answered(batch(["old"], [START], [0.5]))
    observer.answered(batch(["a", "b"], at[:2], [0.5, 0.5], rollout="r1"))
    observer.answered(batch(["a", "b"], at[:2], [0.8, 0.8], version="B", arm="shadow", rollout="r1"))
    observer.answered(batch(["c"], at[:1], [0.9], version="B", arm="canary", rollout="r1"))
    observer.answered(batch(["c"], at[:1], [0.5], arm="shadow", rollout="r1"))
    observer.answered(batch(["d"], at[:1], [0.5], rollout="r1"))
    label(observer, ["old", "a", "b", "c", "d"], [1.0, 1.0, 0.0, 1.0, 1.0], [START + HOUR] * 5)
    (day,) = observer.advance(START + 10 * DAY)
    (pair,) = day.pairs
    assert (pair.rollout, pair.champion, pair.challenger, pair.rows, pair.canary_rows) == ("r1", "A", "B", 3, 1)
    truth = [1, 0, 1]
    expected = log_losses(truth, [0.5] * 3).sum() - log_losses(truth, [0.8, 0.8, 0.9]).sum()
    assert pair.gain == pytest.approx(expected)
    assert {block.version: block.answered for block in day.blocks} == {"A": 5, "B": 3}


def test_arms_count_answers_errors_and_slow_answers_of_one_rollout():
    observer = Observer(ObserverConfig("late", "binary", "log_loss", matures=0, slow_after=100))
    observer.answered(batch(["a", "b"], [START] * 2, [0.5] * 2, rollout="r1", timings=(60, 60)))
    observer.answered(batch(["c"], [START], [0.5], rollout="r1", timings=(60, 30)))
    observer.answered(batch(["d"], [START], [0.5], version="B", arm="canary", rollout="r1"))
    observer.answered(batch(["a"], [START], [0.5], version="B", arm="shadow", rollout="r1"))
    observer.failed("r1", "canary", "B")
    assert observer.arms("r1") == (ArmCount("r1", "canary", "B", 1, 1, 0), ArmCount("r1", "champion", "A", 3, 0, 2))
    assert observer.arms("other") == ()


def test_arms_count_what_fell_to_them_together_each_row_once():
    observer = Observer(CONFIG)
    flags = [True, False, True, True]
    observer.answered(batch(["a", "b", "c", "d"], [START] * 4, [0.5, 0.5, np.nan, 0.5], together=flags))
    observer.answered(batch(["e", "f"], [START] * 2, [0.5] * 2))
    observer.answered(batch(["a", "g"], [START, START + DAY], [0.5] * 2, together=[True, True]))
    observer.answered(
        msgspec.structs.replace(batch(["x", "y"], [START] * 2, [0.5] * 2, together=[True, False]), error="x")
    )
    observer.failed("", "champion", "A", count=5, together=2)
    waiting = Observer.restore(CONFIG, observer.snapshot())
    expected = (ArmCount("", "champion", "A", 6, 8, 0, 7),)
    assert observer.arms("") == expected
    assert waiting.arms("") == expected
    assert Observer.restore(CONFIG, observer.snapshot()).arms("") == expected


def test_a_step_counts_what_fell_together_since_it_began():
    observer = Observer(CONFIG)
    assert observer.step_arms("r1", 0) == ()
    observer.answered(batch(["a", "b"], [START] * 2, [0.5] * 2, rollout="r1", together=[True, True]))
    assert observer.step_arms("r1", 0)[0].together == 2
    assert observer.step_arms("r1", 1)[0] == ArmCount("r1", "champion", "A", 0, 0, 0, 0)
    observer.answered(batch(["c", "d"], [START] * 2, [0.5] * 2, rollout="r1", together=[True, False]))
    restored = Observer.restore(CONFIG, observer.snapshot())
    for one in (observer, restored):
        assert one.step_arms("r1", 1)[0] == ArmCount("r1", "champion", "A", 2, 0, 0, 1)


def test_a_snapshot_of_before_rows_fell_together_goes_on():
    """Its arms have three counts, and nothing is said of the chunks that wait."""
    observer = Observer(CONFIG)
    observer.answered(batch(["a", "b"], [START] * 2, [0.5] * 2, rollout="r1"))
    observer.step_arms("r1", 0)
    observer.answered(batch(["c"], [START], [0.5], rollout="r1"))
    observer.step_arms("r1", 1)
    observer.answered(batch(["d"], [START], [0.5], rollout="r1"))
    state = msgspec.msgpack.decode(observer.snapshot())
    assert len(state["pending"]) == 1
    del state["together"]
    for field in ("arms", "before"):
        state[field] = [(key, counts[:3]) for key, counts in state[field]]
    old = Observer.restore(CONFIG, msgspec.msgpack.encode(state))
    old.answered(batch(["e"], [START], [0.5], rollout="r1", together=[True]))
    assert old.arms("r1") == (ArmCount("r1", "champion", "A", 5, 0, 0, 1),)
    assert old.step_arms("r1", 1) == (ArmCount("r1", "champion", "A", 2, 0, 0, 1),)


def scenario(seed, days=6, per_day=40):
    """Calls in the order of time: answers of two versions under a rollout, and labels."""
    rng = np.random.default_rng(seed)
    n = days * per_day
    at = np.sort(rng.integers(0, days * DAY, n)) + START
    outputs, truth = rng.random((2, n)), (rng.random(n) < 0.4).astype(float)
    values = rng.normal(size=(n, 2)).astype(np.float32)
    ids = [f"r{place}" for place in range(n)]
    canary = rng.random(n) < 0.2
    calls = []
    for start in range(0, n, 7):
        rows = slice(start, start + 7)
        for version, output in zip("AB", outputs, strict=True):
            for share in (True, False):
                picked = np.flatnonzero(canary[rows] == share) + start
                if len(picked):
                    answering = (version == "B") == share
                    arm = "shadow" if not answering else "canary" if version == "B" else "champion"
                    some = [ids[place] for place in picked]
                    made = batch(
                        some, at[picked], output[picked], version=version, arm=arm, rollout="r", values=values[picked]
                    )
                    calls.append(("answered", made))
        calls.append(("labelled", (ids[rows], truth[rows], at[rows] + rng.integers(0, 60 * HOUR, len(at[rows])))))
    return calls


def play(observer, calls):
    for kind, argument in calls:
        observer.answered(argument) if kind == "answered" else observer.labelled(*argument)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(seed, shuffler):
    calls = scenario(seed)
    one, two = Observer(CONFIG), Observer(CONFIG)
    play(one, calls)
    shuffled = list(calls)
    shuffler.shuffle(shuffled)
    # An answer seen in an odd order is still the same answer; arms differ only in who is called champion first.
    play(two, shuffled)
    end = START + 30 * DAY
    assert one.advance(end) == two.advance(end)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 60))
def test_a_restored_observer_goes_on_exactly_as_the_old_one(seed, cut):
    calls = scenario(seed)
    profile = small_profile()
    kept, cut_off = Observer(CONFIG), Observer(CONFIG)
    for observer in (kept, cut_off):
        observer.profile("A", profile)
        play(observer, calls[:cut])
        observer.advance(START + 3 * DAY)
    resumed = Observer.restore(CONFIG, cut_off.snapshot())
    assert resumed.snapshot() == cut_off.snapshot()
    for observer in (kept, resumed):
        play(observer, calls[cut:])
    for now in (START + 4 * DAY, START + 8 * DAY):
        assert kept.advance(now) == resumed.advance(now)
        assert kept.drift(now) == resumed.drift(now)
    assert kept.arms("r") == resumed.arms("r")
    assert kept.snapshot() == resumed.snapshot()


def small_profile(seed=0, shift=0.0, bins=None):
    rng = np.random.default_rng(seed)
    n = 12_000
    p = rng.random(n)
    at = np.sort(rng.integers(0, 8 * WEEK, n))
    values = rng.normal(shift, 1, (n, 2)).astype(np.float32)
    rows = ScoredRows(values, at, p, np.ones(n), (rng.random(n) < p).astype(float))
    return build_profile(["x", "y"], rows, bins=bins)


def serve(observer, days, *, version="A", arm="champion", shift=0.0, first=0, per_day=400):
    rng = np.random.default_rng(first)
    for day in range(first, first + days):
        at = START + day * DAY + np.sort(rng.integers(0, DAY, per_day))
        values = rng.normal(shift, 1, (per_day, 2)).astype(np.float32)
        ids = [f"{day}-{place}" for place in range(per_day)]
        observer.answered(batch(ids, at, rng.random(per_day), version=version, arm=arm, values=values))


def test_drift_is_reported_once_a_day_and_only_over_a_whole_window():
    observer = Observer(CONFIG)
    assert observer.drift(START) is None
    observer.profile("A", small_profile())
    serve(observer, 6)
    part = observer.drift(START + 6 * DAY + HOUR)
    assert {found.severity for found in (*part.features, part.prediction)} == {"insufficient_data"}
    assert observer.drift(START + 6 * DAY + 2 * HOUR) is None
    serve(observer, 1, first=6)
    report = observer.drift(START + 7 * DAY)
    assert (report.start, report.end, report.version) == (START, START + 7 * DAY, "A")
    assert {found.severity for found in (*report.features, report.prediction)} == {"ok"}
    assert report.features[0].rows == report.prediction.rows == 2800


def test_drift_sees_a_shift_and_ignores_the_shadow():
    observer = Observer(CONFIG)
    observer.profile("A", small_profile())
    observer.profile("B", small_profile())
    serve(observer, 7)
    serve(observer, 7, version="B", arm="shadow", shift=5.0)
    assert observer.drift(START + 7 * DAY).features[0].severity == "ok"
    serve(observer, 7, first=7, shift=2.0)
    found = observer.drift(START + 14 * DAY)
    assert [feature.severity for feature in found.features] == ["critical", "critical"]


def test_counts_merge_across_a_promotion_when_bins_are_frozen():
    first = small_profile()
    for bins, rows, severity in [(first.bins(), 2800, "ok"), (None, 1200, "insufficient_data")]:
        observer = Observer(CONFIG)
        observer.profile("A", first)
        observer.profile("B", small_profile(seed=1, bins=bins))
        serve(observer, 4)
        serve(observer, 4, version="B", arm="shadow")
        serve(observer, 3, first=4, version="B")
        report = observer.drift(START + 7 * DAY)
        assert report.version == "B"
        assert report.features[0].rows == rows
        assert report.features[0].severity == severity
        assert report.prediction.rows == 2800, "what it said in the shadow counts for the version"


def test_memory_stays_bounded_over_a_long_run():
    observer = Observer(CONFIG)
    observer.profile("A", small_profile())
    sizes = []
    for day in range(40):
        serve(observer, 1, first=day, per_day=50)
        ids = [f"{day}-{place}" for place in range(50)]
        label(observer, [*ids, f"nobody-{day}"], [1.0] * 51, [START + day * DAY + 23 * HOUR] * 51)
        observer.advance(START + (day + 1) * DAY)
        sizes.append(len(observer.snapshot()))
    assert sizes[-1] < 1.2 * sizes[19]


def test_cells_add_up_to_the_blocks_and_histograms():
    observer = Observer(CONFIG)
    observer.profile("A", small_profile())
    serve(observer, 2)
    days = observer.advance(START + 5 * DAY)
    blocks = [block for day in days for block in day.blocks]
    found = cells("late", blocks, {day.day: observer.histograms(day.day) for day in days})
    assert found["late/quality/A", START].tolist()[:2] == [400, 0]
    features = [vector for (name, _), vector in found.items() if name.startswith("late/feature/x/")]
    assert [vector.sum() for vector in features] == [400, 400]
    assert any(name.startswith("late/prediction/A/") for name, _ in found)
    assert all(vector.dtype == np.float64 for vector in found.values())


def test_a_day_with_many_small_batches_is_cheap_to_take_in():
    observer = Observer(CONFIG)
    made = [batch([f"r{place}"], [START + place * SECOND], [0.5]) for place in range(5000)]
    for answers in made:
        observer.answered(answers)
    assert observer.arms("")[0].answered == 5000


def test_a_config_that_cannot_work_is_refused():
    with pytest.raises(InputError, match="whole days"):
        ObserverConfig("m", "binary", "log_loss", matures=0, window=HOUR)
    with pytest.raises(InputError, match="mature"):
        ObserverConfig("m", "binary", "log_loss", matures=-1)
