"""Evidence that may be read at any time: tests by betting, and what follows from them.

An *e-value* is the wealth of a gambler who started with 1 and bet against a hypothesis in a fair game: if the
hypothesis is true, the chance that the wealth ever reaches ``1 / alpha`` is at most ``alpha`` (Ville's inequality),
however often one looks. Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", 2024.
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

_ODDS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""Alternatives of the share test: how many times more often than its share the canary has a bad event."""


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


def share_e_value(bad_canary: int, bad_total: int, share: float) -> float:
    """The evidence that the canary has more bad events than its share of the traffic explains.

    Each bad event falls to the canary with chance ``share`` if both arms are alike: a coin with a known bias, so the
    test is exact at any size, also for rare events. The e-value is the mean likelihood ratio over fixed alternatives.

    Parameters
    ----------
    bad_canary, bad_total
        Bad events (errors, slow answers) of the canary, and of both arms together.
    share
        The canary's share of the requests answered, in (0, 1).

    Examples
    --------
    >>> share_e_value(1, 10, 0.1) < 1 < share_e_value(8, 10, 0.1)
    True
    """
    logs = []
    for odds in _ODDS:
        raised = odds * share / (1 - share + odds * share)
        logs.append(
            bad_canary * math.log(raised / share) + (bad_total - bad_canary) * math.log((1 - raised) / (1 - share))
        )
    return _mean_of_exp(logs)


def split_e_value(canary: int, total: int, share: float) -> float:
    """The evidence that the canary does not get the share of requests it should get, in either direction.

    A Bayes factor of a Beta prior centred on ``share`` against ``share`` itself: a martingale when the split is right
    (Lindon and Malek, "Anytime-valid inference for multinomial count data", 2022). A wrong split means that the two
    arms see different requests, so that nothing else about them may be compared.

    Examples
    --------
    >>> split_e_value(100, 1000, 0.1) < 1 < split_e_value(200, 1000, 0.1)
    True
    """
    weight = 100.0
    a, b = weight * share, weight * (1 - share)
    log = _log_beta(a + canary, b + total - canary) - _log_beta(a, b)
    return _mean_of_exp((log - canary * math.log(share) - (total - canary) * math.log1p(-share),))


def rate_upper_bound(bad: int, total: int, *, alpha: float) -> float:
    """A bound that the true rate of bad events stays below, at any time, with chance ``1 - alpha``.

    All rates that a Beta(½, 50) mixture cannot reject (the prior sits where service failures are: near zero). With no
    bad event in 500 it is 0.8 %, which is why a canary step asks for 500 answers when the margin is one percentage
    point.

    Examples
    --------
    >>> round(rate_upper_bound(0, 500, alpha=0.05), 4)
    0.0084
    """
    if total == 0:
        return 1.0
    low, high = bad / total, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _rate_log_e(bad, total, middle) < -math.log(alpha) else (low, middle)
    return high


def rate_lower_bound(bad: int, total: int, *, alpha: float) -> float:
    """A bound that the true rate of bad events stays above, at any time, with chance ``1 - alpha``."""
    if bad == 0:
        return 0.0
    low, high = 0.0, bad / total
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _rate_log_e(bad, total, middle) < -math.log(alpha) else (middle, high)
    return low


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


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _rate_log_e(bad: int, total: int, rate: float) -> float:
    a, b = 0.5, 50.0
    log = _log_beta(a + bad, b + total - bad) - _log_beta(a, b)
    if not 0 < rate < 1:
        return math.inf
    return log - bad * math.log(rate) - (total - bad) * math.log1p(-rate)
