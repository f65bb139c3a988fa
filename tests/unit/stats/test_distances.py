import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.errors import InputError
from trimtab.stats import distances as d
from trimtab.stats.bins import fit_bins

COUNTS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=25)


@settings(deadline=None)
@given(COUNTS)
def test_distances_have_their_bounds_and_symmetries(pairs):
    one, two = [a for a, _ in pairs], [b for _, b in pairs]
    for distance in (d.jsd, d.tvd, d.hellinger, d.binned_ks):
        assert 0 <= distance(one, two) <= 1 + 1e-9
        assert distance(one, two) == pytest.approx(distance(two, one), abs=1e-9)
        assert distance(one, one) == pytest.approx(0.0, abs=1e-7)
    assert 0 <= d.psi(one, two) <= d.psi(one, two, corrected=False)
    assert d.psi(one, two) == pytest.approx(d.psi(two, one))
    assert d.binned_ks(one, two) <= d.tvd(one, two) + 1e-9
    assert 0 <= d.chi_squared(one, two).p_value <= 1


def test_counts_of_other_bins_are_refused():
    with pytest.raises(InputError, match="layouts"):
        d.psi([1, 2], [1, 2, 3])
    with pytest.raises(InputError, match="below zero"):
        d.tvd([1, -2], [1, 2])


@pytest.mark.parametrize("distance", [d.psi, d.kl, d.jsd, d.tvd, d.hellinger])
def test_an_empty_sample_shows_nothing(distance):
    assert distance([0, 0], [3, 4]) == 0.0


def test_mean_of_corrected_psi_without_drift_is_near_zero():
    rng = np.random.default_rng(11)
    reference = np.full(10, 2000)
    raw = [d.psi(reference, rng.multinomial(500, np.full(10, 0.1)), corrected=False) for _ in range(400)]
    assert np.mean(raw) == pytest.approx(9 * (1 / 20_000 + 1 / 500), rel=0.1)


@pytest.mark.parametrize(("true", "level"), [(0.15, 1), (0.25, 2)])
def test_true_psi_is_classed_rightly_at_a_thousand_rows(true, level):
    # One half of the bins gains what the other loses: PSI = e ln((1 + 2e) / (1 - 2e)) for shares (1 ± 2e) / 10.
    low, high = 0.0, 0.45
    for _ in range(60):
        e = (low + high) / 2
        low, high = (e, high) if e * np.log((1 + 2 * e) / (1 - 2 * e)) < true else (low, e)
    shares = np.where(np.arange(10) % 2, 1 + 2 * e, 1 - 2 * e) / 10
    rng = np.random.default_rng(12)
    found = [d.psi(np.full(10, 5000), rng.multinomial(1000, shares)) for _ in range(300)]
    assert np.mean([(psi > 0.1) + (psi > 0.2) == level for psi in found]) > 0.8
    assert np.mean(found) == pytest.approx(true, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-1, 1))
def test_binned_ks_never_exceeds_the_exact_one_and_is_near_it(seed, shift):
    rng = np.random.default_rng(seed)
    reference, current = rng.normal(size=4000), rng.normal(shift, 1, 2000)
    bins = fit_bins(reference)
    binned = d.binned_ks(bins.count(reference)[:20], bins.count(current)[:20])
    exact = d.ks(reference, current).statistic
    assert exact - 0.05 <= binned <= exact + 1e-9


def test_ks_leaves_missing_values_out():
    assert d.ks([1.0, 2.0, np.nan], [1.0, 2.0]).statistic == 0.0
    assert d.ks([np.nan], [1.0]) == (0.0, 1.0, 0)


def test_chi_squared_p_values_are_uniform_without_drift():
    rng = np.random.default_rng(13)
    reference = rng.multinomial(20_000, np.full(20, 0.05))
    p = [d.chi_squared(reference, rng.multinomial(1000, np.full(20, 0.05))).p_value for _ in range(600)]
    # The reference is fixed, so only near-uniform; a wrong number of degrees of freedom is far off.
    assert np.mean(np.array(p) < 0.05) < 0.09
    assert 0.4 < np.mean(p) < 0.6
