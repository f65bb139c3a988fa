"""Drift severities: effect, evidence and ordinary range together; false alarms by seeded simulation."""

import numpy as np
import pytest

from trimtab.core.clock import DAY, WEEK
from trimtab.datasets.profile import Profile, ScoredRows, build_profile
from trimtab.errors import InputError, UnknownName
from trimtab.monitoring.drift import DriftPolicy, Observed, Window, compare, compare_frames

FEATURES = 20
REFERENCE = 20_000


def scored(values, days=56, seed=0, predictions=None):
    rng = np.random.default_rng(seed)
    n = len(values)
    p = rng.beta(2, 6, n) if predictions is None else predictions
    at = np.sort(rng.integers(0, days * DAY, n))
    return ScoredRows(values.astype(np.float32), at, p, rng.exponential(0.4, n), (rng.random(n) < p).astype(float))


def names(count=FEATURES):
    return [f"f{place}" for place in range(count)]


def observed(column, values, whole=True):
    finite = values[np.isfinite(values)]
    return Observed(column.bins.count(values), float(finite.sum()), len(finite), whole)


def window(profile, values, predictions, whole=True):
    features = {
        name: observed(column, values[:, place], whole) for place, (name, column) in enumerate(profile.features.items())
    }
    return Window("v", 0, WEEK, features, observed(profile.prediction, predictions, whole))


@pytest.fixture(scope="module")
def profile():
    rng = np.random.default_rng(1)
    return build_profile(names(), scored(rng.normal(size=(REFERENCE, FEATURES))))


def any_alarm(report):
    return any(found.severity in ("warning", "critical") for found in report.features)


@pytest.mark.parametrize("n", [1000, 2000, 5000])
def test_without_drift_any_of_twenty_features_alarms_in_at_most_five_percent(profile, n):
    # Counted straight from the reference shares; the prediction's own tests are one more family.
    rng = np.random.default_rng(n)
    alarms = prediction_alarms = 0
    runs = 120
    for _ in range(runs):
        seen = {}
        for name, column in profile.features.items():
            counts = np.array(column.counts)
            seen[name] = Observed(rng.multinomial(n, counts / counts.sum()), n * column.mean, n)
        said = observed(profile.prediction, rng.beta(2, 6, n))
        report = compare(profile, Window("v", 0, WEEK, seen, said))
        alarms += any_alarm(report)
        prediction_alarms += report.prediction.severity != "ok"
    assert alarms / runs <= 0.05
    assert prediction_alarms / runs <= 0.05


def test_below_the_smallest_window_nothing_is_said(profile):
    rng = np.random.default_rng(2)
    report = compare(profile, window(profile, rng.normal(3, 1, (999, FEATURES)), rng.beta(6, 2, 999)))
    assert {found.severity for found in report.features} == {"insufficient_data"}
    assert report.prediction.severity == "insufficient_data"
    assert report.features[0].psi > 1, "the numbers are still there to look at"


def test_a_part_of_a_window_is_insufficient(profile):
    rng = np.random.default_rng(3)
    report = compare(profile, window(profile, rng.normal(3, 1, (5000, FEATURES)), rng.beta(6, 2, 5000), whole=False))
    assert report.prediction.severity == report.features[0].severity == "insufficient_data"


def test_a_short_reference_is_insufficient():
    rng = np.random.default_rng(4)
    short = build_profile(names(2), scored(rng.normal(size=(5000, 2))))
    report = compare(short, window(short, rng.normal(3, 1, (2000, 2)), rng.beta(6, 2, 2000)))
    assert report.features[0].severity == "insufficient_data"


def test_a_feature_that_was_not_seen_is_insufficient(profile):
    rng = np.random.default_rng(5)
    seen = window(profile, rng.normal(size=(2000, FEATURES)), rng.beta(2, 6, 2000))
    report = compare(profile, Window("v", 0, WEEK, {}, seen.prediction))
    assert {found.severity for found in report.features} == {"insufficient_data"}


