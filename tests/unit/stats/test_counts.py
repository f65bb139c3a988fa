"""Error rates of the tests of counts, by seeded simulation: every test is looked at after every tick."""

import math

import numpy as np
import pytest

from trimtab.errors import InputError
from trimtab.stats.counts import excess_bound, rate_interval, share_e_value, split_e_value


def canary_ticks(canary_rate, champion_rate, runs, ticks, seed):
    rng = np.random.default_rng(seed)
    return rng.binomial(100, canary_rate, (runs, ticks)), rng.binomial(1900, champion_rate, (runs, ticks))


def evidence(canary, champion, share=0.05):
    """The e-value after every tick, shape (runs, ticks)."""
    pairs = zip(canary.cumsum(axis=1).tolist(), champion.cumsum(axis=1).tolist(), strict=True)
    return np.array([[share_e_value(on, off, share) for on, off in zip(*run, strict=True)] for run in pairs])


def test_share_test_keeps_its_false_alarm_rate_when_looked_at_each_tick():
    alarms = (evidence(*canary_ticks(0.02, 0.02, 500, 100, 5)) >= 20).any(axis=1).mean()
    assert alarms < 0.03, "measured .018 with 4000 runs of 150 ticks"


def test_share_test_holds_while_the_common_rate_moves():
    rng = np.random.default_rng(6)
    rate = 0.02 + 0.15 * (np.arange(100) % 24 == 3)
    path = evidence(rng.binomial(100, rate, (300, 100)), rng.binomial(1900, rate, (300, 100)))
    assert (path >= 20).any(axis=1).mean() <= 0.05


def test_share_test_finds_twice_the_errors_within_six_ticks():
    path = evidence(*canary_ticks(0.04, 0.02, 400, 60, 7))
    first = np.where((path >= 20).any(axis=1), (path >= 20).argmax(axis=1) + 1, 61)
    assert np.median(first) <= 9
    assert (first <= 60).mean() > 0.99
    path = evidence(*canary_ticks(0.2, 0.02, 500, 1, 8))
    assert (path[:, 0] >= 60).mean() > 0.95, "ten times the errors are found at the first tick"


def test_share_test_never_blames_a_better_canary():
    assert (evidence(*canary_ticks(0.01, 0.02, 300, 100, 9)) >= 20).any(axis=1).mean() < 0.005


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_share_evidence_is_a_fair_game(share):
    """Its mean over where ten events fall is 1 when they fall by share: what makes an e-value an e-value."""
    chances = [math.comb(10, canary) * share**canary * (1 - share) ** (10 - canary) for canary in range(11)]
    values = [share_e_value(canary, 10 - canary, share) for canary in range(11)]
    assert sum(p * value for p, value in zip(chances, values, strict=True)) == pytest.approx(1.0)


def test_share_evidence_starts_at_one_and_stays_a_number():
    assert share_e_value(0, 0, 0.1) == pytest.approx(1.0)
    assert math.isfinite(share_e_value(10**6, 0, 0.01))


def test_share_test_refuses_nonsense():
    with pytest.raises(InputError, match="share"):
        share_e_value(1, 1, 1.0)
    with pytest.raises(InputError, match="below zero"):
        share_e_value(-1, 1, 0.5)


def test_rate_interval_covers_at_all_times():
    rng = np.random.default_rng(12)
    missed = 0
    for _ in range(150):
        bad = rng.binomial(50, 0.02, 40).cumsum()
        sides = [rate_interval(int(bad[step]), 50 * (step + 1), alpha=0.1, typical=0.02) for step in range(0, 40, 2)]
        missed += any(not low <= 0.02 <= high for low, high in sides)
    assert missed / 150 <= 0.1


def test_rate_interval_at_the_ends():
    assert rate_interval(0, 0, alpha=0.05, typical=0.02) == (0.0, 1.0)
    assert rate_interval(0, 500, alpha=0.05, typical=0.02)[0] == 0.0
    assert rate_interval(500, 500, alpha=0.05, typical=0.02)[1] == 1.0
    low, high = rate_interval(10, 500, alpha=0.05, typical=0.02)
    assert 0 < low < 0.02 < high < 1
    with pytest.raises(InputError, match="alpha"):
        rate_interval(1, 2, alpha=0.0, typical=0.02)


def test_excess_bound_shrinks_with_traffic_and_grows_with_errors():
    def bound(canary, champion):
        return excess_bound(canary, champion, alpha=0.05, typical=0.02)

    assert bound((0, 500), (0, 4500)) < 0.01
    assert bound((0, 5000), (0, 45_000)) < 0.002
    assert bound((30, 500), (90, 4500)) > 0.04


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
