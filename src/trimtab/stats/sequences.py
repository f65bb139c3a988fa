"""Confidence sequences for means: intervals that may be read after every unit, and hold at all times at once.

Asymptotic ones: they need enough units, and then nothing about shape or bounds. Waudby-Smith, Arbour, Sinha, Kennedy
and Ramdas (2024), Time-uniform central limit theory and asymptotic confidence sequences, Annals of Statistics 52(6),
theorem 2.2. How many are enough says :func:`skewed`; for units that are 0 or 1, :mod:`trimtab.stats.rates` is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.errors import InputError

ENOUGH = 25
"""Times the squared skewness of one unit that a mean needs units."""


class Mean(NamedTuple):
    """A mean over units that may each have several rows."""

    units: int
    rows: int
    mean: float
    """Per row; NaN without rows."""
    variance: float
    """Of the contribution of one unit: the variance of the mean is this divided by ``units``."""


class Spread(NamedTuple):
    """How much the units of several arms differ, taken together as if the arms did the same."""

    variance: float
    """Of the contribution of one unit; NaN below two units. Few equal units in one arm cannot make it 0."""
    skewness: float
    """Of the contributions; 0 where none differ."""


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


def spread_of_units(arms: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Spread:
    """The spread of the units of all arms around the mean over all of them.

    Parameters
    ----------
    arms
        Per arm and unit, the sum of its rows and their number, as in :func:`mean_of_units`.

    Examples
    --------
    >>> found = spread_of_units([(np.array([1.0, 0.0, 1.0, 0.0]), np.ones(4)), (np.array([1.0, 1.0]), np.ones(2))])
    >>> round(found.variance, 3), round(found.skewness, 3)
    (0.267, -0.707)
    """
    kept = [(sums[rows > 0], rows[rows > 0]) for sums, rows in arms]
    kept = [(sums, rows) for sums, rows in kept if len(rows)]
    if sum(len(rows) for _, rows in kept) < 2:
        return Spread(math.nan, 0.0)
    mean = sum(float(sums.sum()) for sums, _ in kept) / sum(float(rows.sum()) for _, rows in kept)
    parts = np.concatenate([(sums - mean * rows) / rows.mean() for sums, rows in kept])
    second = float(np.mean(parts**2))
    skewness = float(np.mean(parts**3)) / second**1.5 if second > 0 else 0.0
    return Spread(second * len(parts) / (len(parts) - 1), skewness)


def skewed(skewness: float, units: int, other_units: int | None = None) -> bool:
    """Whether the mean of so few units, or the difference of two such means, is too skewed to be taken for normal.

    Parameters
    ----------
    skewness
        Of one unit. In a difference, that of two arms of equal size cancels out.

    References
    ----------
    Cochran (1977), Sampling Techniques, section 2.15: a mean needs more than 25 times the squared skewness of one unit.

    Examples
    --------
    >>> skewed(2.0, 99), skewed(2.0, 101), skewed(2.0, 60, 60), skewed(2.0, 60, 6000)
    (True, False, False, True)
    """
    if other_units is None:
        left = skewness / math.sqrt(units)
    else:
        left = skewness * (1 / units**2 - 1 / other_units**2) / (1 / units + 1 / other_units) ** 1.5
    return ENOUGH * left**2 > 1


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
    rho2 = mixing_variance(alpha, tightest)
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
    rho2 = mixing_variance(alpha, tightest)
    spread = units * rho2 + 1
    log = (units * mean) ** 2 * rho2 / (2 * variance * spread) - 0.5 * math.log(spread)
    return math.exp(min(log, 700.0))


def mixing_variance(alpha: float, tightest: int) -> float:
    """The variance of the sizes that are bet on which makes the sequence tightest there, in those of one unit.

    Section 2.3, equation 22, approximated.

    Raises
    ------
    InputError
        For an alpha outside (0, 1) or a count below 1.
    """
    if not 0 < alpha < 1 or tightest < 1:
        raise InputError("alpha must be inside (0, 1) and a count at least 1", got=f"{alpha!r}, {tightest!r}")
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / tightest
