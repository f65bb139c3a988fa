"""Evidence that may be read at any time: tests by betting, and what follows from them.

An *e-value* is the wealth of a gambler who started with 1 and bet against a hypothesis in a fair game: if the
hypothesis is true, the chance that the wealth ever reaches ``1 / alpha`` is at most ``alpha`` (Ville's inequality),
however often one looks. The tests of counts are those of :mod:`trimtab.stats.sequential`; the one here differs from
its betting test in that harm may count for more than benefit.

Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", 2024.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from trimtab.errors import InputError

BETS = (0.4, 0.8)
"""Shares of the largest safe bet; the wealth is the mean over both. See docs/decisions/0003-default-policy.md."""

REPORTED_MOST = 1e12
"""Wealth beyond this says nothing new, and would overflow one day."""


class BettingState(msgspec.Struct, frozen=True):
    """A test, in progress, of "the mean of x is at most 0" for x cut to ``[-bound, reach * bound]``."""

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
        Values are cut here (winsorised), so that no single day decides. Fixed beforehand, from other data.
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

    Examples
    --------
    >>> state = start(1.0)
    >>> for gain in (1.0, 1.0, 1.0, 1.0, 1.0):
    ...     state = update(state, gain)
    >>> round(e_value(state), 2)
    12.14
    """
    z = min(max(x / state.bound, -1.0), state.reach)
    wealth = tuple(log + math.log1p(bet * z) for log, bet in zip(state.wealth, BETS, strict=True))
    return BettingState(state.bound, state.reach, state.count + 1, wealth)


def e_value(state: BettingState) -> float:
    """The evidence against "the mean is at most 0"; 1 before any value."""
    return _mean_of_exp(state.wealth)


def winsor_bound(daily_gains: Sequence[float], *, level: float) -> float:
    """Where a day's mean gain is cut: twice the median absolute deviation of the held-out days.

    The spread, not the size, of the gains: a challenger that is better by the same amount every day is then seen fast.
    At least 1 % of the loss level, since seven quiet days understate the spread; 5 % when fewer than four
    held-out days could be compared.

    Parameters
    ----------
    daily_gains
        Champion's mean loss minus candidate's on each held-out day, before the shadow began.
    level
        The candidate's mean loss on the held-out tail; gives the scale when days do not.

    Examples
    --------
    >>> winsor_bound([0.01, 0.03, -0.02, 0.01, 0.02, 0.0, 0.05], level=0.5)
    0.02
    """
    gains = sorted(gain for gain in daily_gains if math.isfinite(gain))
    scale = abs(level) if math.isfinite(level) and level != 0 else 1.0
    if len(gains) < 4:
        return 0.05 * scale
    middle = _median(gains)
    return max(2 * _median(sorted(abs(gain - middle) for gain in gains)), 0.01 * scale)


def _median(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _mean_of_exp(logs: Sequence[float]) -> float:
    top = max(logs)
    if top > math.log(REPORTED_MOST):
        return REPORTED_MOST
    return sum(math.exp(log) for log in logs) / len(logs)