@pytest.mark.parametrize(("shift", "severity"), [(0.0, "ok"), (0.2, "warning"), (0.5, "critical"), (2.0, "critical")])
def test_severity_grows_with_the_shift(profile, shift, severity):
    rng = np.random.default_rng(6)
    values = rng.normal(size=(8000, FEATURES))
    values[:, 3] += shift
    report = compare(profile, window(profile, values, rng.beta(2, 6, 8000)))
    assert report.features[3].severity == severity
    assert {found.severity for found in report.features[:3]} == {"ok"}
    assert report.features[3].mean == pytest.approx(shift, abs=0.05)


def test_a_feature_that_goes_missing_or_changes_its_unit_is_critical(profile):
    rng = np.random.default_rng(7)
    values = rng.normal(size=(3000, FEATURES))
    values[::2, 0] = np.nan
    values[:, 1] *= 1000
    report = compare(profile, window(profile, values, rng.beta(2, 6, 3000)))
    assert [found.severity for found in report.features[:3]] == ["critical", "critical", "ok"]


def test_the_mean_prediction_alarms_by_relative_change(profile):
    rng = np.random.default_rng(8)
    values = rng.normal(size=(8000, FEATURES))
    base = rng.beta(2, 6, 8000)
    for factor, severity in [(1.0, "ok"), (1.08, "warning"), (1.25, "critical")]:
        report = compare(profile, window(profile, values, base * factor))
        assert report.prediction.severity == severity
        assert report.prediction.mean_change == pytest.approx(factor - 1, abs=0.02)


def autocorrelated(weeks, seed):
    """One value per row that wanders from week to week, as a rolling mean or a temperature does."""
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 1, weeks)
    return [rng.normal(mean, 1, (2000, 1)) for mean in level]


def test_what_ordinary_weeks_show_is_no_alarm():
    alarms = naive = looked = 0
    for seed in range(60):
        *reference, current = autocorrelated(9, seed)
        values = np.concatenate(reference)
        rng = np.random.default_rng(seed)
        at = np.concatenate([np.sort(rng.integers(0, WEEK, 2000)) + week * WEEK for week in range(8)])
        n = len(values)
        rows = ScoredRows(values.astype(np.float32), at, rng.beta(2, 6, n), np.ones(n), np.zeros(n))
        profile = build_profile(["wander"], rows)
        assert profile.blocks == 8
        found = compare(profile, window(profile, current, rng.beta(2, 6, 2000))).features[0]
        looked += 1
        alarms += found.severity != "ok"
        naive += found.psi > 0.25
    assert naive / looked > 0.5, "the case no longer shows what it is here to show"
    assert alarms / looked <= 0.05


def test_a_change_of_unit_shows_even_where_ordinary_weeks_do_not_overlap():
    rng = np.random.default_rng(20)
    weeks = np.repeat(rng.normal(15, 6, 9), 2000)
    values = (weeks + rng.normal(0, 0.5, len(weeks)))[:, None]
    at = np.concatenate([np.sort(rng.integers(0, WEEK, 2000)) + week * WEEK for week in range(8)])
    n = len(at)
    rows = ScoredRows(values[:n].astype(np.float32), at, rng.beta(2, 6, n), np.ones(n), np.zeros(n))
    profile = build_profile(["rolling"], rows)
    ordinary = compare(profile, window(profile, values[n:], rng.beta(2, 6, 2000))).features[0]
    seconds = compare(profile, window(profile, values[n:] * 60, rng.beta(2, 6, 2000))).features[0]
    assert (ordinary.severity, seconds.severity) == ("ok", "critical")
    assert ordinary.psi > 1


def test_confident_predictions_are_reported():
    rng = np.random.default_rng(9)
    rows = scored(rng.normal(size=(12_000, 1)), predictions=rng.uniform(0.2, 0.8, 12_000))
    profile = build_profile(["x"], rows)
    seen = window(profile, rng.normal(size=(3000, 1)), rng.uniform(0.92, 1, 3000))
    report = compare(profile, Window("v", 0, WEEK, seen.features, seen.prediction, confident=1.0))
    assert (report.confident_reference, report.confident) == (0.0, 1.0)
    assert report.prediction.severity == "critical"


