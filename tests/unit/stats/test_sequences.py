import math

import numpy as np
import pytest

from trimtab.errors import InputError
from trimtab.gates.abtest import ArmRows, read_out
from trimtab.stats.sequences import half_width, mean_evidence, mean_of_units

ALPHA = 0.05


def test_looking_all_the_time_costs_nothing():
    """400 tests of equal arms, each read 60 times: how many ever say that they differ?"""
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(400):
        values = rng.normal(size=3000).cumsum()
        wrong += any(
            abs(values[n - 1] / n) > half_width(n, 1.0, alpha=ALPHA, tightest=1000) for n in range(50, 3001, 50)
        )
    assert wrong / 400 <= ALPHA


def test_evidence_and_interval_say_the_same():
    for mean in np.linspace(0.01, 0.3, 30):
        width = half_width(800, 1.5, alpha=ALPHA, tightest=500)
        evidence = mean_evidence(800, mean, 1.5, alpha=ALPHA, tightest=500)
        assert (mean > width) == (evidence > 1 / ALPHA)


def test_rows_of_one_unit_are_not_independent():
    """Twenty rows of each user: the interval must be that of the users, not of the rows."""
    rng = np.random.default_rng(1)
    users = rng.normal(size=300)
    clustered = mean_of_units(users * 20, np.full(300, 20))
    assert clustered.rows == 6000
    assert clustered.variance == pytest.approx(users.var(ddof=1))


def test_nothing_is_known_of_nothing():
    assert math.isnan(mean_of_units([], []).mean)
    assert mean_of_units([3.0], [3]).mean == 1.0
    assert half_width(1, 1.0, alpha=ALPHA, tightest=10) == math.inf
    assert mean_evidence(5, 0.0, 0.0, alpha=ALPHA, tightest=10) == 1.0
    with pytest.raises(InputError):
        half_width(10, 1.0, alpha=2.0, tightest=10)


def arm(rng, rate, units, *, first=0):
    return ArmRows([f"u{first + n}" for n in range(units)], (rng.random(units) < rate).astype(float))


def test_a_readout_finds_a_difference_and_not_one_that_is_not_there():
    rng = np.random.default_rng(2)
    arms = {"a": arm(rng, 0.10, 4000), "b": arm(rng, 0.10, 4000), "c": arm(rng, 0.16, 4000)}
    found = read_out(arms, dict.fromkeys(arms, 1 / 3))
    assert [one.verdict for one in found.differences] == ["open", "higher"]
    assert found.split_kept
    (b, c) = found.differences
    assert b.low < 0 < b.high
    assert c.evidence > 40
    assert found.arms[2].low < 0.16 < found.arms[2].high


def test_a_broken_split_is_told():
    rng = np.random.default_rng(3)
    found = read_out({"a": arm(rng, 0.1, 4000), "b": arm(rng, 0.1, 3500)}, {"a": 0.5, "b": 0.5})
    assert not found.split_kept


def test_a_heavy_user_is_one_unit_of_the_split():
    rows = ArmRows(["one"] * 5000, np.zeros(5000))
    found = read_out({"a": rows, "b": ArmRows(["two"], np.zeros(1))}, {"a": 0.5, "b": 0.5})
    assert found.split_kept
    assert found.arms[0].units == 1


def test_before_any_label_everything_is_open():
    none = ArmRows(["u1", "u2"], np.full(2, np.nan), errors=1)
    found = read_out({"a": none}, {"a": 0.5, "b": 0.5})
    assert (found.arms[0].mean, found.arms[0].errors, found.arms[1].requests) == (None, 1, 0)
    assert found.differences[0].verdict == "open"
    with pytest.raises(InputError, match="two arms"):
        read_out({}, {"a": 1.0})
