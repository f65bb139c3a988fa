import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import InputError, UnknownName
from trimtab.stats import metrics

Y = np.array([0, 1, 1, 0, 1, 0, 0, 1.0])
P = np.array([0.1, 0.4, 0.35, 0.8, 0.8, 0.2, 0.35, 0.9])


def auc_by_pairs(y, score):
    pairs = [(a > b) + (a == b) / 2 for a in score[y == 1] for b in score[y == 0]]
    return sum(pairs) / len(pairs)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60).filter(
        lambda rows: len({label for label, _ in rows}) == 2
    )
)
def test_auc_is_the_share_of_pairs_in_order(rows):
    y = np.array([float(label) for label, _ in rows])
    score = np.array([float(value) for _, value in rows])
    assert metrics.roc_auc(y, score) == pytest.approx(auc_by_pairs(y, score))


def test_auc_of_one_class_is_nan():
    assert math.isnan(metrics.roc_auc([1, 1], [0.2, 0.3]))


def test_binary_metrics_by_hand():
    found = metrics.evaluate("binary", Y, P)
    assert found["roc_auc"] == pytest.approx(auc_by_pairs(Y, P))
    assert found["brier"] == pytest.approx(np.mean((Y - P) ** 2))
    assert found["log_loss"] == pytest.approx(-np.mean(np.where(Y == 1, np.log(P), np.log(1 - P))))
    assert found["accuracy"] == pytest.approx(5 / 8)
    assert found["f1"] == pytest.approx(2 * 2 / (3 + 4))


def test_log_loss_of_a_certain_mistake_is_finite():
    assert metrics.log_loss([1.0], [0.0]) == pytest.approx(-math.log(1e-15))
    assert metrics.log_loss([0.0], [1.0]) == pytest.approx(-math.log(1e-15), rel=0.01)


def test_regression_metrics_by_hand():
    found = metrics.evaluate("regression", [1.0, 2.0, 6.0], [2.0, 2.0, 4.0])
    assert found["squared_error"] == pytest.approx(5 / 3)
    assert found["rmse"] == pytest.approx(math.sqrt(5 / 3))
    assert found["mae"] == pytest.approx(1.0)
    assert found["r2"] == pytest.approx(1 - 5 / 14)


def test_ece_is_small_when_calibrated_and_large_when_not():
    rng = np.random.default_rng(1)
    p = rng.random(20_000)
    y = (rng.random(20_000) < p).astype(float)
    assert metrics.ece(y, p) < 0.015
    assert metrics.ece(y, np.clip(p + 0.2, 0, 1)) > 0.1


def test_ece_does_not_sort_ties_by_outcome():
    y = np.repeat([0.0, 1.0], 500)
    assert metrics.ece(y, np.full(1000, 0.5)) == pytest.approx(0.0, abs=1e-12)


def test_unknown_names_are_refused_with_a_hint():
    with pytest.raises(UnknownName, match="squared_error"):
        metrics.losses("hinge", Y, P)
    with pytest.raises(UnknownName, match="regression"):
        metrics.evaluate("ranking", Y, P)
    with pytest.raises(InputError, match="no rows"):
        metrics.evaluate("binary", [], [])
    with pytest.raises(InputError, match="equal length"):
        metrics.log_loss([1.0], [0.5, 0.5])


def test_histograms_give_nearly_the_same_as_rows_and_add_up():
    rng = np.random.default_rng(2)
    p = rng.beta(2, 5, 8000)
    y = (rng.random(8000) < p).astype(float)
    place = metrics.score_bins(p, 100)
    pos, neg = (np.bincount(place[y == label], minlength=100) for label in (1, 0))
    found = metrics.evaluate_histograms(pos, neg)
    exact = metrics.evaluate("binary", y, p)
    assert found["roc_auc"] == pytest.approx(exact["roc_auc"], abs=2e-3)
    assert found["accuracy"] == pytest.approx(exact["accuracy"], abs=1e-12)
    assert found["f1"] == pytest.approx(exact["f1"], abs=1e-12)
    assert found["base_rate"] == pytest.approx(y.mean())
    twice = metrics.evaluate_histograms(2 * pos, 2 * neg)
    assert twice == pytest.approx(found)


def test_block_bootstrap_is_seeded_and_wider_than_the_row_bootstrap_when_days_depend():
    rng = np.random.default_rng(3)
    days = rng.normal(0, 1, 40)
    sums = np.array([[100 * day + rng.normal(0, 10), 100] for day in days])
    one, two = (metrics.block_bootstrap(sums, seed=7) for _ in range(2))
    assert one == two != metrics.block_bootstrap(sums, seed=8)
    assert one.low < one.estimate < one.high
    assert one.high - one.low > 4 * 1.0 / math.sqrt(4000), "an interval over rows would be this narrow"


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_block_bootstrap_of_equal_blocks_is_a_point(seed):
    found = metrics.block_bootstrap([[2.0, 4.0]] * 5, seed=seed)
    assert found == metrics.Interval(0.5, 0.5, 0.5)


def test_block_bootstrap_needs_two_blocks():
    with pytest.raises(InputError, match="two blocks"):
        metrics.block_bootstrap([[1.0, 2.0]], seed=1)
