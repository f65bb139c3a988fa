"""Tests by betting: error rates under daily looking, by seeded simulation; and the bound, which must not matter."""

from __future__ import annotations

import math
from itertools import product

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import InputError
from trimtab.stats.betting import REPORTED_MOST, BettingState, e_value, start, update, winsor_bound

RUNS, DAYS = 1000, 60


def after(gains, bound=1.0, *, reach=1.0):
    state = start(bound, reach=reach)
    for gain in gains:
        state = update(state, gain)
    return state


def highest(gains, bound, *, reach=1.0):
    """The most that the evidence ever was, looking after every value."""
    state, most = start(bound, reach=reach), 1.0
    for gain in gains:
        state = update(state, gain)
        most = max(most, e_value(state))
    return most


def null_gains(kind, rng):
    shape = (RUNS, DAYS)
    match kind:
        case "normal":
            return rng.normal(0, 1, shape)
        case "heavy":
            return rng.standard_t(2, shape)
        case "alternating spread":
            return rng.normal(0, 1, shape) * np.where(np.arange(DAYS) % 7 < 5, 0.2, 3)
        case "coin":
            return rng.choice([-1.0, 1.0], shape)
        case "volatility that follows the past":
            gains = rng.normal(0, 1, shape)
            gains[:, 1:] *= np.where(gains[:, :-1] > 0, 2, 0.5)
            return gains


@pytest.mark.parametrize("kind", ["normal", "heavy", "alternating spread", "coin", "volatility that follows the past"])
def test_betting_keeps_its_false_alarm_rate_under_peeking(kind):
    most = np.array([highest(gains, 2.0) for gains in null_gains(kind, np.random.default_rng(1)).tolist()])
    for alpha in (0.1, 0.01):
        assert (most >= 1 / alpha).mean() <= alpha


@settings(deadline=None)
@given(st.floats(-0.99, 0.99).filter(bool))
def test_one_step_of_betting_is_a_fair_game(x):
    # E-value property with two outcomes of mean zero: x with probability |y| / (|x| + |y|), and y = -1 or 1.
    y = -1.0 if x > 0 else 1.0
    p = abs(y) / (abs(x) + abs(y))
    assert p * e_value(after([x])) + (1 - p) * e_value(after([y])) == pytest.approx(1.0)


def test_wealth_is_a_fair_game_whatever_the_bound():
    """The mean over all sign patterns of a fair coin is exactly 1: what makes an e-value an e-value."""
    patterns = [after([sign * 0.5 for sign in signs], 0.5) for signs in product((-1.0, 1.0), repeat=8)]
    assert np.mean([e_value(state) for state in patterns]) == pytest.approx(1.0)


def test_no_single_value_decides():
    state = start(0.05)
    assert e_value(update(state, 1e9)) < 2
    assert e_value(update(state, -1e9)) > 0


def test_a_longer_reach_counts_large_values_for_more():
    assert e_value(after([5.0], reach=2.0)) > e_value(after([5.0])) == e_value(after([1.0]))
    assert e_value(after([-5.0], reach=2.0)) == e_value(after([-1.0]))


def test_evidence_stays_a_number_that_can_be_reported():
    assert e_value(after([1.0] * 3000)) == REPORTED_MOST
    assert e_value(after([-1.0] * 3000)) >= 0


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), max_size=20), st.floats(1e-3, 1e3), st.floats(0.5, 5))
def test_a_test_in_progress_survives_json(gains, bound, reach):
    state = after(gains, bound, reach=reach)
    assert msgspec.json.decode(msgspec.json.encode(state), type=BettingState) == state
    assert state.count == len(gains)


@pytest.mark.parametrize("bound", [0.0, -1.0, float("nan"), float("inf")])
def test_a_bound_must_be_positive(bound):
    with pytest.raises(InputError, match="winsor bound"):
        start(bound)


def test_a_missing_value_is_refused():
    with pytest.raises(InputError, match="missing"):
        update(start(1.0), math.nan)


def test_winsor_bound_follows_the_spread_and_not_the_size():
    rng = np.random.default_rng(4)
    gains = rng.normal(0, 0.01, 500)
    # Twice the median absolute deviation of a normal distribution is 1.35 standard deviations.
    assert winsor_bound(gains.tolist(), level=0.46) == pytest.approx(0.0135, rel=0.1)
    assert winsor_bound((gains + 0.3).tolist(), level=0.46) == pytest.approx(winsor_bound(gains.tolist(), level=0.46))


@pytest.mark.parametrize(
    ("gains", "level", "bound"),
    [
        ([0.01] * 7, 0.5, 0.005),
        ([0.01] * 7, -0.5, 0.005),
        ([0.1, 0.2, 0.3], 0.5, 0.025),
        ([0.1, 0.2, 0.3, math.nan, math.inf], 0.5, 0.025),
        ([], 0.0, 0.05),
        ([], math.nan, 0.05),
        ([0.0, 0.1, 0.2, 0.3], 0.5, 0.2),
    ],
)
def test_winsor_bound_is_never_nothing(gains, level, bound):
    assert winsor_bound(gains, level=level) == pytest.approx(bound)