def test_profile_survives_json_and_keeps_frozen_bins(profile):
    assert Profile.from_json(profile.to_json()) == profile
    rng = np.random.default_rng(10)
    later = build_profile(names(), scored(rng.normal(1, 2, (REFERENCE, FEATURES))), bins=profile.bins())
    assert later.bins() == profile.bins()
    assert later.features["f0"].counts != profile.features["f0"].counts


def test_profile_holds_losses_by_week_and_by_held_out_day():
    rng = np.random.default_rng(11)
    rows = scored(rng.normal(size=(12_000, 1)), days=28)
    tail = scored(rng.normal(size=(1000, 1)), days=5, seed=3)
    profile = build_profile(["x"], rows, holdout=tail)
    assert len(profile.weekly_losses) == 4
    assert np.mean(profile.weekly_losses) == pytest.approx(rows.losses.mean(), abs=0.01)
    assert len(profile.holdout_losses) == 5
    assert sum(profile.holdout_rows) == 1000
    assert profile.holdout_loss == pytest.approx(tail.losses.mean())
    assert profile.base_rate == rows.labels.mean()
    assert build_profile(["x"], rows).holdout_loss is None


def test_profile_of_a_single_day_says_that_it_knows_no_ordinary_range():
    rng = np.random.default_rng(12)
    profile = build_profile(["x"], scored(rng.normal(size=(500, 1)), days=1))
    assert profile.blocks <= 1
    assert profile.features["x"].alarm_psi == 0.0


def test_profile_refuses_what_does_not_fit():
    rows = scored(np.zeros((10, 2)))
    with pytest.raises(InputError, match="names"):
        build_profile(["one"], rows)
    with pytest.raises(InputError, match="no rows"):
        build_profile(["a", "b"], scored(np.zeros((0, 2))))
    with pytest.raises(InputError, match="unequal"):
        ScoredRows(rows.values, rows.at[:3], rows.predictions, rows.losses, rows.labels)


def frames(n, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(shift, 1, n),
        "count": rng.poisson(2 + 3 * shift, n),
        "shop": rng.choice(["a", "b", "c"], n, p=[0.5, 0.3 - shift / 4, 0.2 + shift / 4]),
        "note": np.where(rng.random(n) < 0.1, None, "text").astype(object),
    }


def test_frames_without_drift_are_ok_and_with_drift_are_critical():
    reference = frames(12_000)
    same = compare_frames(reference, frames(4000, seed=1))
    assert {found.severity for found in same.values()} == {"ok"}
    moved = compare_frames(reference, frames(4000, shift=1.0, seed=2))
    assert [moved[name].severity for name in ("x", "count", "shop", "note")] == [
        "critical",
        "critical",
        "critical",
        "ok",
    ]
    assert [moved[name].kind for name in moved] == ["number", "number", "category", "category"]
    assert moved["note"].missing == pytest.approx(0.1, abs=0.02)
    assert moved["x"].ks == pytest.approx(0.383, abs=0.03)


def test_frames_can_be_pandas_or_arrow():
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    old, new = frames(12_000), frames(2000, seed=1)
    expected = compare_frames(old, new)
    assert compare_frames(pandas.DataFrame(old), pandas.DataFrame(new)) == expected
    assert compare_frames(pyarrow.table(old), pyarrow.table(new)).keys() == expected.keys()


def test_small_frames_are_insufficient_unless_the_policy_says_so():
    old, new = frames(12_000), frames(300, shift=1.0, seed=1)
    assert {found.severity for found in compare_frames(old, new).values()} == {"insufficient_data"}
    bold = compare_frames(old, new, policy=DriftPolicy(rows=200))
    assert bold["x"].severity == "critical"


def test_frames_refuse_absent_columns_and_things_that_are_no_frames():
    with pytest.raises(UnknownName, match="shop"):
        compare_frames(frames(10), {name: value for name, value in frames(10).items() if name != "shop"})
    with pytest.raises(InputError, match="not a data frame"):
        compare_frames([1, 2], [3])
