"""Tail probabilities and quantiles of a few distributions, in plain Python.

``scipy.stats`` takes seconds to import and a serving machine need not have it; what the monitors need is this page.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from trimtab.errors import InputError

_TINY = 1e-300
_STEPS = 10_000
_EXACT_KS = 500


def chi_squared_tail(statistic: float, degrees: float) -> float:
    """P(X >= statistic) for a chi-squared X, by the upper incomplete gamma function.

    Parameters
    ----------
    statistic
        At least 0.
    degrees
        Degrees of freedom; 0 means that there is nothing to test, and gives 1.

    References
    ----------
    Press et al., Numerical Recipes, 3rd ed., §6.2: series below ``a + 1``, continued fraction above.

    Examples
    --------
    >>> round(chi_squared_tail(3.841459, 1), 6)
    0.05
    """
    if degrees <= 0 or statistic <= 0:
        return 1.0
    a, x = degrees / 2, statistic / 2
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for step in range(1, _STEPS):
            term *= x / (a + step)
            total += term
            if term < total * 1e-16:
                break
        return max(0.0, 1 - scale * total)
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    fraction = d
    for step in range(1, _STEPS):
        numerator = -step * (step - a)
        b += 2
        d = 1 / _away_from_zero(numerator * d + b)
        c = _away_from_zero(b + numerator / c)
        fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return min(1.0, scale * fraction)


def normal_tail(z: float) -> float:
    """P(|Z| >= z) for a standard normal Z.

    Examples
    --------
    >>> round(normal_tail(1.959964), 6)
    0.05
    """
    return math.erfc(abs(z) / math.sqrt(2))


def kolmogorov_tail(statistic: float, n: int) -> float:
    """P(D >= statistic) for the two-sided one-sample Kolmogorov-Smirnov statistic of n observations.

    Exact up to n = 500 (Marsaglia, Tsang and Wang, 2003, J. Stat. Softw. 8(18)); beyond that Kolmogorov's limit with
    Stephens' correction ``sqrt(n) + 0.12 + 0.11 / sqrt(n)``, good to three digits in the tail.

    Examples
    --------
    >>> round(kolmogorov_tail(0.274, 10), 6)
    0.37152
    """
    if statistic <= 0:
        return 1.0
    if statistic >= 1:
        return 0.0
    root = math.sqrt(n)
    if n <= _EXACT_KS and n * statistic**2 < 18:
        return min(1.0, max(0.0, 1 - _kolmogorov_exact(statistic, n)))
    x = statistic * (root + 0.12 + 0.11 / root)
    if x < 0.2:
        return 1.0
    tail = 2 * math.fsum(math.exp(-2 * (j * x) ** 2) * (1 if j % 2 else -1) for j in range(1, 101))
    return min(1.0, max(0.0, tail))


@lru_cache(maxsize=256)
def t_quantile(probability: float, degrees: float) -> float:
    """The value that Student's t with ``degrees`` degrees of freedom stays below with this probability.

    Bisection on the incomplete beta function; good to 1e-10.

    Raises
    ------
    InputError
        When the probability is not inside (0, 1) or there are no degrees of freedom.

    Examples
    --------
    >>> round(t_quantile(0.99, 7), 4)
    2.998
    """
    if not 0 < probability < 1 or degrees <= 0:
        raise InputError(
            "a t quantile needs a probability inside (0, 1) and positive degrees of freedom",
            got=f"{probability!r}, {degrees!r}",
        )
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    low, high = 0.0, 1.0
    while _t_below(high, degrees) < probability:
        high *= 2
    while high - low > 1e-11 * max(1.0, high):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_below(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction.

    References
    ----------
    Press et al., Numerical Recipes, 3rd ed., §6.4.

    Examples
    --------
    >>> round(incomplete_beta(2, 3, 0.4), 6)
    0.5248
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta(a, b)) / a
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for step in range(1, _STEPS):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for numerator in (even, odd):
            d = 1 / _away_from_zero(1 + numerator * d)
            c = _away_from_zero(1 + numerator / c)
            fraction *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return front * fraction


def log_beta(a: float, b: float) -> float:
    """The logarithm of the beta function."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _t_below(t: float, degrees: float) -> float:
    return 1 - 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def _kolmogorov_exact(d: float, n: int) -> float:
    k = int(n * d) + 1
    size, h = 2 * k - 1, k - n * d
    matrix = np.tri(size, k=1)
    powers = h ** np.arange(1, size + 1)
    matrix[:, 0] -= powers
    matrix[-1, :] -= powers[::-1]
    matrix[-1, 0] += max(0.0, 2 * h - 1) ** size
    lag = np.subtract.outer(np.arange(size), np.arange(size)) + 1
    logs = np.array([math.lgamma(max(step, 1) + 1) for step in range(size + 1)])
    matrix = np.where(lag > 0, matrix * np.exp(-logs[np.maximum(lag, 0)]), matrix)
    # Power by squaring, with a factor of ten pulled out whenever numbers grow, as the authors do.
    result, exponent, base, base_exponent, left = np.eye(size), 0, matrix, 0, n
    while left:
        if left & 1:
            result, exponent = result @ base, exponent + base_exponent
            result, exponent = _rescaled(result, exponent)
        base, base_exponent = base @ base, 2 * base_exponent
        base, base_exponent = _rescaled(base, base_exponent)
        left >>= 1
    middle = float(result[k - 1, k - 1])
    if middle <= 0:
        return 0.0
    log_probability = math.log(middle) + exponent * math.log(10) + math.lgamma(n + 1) - n * math.log(n)
    return math.exp(min(0.0, log_probability))


def _rescaled(matrix: np.ndarray, exponent: int) -> tuple[np.ndarray, int]:
    largest = float(np.abs(matrix).max())
    if largest < 1e100:
        return matrix, exponent
    return matrix * 1e-100, exponent + 100
