"""Tests by betting: is the mean of some quantity above zero? They may be read after every value.

An *e-value* is the wealth of a gambler who started with 1 and bet against a hypothesis in a fair game. While the
hypothesis is true, the wealth ever reaches ``1 / alpha`` with chance at most ``alpha`` (Ville's inequality), however
often one looks. So: act when ``e_value >= 1 / alpha``; with k tests side by side, when one reaches ``k / alpha``.

Each value x is cut (winsorised) to ``[-bound, reach * bound]``; a gambler with bet b multiplies the wealth by
``1 + b x / bound``. The hypothesis is that each value *so cut* has, given the values before, mean at most 0. Nothing
is assumed about shape, variance or independence beyond that.

Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86(1), section 4: a
mixture of capital processes is a capital process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from trimtab.errors import InputError

BETS = (0.4, 0.8)
"""Shares of the largest safe bet; the wealth is the mean over both. Many small bets find large effects late, one large
bet loses when the effect is small (docs/decisions/0003-default-policy.md)."""

REPORTED_MOST = 1e12
"""Wealth beyond this says nothing new, and would overflow one day."""


class BettingState(msgspec.Struct, frozen=True):
    """A test in progress: its terms, and the wealth so far."""

    bound: float
    reach: float
    count: int
    wealth: tuple[float, ...]
    """Natural logarithm of the wealth under each of :data:`BETS`."""


def start(bound: float, *, reach: float = 1.0) -> BettingState:
    """A test that has seen nothing.

    Parameters
    ----------
    bound
        Values are cut here, so that no single one decides. It must be fixed beforehand, from other data
        (:func:`winsor_bound`); then the test is valid whatever its value. Too large costs power, too small turns the
        test into one of signs.
    reach
        How many bounds a value may go *up*. A bet can only lose on the way down, so any reach keeps the test
        valid for the values so cut; a long reach makes it fast against large effects.

    Raises
    ------
    InputError
        When the bound is not a positive number.
    """
    if not (math.isfinite(bound) and bound > 0):
        raise InputError("a winsor bound must be a positive number", got=repr(bound), hint="see winsor_bound")
    return BettingState(bound, reach, 0, (0.0,) * len(BETS))


def update(state: BettingState, x: float) -> BettingState:
    """The test after one more value.

    Raises
    ------
    InputError
        When the value is NaN.

    Examples
    --------
    >>> state = start(1.0)
    >>> for gain in (1.0, 1.0, 1.0, 1.0, 1.0):
    ...     state = update(state, gain)
    >>> round(e_value(state), 2)
    12.14
    """
    if math.isnan(x):
        raise InputError("a value to bet on is missing", got="nan", hint="leave days without rows out")
    z = min(max(x / state.bound, -1.0), state.reach)
    wealth = tuple(log + math.log1p(bet * z) for log, bet in zip(state.wealth, BETS, strict=True))
    return BettingState(state.bound, state.reach, state.count + 1, wealth)


def e_value(state: BettingState) -> float:
    """The evidence against "the mean is at most 0", at most :data:`REPORTED_MOST`; 1 before any value."""
    if max(state.wealth) > math.log(REPORTED_MOST):
        return REPORTED_MOST
    return sum(math.exp(log) for log in state.wealth) / len(state.wealth)


def winsor_bound(gains: Sequence[float], *, level: float) -> float:
    """Where values are cut: twice the median absolute deviation of values seen beforehand.

    The spread, not the size, of the gains: one that is the same every day is then seen fast. At least 1 % of
    the level, since a few quiet days understate the spread; 5 % of it when fewer than four values are finite.

    Parameters
    ----------
    gains
        Values that the test will not see, such as the daily gains on a held-out tail.
    level
        The size of what the gains are differences of (a mean loss); 1 is taken where it is 0 or not finite.

    Examples
    --------
    >>> winsor_bound([0.01, 0.03, -0.02, 0.01, 0.02, 0.0, 0.05], level=0.5)
    0.02
    """
    finite = sorted(gain for gain in gains if math.isfinite(gain))
    scale = abs(level) if math.isfinite(level) and level != 0 else 1.0
    if len(finite) < 4:
        return 0.05 * scale
    middle = _median(finite)
    return max(2 * _median(sorted(abs(gain - middle) for gain in finite)), 0.01 * scale)


def _median(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
