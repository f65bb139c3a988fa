"""A test between equal arms, read every day: how often is a difference told? At any share, at most as often as promised.

Figures are printed: ``pytest tests/unit/gates/test_abtest_errors.py -s``; ``SOAK=1`` for longer runs.
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.soak import long

from trimtab.gates.abtest import ALPHA, FEWEST, TIGHTEST, ArmRows, read_out
from trimtab.stats.rates import Counts, rates_evidence, rates_interval
from trimtab.stats.sequences import mean_evidence

TERMS = {"alpha": ALPHA, "tightest": TIGHTEST}
SHARES, RATES = (0.5, 0.1, 0.05, 0.02), (0.05, 0.3)
DAY = 200
"""Units a day."""
NEVER = 10**9


def evidence(counts, share):
    return rates_evidence(counts, 0.0, share=share, **TERMS)


def asymptotic(counts, share):
    """What was told before: the variance of each arm as it stands, and no fewest units."""
    ones, units, other_ones, other_units = counts
    if min(units, other_units) < 2:
        return 0.0
    p, q = ones / units, other_ones / other_units
    total = units + other_units
    variance = total * (p * (1 - p) / (units - 1) + q * (1 - q) / (other_units - 1))
    return math.log(max(mean_evidence(total, q - p, variance, **TERMS), 1e-300))


def told_at(rng, share, rates, days, how):
    """The unit at which a difference is told, by each way, of one test that is read at the end of each day."""
    n = days * DAY
    second = rng.random(n) < share
    ones = rng.random(n) < np.where(second, rates[1], rates[0])
    units, all_ones, other = second.cumsum(), ones.cumsum(), (ones & second).cumsum()
    found = [NEVER] * len(how)
    for at in range(DAY, n + 1, DAY):
        b, of_b = int(units[at - 1]), int(other[at - 1])
        counts = Counts(int(all_ones[at - 1]) - of_b, at - b, of_b, b)
        for place, way in enumerate(how):
            if found[place] == NEVER and way(counts, share) >= -math.log(ALPHA):
                found[place] = at
        if NEVER not in found:
            break
    return found


def false_rate(share, rate, *, tests, days, seed=1):
    rng = np.random.default_rng(seed)
    rows = [told_at(rng, share, (rate, rate), days, (evidence, asymptotic)) for _ in range(tests)]
    found, before = (sum(at < NEVER for at in way) / tests for way in zip(*rows, strict=True))
    print(f"equal arms, share {share}, rate {rate}: told apart in {found:.1%}, by the asymptotic rule in {before:.1%}")
    return found


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("share", SHARES)
def test_equal_rates_are_told_apart_no_more_often_than_promised(share, rate):
    assert false_rate(share, rate, tests=60, days=12) <= ALPHA


@long
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("share", [*SHARES, 0.01])
def test_equal_rates_are_told_apart_no_more_often_than_promised_in_the_long_run(share, rate):
    assert false_rate(share, rate, tests=400, days=50) <= ALPHA


def power(share, rates, *, tests, days, seed=2):
    rng = np.random.default_rng(seed)
    rows = [told_at(rng, share, rates, days, (evidence, asymptotic)) for _ in range(tests)]
    found, before = (np.array(way) for way in zip(*rows, strict=True))
    now, then = float(np.median(found)), float(np.median(before))
    print(f"{rates[0]} against {rates[1]}, share {share}: half are told by {now:.0f} units, asymptotically {then:.0f}")
    return now, then, (found < NEVER).mean(), (before < NEVER).mean()


def test_a_true_difference_between_equal_shares_is_told_about_as_soon_as_before():
    now, before, told, told_before = power(0.5, (0.10, 0.14), tests=40, days=25)
    assert now <= 1.15 * before < NEVER
    assert told >= 0.95 * told_before


@long
@pytest.mark.parametrize("rates", [(0.05, 0.07), (0.1, 0.14), (0.3, 0.36), (0.5, 0.56), (0.95, 0.93)])
def test_true_differences_of_all_sizes_are_told_about_as_soon_as_before(rates):
    now, before, told, told_before = power(0.5, rates, tests=200, days=60)
    assert now <= 1.15 * before < NEVER
    assert told >= 0.95 * told_before


def test_rates_that_move_with_the_days_are_no_difference():
    """Both arms sell more at weekends; the shares are kept, so the arms are equal each day."""
    rng = np.random.default_rng(4)
    wrong = 0
    for _ in range(40):
        rates = np.repeat(np.where(np.arange(15) % 7 < 5, 0.05, 0.3), DAY)
        second = rng.random(len(rates)) < 0.1
        ones = rng.random(len(rates)) < rates
        for at in range(DAY, len(rates) + 1, DAY):
            b, y = second[:at], ones[:at]
            counts = Counts(int((y & ~b).sum()), int((~b).sum()), int((y & b).sum()), int(b.sum()))
            if evidence(counts, 0.1) >= -math.log(ALPHA):
                wrong += 1
                break
    assert wrong / 40 <= ALPHA


@given(
    units=st.integers(1, 3000), other=st.integers(1, 3000), one=st.floats(0, 1), two=st.floats(0, 1),
    share=st.sampled_from(SHARES),
)  # fmt: skip
def test_interval_and_evidence_of_rates_say_the_same(units, other, one, two, share):
    counts = Counts(round(units * one), units, round(other * two), other)
    low, high = rates_interval(counts, share=share, **TERMS)
    seen = counts.other_ones / other - counts.ones / units
    assert -1 <= low <= seen <= high <= 1
    assert (evidence(counts, share) >= -math.log(ALPHA)) == (low > 0 or high < 0)


def test_an_arm_counts_alike_whichever_comes_first_and_whatever_is_called_one():
    one = rates_interval(Counts(100, 900, 30, 110), share=0.1, **TERMS)
    turned = rates_interval(Counts(30, 110, 100, 900), share=0.9, **TERMS)
    zeros = rates_interval(Counts(800, 900, 80, 110), share=0.1, **TERMS)
    assert one == pytest.approx((-turned[1], -turned[0]), abs=1e-3)
    assert one == pytest.approx((-zeros[1], -zeros[0]), abs=1e-3)


@pytest.mark.parametrize(("others", "few", "share"), [((396, 3), np.ones(2), 0.01), ((364, 17), np.zeros(36), 0.1)])
def test_few_units_that_are_alike_say_nothing(others, few, share):
    total, every = others
    arms = {
        "a": ArmRows([f"a{n}" for n in range(total)], (np.arange(total) % every == 0).astype(float)),
        "b": ArmRows([f"b{n}" for n in range(len(few))], few),
    }
    found = read_out(arms, {"a": 1 - share, "b": share}).differences[0]
    assert found.verdict == "open"
    assert found.low < 0 < found.high
    assert found.evidence < 1 / ALPHA


def test_a_mean_waits_for_units_of_each_arm_and_says_so():
    rng = np.random.default_rng(6)

    def arm(name, units, values):
        return ArmRows([f"{name}{n}" for n in range(units)], values)

    big = arm("a", 4000, rng.normal(size=4000))
    few = read_out({"a": big, "b": arm("b", FEWEST - 1, np.full(FEWEST - 1, 5.0))}, {"a": 0.98, "b": 0.02})
    assert (few.differences[0].verdict, few.differences[0].waits) == ("open", "few units")
    assert (few.differences[0].low, few.arms[1].low, few.differences[0].evidence) == (None, None, 1.0)
    enough = read_out({"a": big, "b": arm("b", 80, rng.normal(5.0, size=80))}, {"a": 0.98, "b": 0.02})
    assert (enough.differences[0].verdict, enough.differences[0].waits) == ("higher", "")
    money = arm("a", 4000, (rng.random(4000) < 0.02) * rng.lognormal(3, 1, 4000))
    none = read_out({"a": money, "b": arm("b", 80, np.zeros(80))}, {"a": 0.98, "b": 0.02})
    assert (none.differences[0].verdict, none.differences[0].waits) == ("open", "skewed")


def test_equal_values_in_a_small_arm_have_the_spread_of_all():
    """Sixty units of one value in the small arm: their own variance would be 0."""
    rng = np.random.default_rng(7)
    a = ArmRows([f"a{n}" for n in range(3000)], rng.choice([0.0, 1.0, 2.0], 3000))
    found = read_out({"a": a, "b": ArmRows([f"b{n}" for n in range(60)], np.full(60, 1.0))}, {"a": 0.98, "b": 0.02})
    assert found.differences[0].waits == ""
    assert found.arms[1].high - found.arms[1].low > 0.5


def values_of(kind, rng, units):
    """Of each unit the rate of its rows, or its value: users who ask several times, and money."""
    if kind == "users":
        return rng.beta(0.9, 2.1, units)
    if kind == "rare users":
        return rng.beta(0.05 * 3, 0.95 * 3, units)
    return rng.exponential(size=units) if kind == "money" else (rng.random(units) < 0.1) * rng.lognormal(0, 0.7, units)


def false_mean(kind, share, *, tests, rows, reads, seed=3):
    rng = np.random.default_rng(seed)
    wrong = spoken = 0
    for _ in range(tests):
        users = rows // 5 if "users" in kind else rows
        own = values_of(kind, rng, users)
        second = rng.random(users) < share
        who = rng.integers(users, size=rows) if "users" in kind else np.arange(rows)
        values = (rng.random(rows) < own[who]).astype(float) if "users" in kind else own
        for at in np.linspace(0, rows, reads + 1).astype(int)[1:]:
            b = second[who[:at]]
            arms = {
                "a": ArmRows(who[:at][~b].astype(str), values[:at][~b]),
                "b": ArmRows(who[:at][b].astype(str), values[:at][b]),
            }
            last = read_out(arms, {"a": 1 - share, "b": share}).differences[0]
            if last.verdict != "open":
                wrong += 1
                break
        spoken += not last.waits
    print(
        f"equal arms, {kind}, share {share}: told apart in {wrong / tests:.1%} ({spoken / tests:.0%} had enough units)"
    )
    return wrong / tests, spoken / tests


@pytest.mark.parametrize(
    ("kind", "share", "rows"),
    [("users", 0.1, 4000), ("users", 0.05, 8000), ("money", 0.1, 2500), ("money", 0.05, 4000)],
)
def test_equal_means_are_told_apart_no_more_often_than_promised(kind, share, rows):
    wrong, spoken = false_mean(kind, share, tests=40, rows=rows, reads=8)
    assert wrong <= ALPHA
    assert spoken > 0.8


@long
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("kind", ["rare users", "users", "money", "rare money"])
def test_equal_means_are_told_apart_no_more_often_than_promised_in_the_long_run(kind, share):
    wrong, spoken = false_mean(kind, share, tests=100, rows=round(3000 / share), reads=15)
    assert wrong <= ALPHA
    assert spoken > 0.8
