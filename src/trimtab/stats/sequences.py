"""Confidence sequences for means: intervals that may be read after every unit, and hold at all times at once.

Asymptotic ones: they need a few hundred units, and then nothing about shape or bounds. Waudby-Smith, Arbour, Sinha,
Kennedy and Ramdas (2024), Time-uniform central limit theory and asymptotic confidence sequences, Annals of Statistics
52(6), theorem 2.2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from trimtab.errors import InputError


class Mean(NamedTuple):
    """A mean over units that may each have several rows."""

    units: int
    rows: int
    mean: float
    """Per row; NaN without rows."""
    variance: float
    """Of the contribution of one unit: the variance of the mean is this divided by ``units``."""


def mean_of_units(totals: ArrayLike, rows: ArrayLike) -> Mean:
    """The mean per row, with the variance that rows of one unit are not independent.

    Parameters
    ----------
    totals, rows
        Per unit, the sum of its rows and their number; units without rows are left out.

    References
    ----------
    The linearised ratio estimator: Cochran (1977), Sampling Techniques, section 6.4; as the delta method in Deng,
    Knoblich and Lu (2018), Applying the Delta method in metric analytics, KDD.

    Examples
    --------
    >>> found = mean_of_units([1.0, 0.0, 2.0], [1, 1, 2])
    >>> found.mean, round(found.variance, 4)
    (0.75, 0.2461)
    """
    sums, counts = np.asarray(totals, dtype=np.float64), np.asarray(rows, dtype=np.float64)
    has = counts > 0
    sums, counts = sums[has], counts[has]
    n, total = len(sums), float(counts.sum())
    if n == 0:
        return Mean(0, 0, math.nan, math.nan)
    mean = float(sums.sum()) / total
    if n == 1:
        return Mean(1, int(total), mean, math.nan)
    influence = (sums - mean * counts) / (total / n)
    return Mean(n, int(total), mean, float(influence @ influence) / (n - 1))


def half_width(units: int, variance: float, *, alpha: float, tightest: int) -> float:
    """Half the width of the confidence sequence for a mean of ``units`` values; infinite below two.

    Parameters
    ----------
    variance
        Of one value.
    alpha
        Chance that the true mean is ever outside.
    tightest
        The number of units at which the interval is tightest. It must be chosen beforehand; a wrong guess costs width,
        not validity.

    Examples
    --------
    >>> round(half_width(1000, 1.0, alpha=0.05, tightest=1000), 3)
    0.096
    """
    if units < 2 or not math.isfinite(variance):
        return math.inf
    rho2 = _rho2(alpha, tightest)
    spread = units * rho2 + 1
    return math.sqrt(2 * variance * spread / (units**2 * rho2) * math.log(math.sqrt(spread) / alpha))


def mean_evidence(units: int, mean: float, variance: float, *, alpha: float, tightest: int) -> float:
    """Evidence against "the true mean is 0": it reaches ``1 / alpha`` when the confidence sequence leaves 0 out.

    Examples
    --------
    >>> mean_evidence(1000, 0.0, 1.0, alpha=0.05, tightest=1000) < 1 < 20 < mean_evidence(
    ...     1000, 0.1, 1.0, alpha=0.05, tightest=1000
    ... )
    True
    """
    if units < 2 or not math.isfinite(variance):
        return 1.0
    if variance == 0:
        return 1.0 if mean == 0 else math.inf
    rho2 = _rho2(alpha, tightest)
    spread = units * rho2 + 1
    log = (units * mean) ** 2 * rho2 / (2 * variance * spread) - 0.5 * math.log(spread)
    return math.exp(min(log, 700.0))


def _rho2(alpha: float, tightest: int) -> float:
    """The parameter that makes the sequence tightest there (section 2.3, equation 22, approximated)."""
    if not 0 < alpha < 1 or tightest < 1:
        raise InputError("alpha must be inside (0, 1) and a count at least 1", got=f"{alpha!r}, {tightest!r}")
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tightest
