"""Error rates of the anytime-valid tests, by seeded simulation: every test is looked at after every step."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import InputError
from trimtab.stats.sequential import (
    BettingTest,
    ShareTest,
    Wealth,
    excess_bound,
    rate_interval,
    share_e_value,
    split_e_value,
    weekly_limit,
    winsor_bound,
)

RUNS = 4000


def null_gains(kind, rng):
    shape = (RUNS, 60)
    match kind:
        case "normal":
            return rng.normal(0, 1, shape)
        case "heavy":
            return rng.standard_t(2, shape)
        case "alternating spread":
            return rng.normal(0, 1, shape) * np.where(np.arange(60) % 7 < 5, 0.2, 3)
        case "coin":
            return rng.choice([-1.0, 1.0], shape)
        case "volatility that follows the past":
            gains = rng.normal(0, 1, shape)
            gains[:, 1:] *= np.where(gains[:, :-1] > 0, 2, 0.5)
            return gains


@pytest.mark.parametrize("alpha", [0.1, 0.01])
@pytest.mark.parametrize(
    "kind", ["normal", "heavy", "alternating spread", "coin", "volatility that follows the past"]
)
def test_betting_keeps_its_false_alarm_rate_under_peeking(kind, alpha):
    path = BettingTest(bound=2.0).path(null_gains(kind, np.random.default_rng(1)))
    alarms = (path >= 1 / alpha).any(axis=1).mean()
    assert alarms <= alpha


def test_betting_almost_never_accepts_a_worse_challenger():
    gains = np.random.default_rng(2).normal(-0.3, 1, (RUNS, 28))
    assert (BettingTest(bound=2.0).path(gains) >= 10).any(axis=1).mean() < 0.003


@pytest.mark.parametrize(("mean", "least"), [(0.5, 0.65), (0.8, 0.95), (1.2, 0.99)])
def test_betting_finds_a_better_challenger_within_four_weeks(mean, least):
    gains = np.random.default_rng(3).normal(mean, 1, (RUNS, 28))
    assert (BettingTest(bound=2.0).path(gains) >= 10).any(axis=1).mean() > least


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(1e-3, 1e3), st.floats(-10, 10))
def test_betting_step_by_step_equals_its_path_and_survives_json(gains, bound, null):
    test = BettingTest(bound, null)
    state = test.start()
    for gain, expected in zip(gains, test.path(gains), strict=True):
        state = msgspec.json.decode(msgspec.json.encode(test.update(state, gain)), type=Wealth)
        assert test.e_value(state) == pytest.approx(expected, rel=1e-9)
    assert state.observations == len(gains)


@given(st.floats(-0.99, 0.99))
def test_one_step_of_betting_is_a_fair_game(x):
    # E-value property with two outcomes of mean zero: x with probability |y| / (|x| + |y|), and y = -1 or 1.
    test = BettingTest(1.0)
    y = -1.0 if x > 0 else 1.0
    if x == 0:
        return
    p = abs(y) / (abs(x) + abs(y))
    value = p * test.path([x])[0] + (1 - p) * test.path([y])[0]
    assert value == pytest.approx(1.0)


def test_betting_refuses_what_is_no_bound_and_no_gain():
    with pytest.raises(InputError, match="positive"):
        BettingTest(0.0)
    with pytest.raises(InputError, match="missing"):
        BettingTest(1.0).update(BettingTest(1.0).start(), math.nan)


def test_winsor_bound():
    rng = np.random.default_rng(4)
    assert winsor_bound(rng.normal(0, 0.01, 500).tolist()) == pytest.approx(0.02, rel=0.1)
    assert winsor_bound([0.0, 0.0]) > 0
    with pytest.raises(InputError, match="no daily gains"):
        winsor_bound([math.nan])


def canary_ticks(canary_rate, champion_rate, runs, ticks, seed):
    rng = np.random.default_rng(seed)
    return rng.binomial(100, canary_rate, (runs, ticks)), rng.binomial(1900, champion_rate, (runs, ticks))


def test_share_test_keeps_its_false_alarm_rate_when_looked_at_each_tick():
    path = ShareTest().path(*canary_ticks(0.02, 0.02, RUNS, 150, 5), 0.05)
    alarms = (path >= 20).any(axis=1).mean()
    assert alarms <= 0.05
    assert alarms < 0.03, "measured .016 for the exact e-process"


def test_share_test_holds_while_the_common_rate_moves():
    rng = np.random.default_rng(6)
    rate = 0.02 + 0.15 * (np.arange(150) % 24 == 3)
    path = ShareTest().path(rng.binomial(100, rate, (RUNS, 150)), rng.binomial(1900, rate, (RUNS, 150)), 0.05)
    assert (path >= 20).any(axis=1).mean() <= 0.05


def test_share_test_finds_twice_the_errors_within_six_ticks():
    path = ShareTest().path(*canary_ticks(0.04, 0.02, 2000, 60, 7), 0.05)
    first = np.where((path >= 20).any(axis=1), (path >= 20).argmax(axis=1) + 1, 61)
    assert np.median(first) <= 9
    assert (first <= 60).mean() > 0.99
    path = ShareTest().path(*canary_ticks(0.2, 0.02, 500, 5, 8), 0.05)
    assert (path[:, 0] >= 60).mean() > 0.95, "ten times the errors are found at the first tick"


def test_share_test_never_blames_a_better_canary():
    path = ShareTest().path(*canary_ticks(0.01, 0.02, 1000, 100, 9), 0.05)
    assert (path >= 20).any(axis=1).mean() < 0.005


def test_share_test_step_by_step_equals_cumulative_counts():
    test = ShareTest(tolerated=1.5)
    state = test.start()
    for canary, champion in [(1, 4), (0, 2), (3, 3)]:
        state = test.update(state, canary=canary, champion=champion, share=0.2)
    assert test.e_value(state) == pytest.approx(share_e_value(4, 9, 0.2, tolerated=1.5))
    assert test.e_value(state) == pytest.approx(test.path([1, 0, 3], [4, 2, 3], 0.2)[-1])
    assert state.observations == 13


def test_share_test_tolerates_what_it_is_told_to():
    path = ShareTest(tolerated=1.5).path(*canary_ticks(0.03, 0.02, 2000, 100, 10), 0.05)
    assert (path >= 20).any(axis=1).mean() <= 0.05


def test_share_test_refuses_nonsense():
    with pytest.raises(InputError, match="share"):
        share_e_value(1, 1, 1.0)
    with pytest.raises(InputError, match="below zero"):
        share_e_value(-1, 1, 0.5)


def whole_rule(canary_rate, runs, seed):
    """Roll back at e > 3 / .05, promote when the excess is surely below one point; returns outcome and tick."""
    bad, others = canary_ticks(canary_rate, 0.02, runs, 80, seed)
    e_values = ShareTest().path(bad, others, 0.05)
    outcomes = []
    for run in range(runs):
        canary, champion = bad[run].cumsum(), others[run].cumsum()
        for tick in range(80):
            n = 100 * (tick + 1)
            if e_values[run, tick] > 60:
                outcomes.append(("rolled back", tick + 1))
                break
            if n >= 500 and excess_bound((canary[tick], n), (champion[tick], 19 * n)) < 0.01:
                outcomes.append(("promoted", tick + 1))
                break
        else:
            outcomes.append(("open", 80))
    return outcomes


@pytest.mark.parametrize(
    ("rate", "outcome", "least", "ticks"),
    [(0.02, "promoted", 0.9, 45), (0.04, "rolled back", 0.97, 25), (0.08, "rolled back", 1.0, 5)],
)
def test_the_whole_canary_rule(rate, outcome, least, ticks):
    outcomes = whole_rule(rate, 100, 11)
    assert np.mean([found == outcome for found, _ in outcomes]) >= least
    assert np.median([tick for _, tick in outcomes]) <= ticks


def test_rate_interval_covers_at_all_times():
    rng = np.random.default_rng(12)
    missed = 0
    for _ in range(150):
        bad = rng.binomial(50, 0.02, 40).cumsum()
        sides = [rate_interval(int(bad[step]), 50 * (step + 1), alpha=0.1) for step in range(0, 40, 2)]
        missed += any(not low <= 0.02 <= high for low, high in sides)
    assert missed / 150 <= 0.1


def test_rate_interval_at_the_ends():
    assert rate_interval(0, 0, alpha=0.05) == (0.0, 1.0)
    assert rate_interval(0, 500, alpha=0.05)[0] == 0.0
    assert rate_interval(500, 500, alpha=0.05)[1] == 1.0
    low, high = rate_interval(10, 500, alpha=0.05)
    assert 0 < low < 0.02 < high < 1
    with pytest.raises(InputError, match="alpha"):
        rate_interval(1, 2, alpha=0.0)


def test_excess_bound_shrinks_with_traffic_and_grows_with_errors():
    assert excess_bound((0, 500), (0, 4500)) < 0.01
    assert excess_bound((0, 5000), (0, 45_000)) < 0.002
    assert excess_bound((30, 500), (90, 4500)) > 0.04


def test_split_check_keeps_its_rate_and_finds_a_broken_split():
    rng = np.random.default_rng(13)

    def ever(share, runs):
        canary = rng.binomial(200, share, (runs, 60)).cumsum(axis=1)
        return np.mean(
            [
                any(split_e_value(int(k), 200 * (step + 1) - int(k), 0.1) >= 100 for step, k in enumerate(run))
                for run in canary
            ]
        )

    assert ever(0.1, 200) <= 0.01 + 0.01
    assert ever(0.13, 50) > 0.95
    assert ever(0.07, 50) > 0.95


def test_weekly_limit_alarms_as_often_as_it_says():
    rng = np.random.default_rng(14)
    for weeks, alpha, level_weeks in [(8, 0.05, 1.0), (4, 0.01, 1.0), (20, 0.05, 3.0)]:
        alarms = []
        for _ in range(4000):
            level = rng.normal(0.48, 0.02 / math.sqrt(level_weeks))
            limit = weekly_limit(rng.normal(0.44, 0.02, weeks), level, alpha=alpha, level_weeks=level_weeks)
            alarms.append(rng.normal(0.48, 0.02) > limit)
        assert np.mean(alarms) == pytest.approx(alpha, abs=3.5 * math.sqrt(alpha / 4000))


def test_weekly_limit_needs_weeks():
    with pytest.raises(InputError, match="two reference weeks"):
        weekly_limit([0.4], 0.4)
    with pytest.raises(InputError, match="level"):
        weekly_limit([0.4, 0.5], math.nan)
    with pytest.raises(InputError, match="some weeks"):
        weekly_limit([0.4, 0.5], 0.4, level_weeks=0)
