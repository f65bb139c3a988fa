"""The difference of two rates, at any time and for arms of any size: exact, for units that each have one 0 or 1.

For every pair of rates (p of the first arm, q of the second) there is a gambler who bets against just that pair; his
wealth is the mean of two, each a likelihood ratio and so a fair game while the pair is true:

- ``direction``: of rates that lie further apart, or nearer, by many sizes. It moves each arm by its part of the
  variance, so that it wins by the difference of the arms and not by where both lie.
- ``place``: of each arm's rate being anything (Jeffreys' prior). It gets a tenth of the money, and only rules out pairs
  that are far from what was seen, against which the other one bets badly.

A difference d is ruled out when every pair with ``q - p = d`` is. The chance that the true difference is ever ruled
out is at most ``alpha`` by Ville's inequality, whatever the shares, the times of reading or the number of units, as
long as each arm has one rate. Where units fall to the arms with their declared shares, independently of anything, the
first gambler's game against "no difference" is fair even if the rates move.

The likelihood ratio of two samples whose mean is left alone: Turner, Ly and Grünwald (2024), Generic E-variables for
exact sequential k-sample tests that allow for optional stopping, J. Stat. Plan. Inference 230. The smallest wealth over
a nuisance parameter: Wasserman, Ramdas and Balakrishnan (2020), Universal inference, PNAS 117(29).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import InputError
from trimtab.stats.sequences import mixing_variance
from trimtab.stats.tails import log_beta

_PLACE = 0.1
_STEP = 1.3
_SIZES = 0.01 * _STEP ** np.arange(24)
"""Sizes of h in standard deviations of its prior: the large ones are seen early, the small ones tell apart late."""
_WIDEST = 0.98
"""Of the way to a rate of 0 or 1, so that no bet can lose everything."""
_BETS = np.concatenate((-_SIZES[::-1], _SIZES))
_WEIGHTS = np.abs(_BETS) * np.exp(-(_BETS**2) / 2)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
"""Of a normal prior: its density, by the distance to the next size."""
_COARSE = np.sin(np.linspace(0, math.pi / 2, 41)) ** 2
_NEAR = np.linspace(-8, 8, 33)
_FINE = np.linspace(0, 1, 13)
_ROUNDS = 2
_CLOSE = 1e-3
"""How near, in natural logarithm, the evidence at the end of an interval comes to its threshold."""
_FAR, _TRIES = 30.0, 60
_TINY = 1e-300


class Counts(NamedTuple):
    """Units of two arms, and how many of them were positive."""

    ones: int
    """Of the first arm."""
    units: int
    other_ones: int
    """Of the second arm."""
    other_units: int


def rates_evidence(counts: Counts, difference: float, *, share: float, alpha: float, tightest: int) -> float:
    """Natural logarithm of the evidence against "the second rate is this much above the first".

    Parameters
    ----------
    difference
        In (-1, 1).
    share
        The second arm's part of the units of both, as declared. If it is another one, only power is lost.
    alpha, tightest
        The level, and the units of both arms, at which the interval is tightest. They must be chosen beforehand;
        others cost width, not validity.

    Raises
    ------
    InputError
        For a share outside (0, 1) or counts that cannot be.

    Examples
    --------
    >>> rates_evidence(Counts(100, 1000, 150, 1000), 0.0, share=0.5, alpha=0.05, tightest=2000) > math.log(20)
    True
    >>> rates_evidence(Counts(132, 396, 2, 2), 0.0, share=0.01, alpha=0.05, tightest=2000) < math.log(20)
    True
    """
    ones, units, other_ones, other_units = counts
    if not 0 < share < 1 or not 0 <= ones <= units or not 0 <= other_ones <= other_units:
        raise InputError("rates need a share inside (0, 1) and no more ones than units", got=f"{counts!r}, {share!r}")
    spread = math.sqrt(mixing_variance(alpha, tightest))
    low = max(share * difference, -(1 - share) * difference)
    high = 1 + min(share * difference, -(1 - share) * difference)
    seen = (ones + other_ones + 0.5) / (units + other_units + 1)
    error = math.sqrt(seen * (1 - seen) / (units + other_units + 1))
    at = np.unique(np.clip(np.concatenate((low + (high - low) * _COARSE, seen + error * _NEAR)), low, high))
    for _ in range(_ROUNDS):
        wealth = _wealth(counts, at, difference, share, spread)
        best = int(np.argmin(wealth))
        left, right = at[max(best - 1, 0)], at[min(best + 1, len(at) - 1)]
        at = left + (right - left) * _FINE
    return float(min(wealth.min(), _wealth(counts, at, difference, share, spread).min()))


def rates_interval(counts: Counts, *, share: float, alpha: float, tightest: int) -> tuple[float, float]:
    """The differences that are not ruled out: 0 is outside exactly when the evidence against it is 1 / alpha or more.

    Parameters
    ----------
    alpha
        Chance that the true difference is ever outside.
    share, tightest
        See :func:`rates_evidence`.

    Examples
    --------
    >>> low, high = rates_interval(Counts(100, 1000, 150, 1000), share=0.5, alpha=0.05, tightest=2000)
    >>> round(low, 3), round(high, 3)
    (0.005, 0.096)
    """
    ones, units, other_ones, other_units = counts
    if not units or not other_units:
        return -1.0, 1.0
    threshold = -math.log(alpha)
    seen = other_ones / other_units - ones / units

    def above(difference: float) -> float:
        return rates_evidence(counts, difference, share=share, alpha=alpha, tightest=tightest) - threshold

    if above(0.0) < 0:
        return _edge(above, min(seen, 0.0), -1.0), _edge(above, max(seen, 0.0), 1.0)
    if seen > 0:
        return max(_edge(above, seen, 0.0), _CLOSE**3), _edge(above, seen, 1.0)
    return _edge(above, seen, -1.0), min(_edge(above, seen, 0.0), -(_CLOSE**3))


def _wealth(
    counts: Counts, at: NDArray[np.float64], difference: float, share: float, spread: float
) -> NDArray[np.float64]:
    """The logarithm of the wealth of the gambler against each pair of rates whose weighted mean is ``at``."""
    first, second = np.clip(at - share * difference, 0, 1), np.clip(at + (1 - share) * difference, 0, 1)
    truth = _likelihood(counts, first, second)
    mine, theirs = first * (1 - first) / (1 - share), second * (1 - second) / share
    both = np.maximum(mine + theirs, _TINY)
    left, right = mine / both, theirs / both
    left, right = np.where(left + right > 0, left, share), np.where(left + right > 0, right, 1 - share)
    least = -np.minimum(_ratio(1 - first, left), _ratio(second, right)) * _WIDEST
    most = np.minimum(_ratio(first, left), _ratio(1 - second, right)) * _WIDEST
    sizes = np.clip((spread * np.sqrt(both))[:, None] * _BETS, least[:, None], most[:, None])
    moved = _likelihood(counts, first[:, None] - left[:, None] * sizes, second[:, None] + right[:, None] * sizes)
    direction = _log_mean(moved, _WEIGHTS) + math.log1p(-_PLACE)
    ones, units, other_ones, other_units = counts
    place = _anything(ones, units - ones) + _anything(other_ones, other_units - other_ones) + math.log(_PLACE)
    with np.errstate(invalid="ignore"):
        found = np.logaddexp(direction, place) - truth
    return np.where(np.isneginf(truth), math.inf, found)


def _ratio(room: NDArray[np.float64], part: NDArray[np.float64]) -> NDArray[np.float64]:
    return room / np.maximum(part, _TINY)


def _likelihood(counts: Counts, first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Its logarithm, without what does not depend on the rates; 0 log 0 is 0."""
    ones, units, other_ones, other_units = counts
    total = np.zeros(first.shape)
    for number, rate in (
        (ones, first), (units - ones, 1 - first), (other_ones, second), (other_units - other_ones, 1 - second),
    ):  # fmt: skip
        if number:
            with np.errstate(divide="ignore"):
                total = total + number * np.log(rate)
    return total


def _log_mean(logs: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    top = logs.max(axis=1)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.exp(logs - safe[:, None]) @ weights) + safe


def _anything(ones: int, zeros: int) -> float:
    return log_beta(0.5 + ones, 0.5 + zeros) - log_beta(0.5, 0.5)


def _edge(above: Callable[[float], float], inside: float, outside: float) -> float:
    """Where a function that is below 0 inside crosses it, from outside; the Illinois method, halving where it must."""
    there = left = above(outside)
    if left < 0 or inside == outside:
        return outside
    here = above(inside)
    for _ in range(_TRIES):
        if left < _CLOSE:
            break
        middle = (inside * there - outside * here) / (there - here) if left < _FAR else (inside + outside) / 2
        found = above(middle)
        if found >= 0:
            outside, there, left, here = middle, found, found, here / 2
        else:
            inside, here, there = middle, found, there / 2
    return outside
