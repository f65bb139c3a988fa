"""Drift distances against values that scipy, Evidently, NannyML and deepchecks computed (``drift.json``).

Claimed, to 1e-9 unless said otherwise:

- scipy: the exact two-sample KS statistic; its asymptotic p-value; chi-squared of a contingency table, statistic and
  p-value; Jensen-Shannon base 2 (distance and its square); KL(reference || current) in nats; PSI where no count is 0;
  total variation.
- Evidently, deepchecks: PSI of ``cat_basic``, Hellinger and KL of the same. NannyML: Jensen-Shannon and Hellinger of
  categories, KS of numbers.

Not claimed, and why:

- PSI, KL and JSD of *numbers* by Evidently and NannyML: they use equal-width bins, which one outlier collapses (the test
  below shows it on their own numbers). Ours are quantiles of the reference.
- PSI and KL with an empty category: libraries put different small numbers for zero (Evidently 1.38, deepchecks 0.41);
  ours is half an observation. KS p-values with ``auto`` (exact for small samples), Wasserstein, Anderson-Darling,
  Mann-Whitney, Cramer's V: not offered.
- Evidently's chi-squared p-value: a one-sample test that takes the reference for the truth.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from trimtab.stats.bins import fit_bins
from trimtab.stats.distances import chi_squared, hellinger, jsd, kl, ks, psi, tvd

CASES = json.loads((Path(__file__).parent / "drift.json").read_text())["cases"]
NUMBERS = [name for name, case in CASES.items() if case["type"] == "num"]
CATEGORIES = [name for name, case in CASES.items() if case["type"] == "cat"]


def table(case):
    names = sorted(set(case["reference"]) | set(case["current"]))
    before, after = Counter(case["reference"]), Counter(case["current"])
    return [before[name] for name in names], [after[name] for name in names]


@pytest.mark.parametrize("name", NUMBERS)
def test_exact_ks_agrees_with_scipy_and_nannyml(name):
    case = CASES[name]
    found = ks(case["reference"], case["current"])
    assert found.statistic == pytest.approx(case["expected"]["scipy"]["ks_2samp.statistic"], abs=1e-12)
    assert found.statistic == pytest.approx(case["expected"]["nannyml"]["kolmogorov_smirnov"], abs=1e-12)
    assert found.p_value == pytest.approx(case["expected"]["scipy"]["ks_2samp.pvalue(asymp)"], abs=1e-9)


@pytest.mark.parametrize("name", CATEGORIES)
def test_category_distances_agree_with_scipy(name):
    before, after = table(CASES[name])
    expected = CASES[name]["expected"]["scipy"]
    found = chi_squared(before, after)
    assert [found.statistic, found.p_value] == pytest.approx(expected["chi2_contingency"], rel=1e-9)
    assert jsd(before, after) == pytest.approx(expected["jensenshannon(base=2) distance"], abs=1e-9)
    assert jsd(before, after) ** 2 == pytest.approx(expected["jensenshannon(base=2)^2 divergence"], abs=1e-9)
    assert tvd(before, after) == pytest.approx(expected["TVD = cityblock/2"], abs=1e-9)


@pytest.mark.parametrize("name", CATEGORIES)
def test_category_distances_agree_with_nannyml(name):
    before, after = table(CASES[name])
    expected = CASES[name]["expected"]["nannyml"]
    assert jsd(before, after) == pytest.approx(expected["jensen_shannon"], abs=1e-9)
    assert hellinger(before, after) == pytest.approx(expected["hellinger"], abs=1e-9)
    assert chi_squared(before, after).statistic == pytest.approx(expected["chi2"], abs=1e-9)


def test_psi_and_kl_without_empty_categories_agree_with_scipy_evidently_and_deepchecks():
    before, after = table(CASES["cat_basic"])
    expected = CASES["cat_basic"]["expected"]
    raw = psi(before, after, corrected=False)
    assert raw == pytest.approx(expected["scipy"]["PSI = entropy(p,q)+entropy(q,p)"], abs=1e-9)
    assert raw == pytest.approx(expected["evidently"]["psi"], abs=1e-9)
    assert raw == pytest.approx(expected["deepchecks"]["psi"], abs=1e-9)
    assert kl(before, after) == pytest.approx(expected["scipy"]["entropy(ref,cur) = KL(ref||cur) nats"], abs=1e-9)
    assert kl(after, before) == pytest.approx(expected["scipy"]["entropy(cur,ref) = KL(cur||ref) nats"], abs=1e-9)
    assert hellinger(before, after) == pytest.approx(expected["evidently"]["hellinger"], abs=1e-9)


def test_psi_correction_is_the_sampling_mean():
    before, after = table(CASES["cat_basic"])
    raw, corrected = psi(before, after, corrected=False), psi(before, after)
    assert raw - corrected == pytest.approx((3 - 1) * (1 / 100 + 1 / 60), abs=1e-12)


def test_categories_that_vanish_or_are_new_are_finite_and_seen():
    case = CASES["cat_new_and_missing"]
    bins = fit_bins(np.array(case["reference"]))
    before, after = bins.count(np.array(case["reference"])), bins.count(np.array(case["current"]))
    assert after[-2] == sum(value not in set(case["reference"]) for value in case["current"]) > 0
    assert 0.41 < psi(before, after, corrected=False) < 1.38


def test_one_outlier_does_not_collapse_quantile_bins():
    plain, outlier = CASES["num_60_vs_50"], CASES["num_60_vs_50_one_outlier"]
    reference = np.array(plain["reference"])
    bins = fit_bins(reference)
    before = bins.coarse(bins.count(reference))
    raw = [psi(before, bins.coarse(bins.count(np.array(c["current"]))), corrected=False) for c in (plain, outlier)]
    assert raw[1] == pytest.approx(raw[0], rel=0.15)
    theirs = [case["expected"]["evidently"]["psi"] for case in (plain, outlier)]
    assert theirs[1] < 0.3 * theirs[0], "the case no longer shows what it is here to show"


def test_one_outlier_in_twenty_thousand_rows_changes_nothing():
    rng = np.random.default_rng(0)
    reference, current = rng.normal(0, 1, 20_000), rng.normal(1, 1, 20_000)
    bins = fit_bins(reference)
    before, after = bins.coarse(bins.count(reference)), bins.coarse(bins.count(current))
    current[0] = 1e6
    wild = bins.coarse(bins.count(current))
    assert psi(before, after) == pytest.approx(0.99, abs=0.1)
    assert psi(before, wild) == pytest.approx(psi(before, after), rel=1e-3)
