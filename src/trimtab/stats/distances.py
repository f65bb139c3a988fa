"""How far two samples are apart: distances and tests on count vectors, and the exact Kolmogorov-Smirnov test.

Every function takes the reference first and counts (not shares) where it says ``counts``; both vectors have the same
layout. What the names mean here, because libraries differ:

========== ===================================================================================================
psi        sum of (q - p) ln(q / p); a count of 0 stands for half an observation; ``corrected`` takes off what two
           samples of one distribution show on average, (B - 1)(1/n + 1/m), and stops at 0
kl         KL(reference || current) in nats; a current count of 0 stands for half an observation
jsd        Jensen-Shannon *distance*, base 2: the root of the divergence in bits; in [0, 1]
tvd        total variation: half the sum of absolute differences
hellinger  root of half the sum of squared differences of roots; in [0, 1]
========== ===================================================================================================
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.errors import InputError
from trimtab.stats.tails import chi_squared_tail, kolmogorov_tail

Floats = NDArray[np.float64]


class Test(NamedTuple):
    """A statistic, how likely one so large is without any difference, and its degrees of freedom (0: none)."""

    statistic: float
    p_value: float
    degrees: int = 0


def psi(reference: ArrayLike, current: ArrayLike, *, corrected: bool = True) -> float:
    """Population stability index of two count vectors.

    Parameters
    ----------
    reference, current
        Counts, shape (B,).
    corrected
        Take off the mean that sampling alone gives, (B - 1)(1/n + 1/m) over the B bins that hold anything, and
        floor at 0. False: the raw index, as other libraries print it.

    Examples
    --------
    >>> round(psi([500, 500], [300, 700], corrected=False), 4)
    0.1695
    """
    r, c = _counts(reference, current)
    n, m = r.sum(), c.sum()
    if n == 0 or m == 0:
        return 0.0
    p, q = np.where(r > 0, r, 0.5) / n, np.where(c > 0, c, 0.5) / m
    raw = float(((q - p) * np.log(q / p)).sum())
    return max(0.0, raw - float((len(r) - 1) * (1 / n + 1 / m))) if corrected else raw


def kl(reference: ArrayLike, current: ArrayLike) -> float:
    """Kullback-Leibler divergence KL(reference || current) of two count vectors, in nats.

    Examples
    --------
    >>> kl([1, 1], [2, 2])
    0.0
    """
    r, c = _counts(reference, current)
    if r.sum() == 0 or c.sum() == 0:
        return 0.0
    p, q = r / r.sum(), np.where(c > 0, c, 0.5) / c.sum()
    held = p > 0
    return float((p[held] * np.log(p[held] / q[held])).sum())


def jsd(reference: ArrayLike, current: ArrayLike) -> float:
    """Jensen-Shannon distance, base 2, of two count vectors.

    Examples
    --------
    >>> jsd([10, 0], [0, 10])
    1.0
    """
    p, q = _shares(reference, current)
    middle = (p + q) / 2
    divergence = _entropy_bits(middle) - (_entropy_bits(p) + _entropy_bits(q)) / 2
    return math.sqrt(max(0.0, divergence))


def tvd(reference: ArrayLike, current: ArrayLike) -> float:
    """Total variation distance of two count vectors.

    Examples
    --------
    >>> tvd([10, 0], [5, 5])
    0.5
    """
    p, q = _shares(reference, current)
    return float(np.abs(p - q).sum() / 2)


def hellinger(reference: ArrayLike, current: ArrayLike) -> float:
    """Hellinger distance of two count vectors."""
    p, q = _shares(reference, current)
    return float(np.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2))


def binned_ks(reference: ArrayLike, current: ArrayLike) -> float:
    """The Kolmogorov-Smirnov statistic *from binned counts*: the largest gap at an edge, never above the exact one.

    With 20 bins of equal count it falls short of the exact statistic by at most 0.05 and, for a shifted normal, by some
    0.002. Pass ordered bins only, without unseen and missing.
    """
    p, q = _shares(reference, current)
    return float(np.abs(np.cumsum(p) - np.cumsum(q)).max(initial=0.0))


def chi_squared(reference: ArrayLike, current: ArrayLike) -> Test:
    """Two-sample chi-squared test of homogeneity on two count vectors; bins empty on both sides are left out.

    Examples
    --------
    >>> chi_squared([50, 50], [50, 50])
    Test(statistic=0.0, p_value=1.0, degrees=1)
    """
    r, c = _counts(reference, current)
    n, m = float(r.sum()), float(c.sum())
    if n == 0 or m == 0:
        return Test(0.0, 1.0, 0)
    pooled = (r + c) / (n + m)
    statistic = float((((r - n * pooled) ** 2) / (n * pooled) + ((c - m * pooled) ** 2) / (m * pooled)).sum())
    degrees = len(r) - 1
    return Test(statistic, chi_squared_tail(statistic, degrees), degrees)


def ks(reference: ArrayLike, current: ArrayLike) -> Test:
    """Exact two-sample Kolmogorov-Smirnov statistic of two columns of values, with its asymptotic p-value.

    The p-value is that of the one-sample statistic with ``nm / (n + m)`` observations, as in
    ``scipy.stats.ks_2samp(method="asymp")``. Missing values are left out.

    Examples
    --------
    >>> ks([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0])
    Test(statistic=0.0, p_value=1.0, degrees=0)
    """
    r, c = (np.asarray(values, dtype=np.float64) for values in (reference, current))
    r, c = np.sort(r[~np.isnan(r)]), np.sort(c[~np.isnan(c)])
    if not len(r) or not len(c):
        return Test(0.0, 1.0)
    both = np.concatenate([r, c])
    gaps = np.searchsorted(r, both, side="right") / len(r) - np.searchsorted(c, both, side="right") / len(c)
    statistic = float(np.abs(gaps).max())
    return Test(statistic, kolmogorov_tail(statistic, max(1, round(len(r) * len(c) / (len(r) + len(c))))))


def _counts(reference: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    r, c = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if r.shape != c.shape or r.ndim != 1:
        raise InputError("two count vectors of different layouts", got=f"shapes {r.shape} and {c.shape}")
    if (r < 0).any() or (c < 0).any():
        raise InputError("counts below zero", hint="pass counts, not differences")
    held = (r + c) > 0
    return r[held], c[held]


def _shares(reference: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    """Both as shares; of an empty sample nothing can be said, so it is given the shares of the other."""
    r, c = _counts(reference, current)
    if r.sum() == 0 or c.sum() == 0:
        return np.zeros(1), np.zeros(1)
    return r / r.sum(), c / c.sum()


def _entropy_bits(p: Floats) -> float:
    held = p[p > 0]
    return float(-(held * np.log2(held)).sum())
