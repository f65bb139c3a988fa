"""Anytime-valid tests: look as often as you like, stop when you like, and the error rate still holds.

An *e-process* starts at 1 and, while its null hypothesis is true, has expectation at most 1 at every stopping time. By
Ville's inequality it ever reaches ``1 / alpha`` with chance at most ``alpha``. So: act when ``e_value >= 1 / alpha``;
with k guardrails side by side, when one reaches ``k / alpha``.

============================  ===========================================================================
:class:`BettingTest`          is the mean of bounded observations above a value? (daily paired gains)
:class:`ShareTest`            do bad events fall on the canary more often than its share of traffic says?
:func:`excess_bound`          how much higher may the canary's rate of bad events be?
:func:`split_e_value`         is traffic split as declared? (sample ratio mismatch)
:func:`weekly_limit`          (not sequential) which mean loss of one week is still plausible?
============================  ===========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from trimtab.errors import InputError
from trimtab.stats.tails import log_beta, t_quantile

Floats = NDArray[np.float64]

_BETS = (np.arange(16) + 0.5) / 16
_BET_WEIGHTS = _BETS / _BETS.sum()


class Wealth(msgspec.Struct, frozen=True):
    """The state of an e-process: how many observations it took, and the log wealth of each bet in its mixture."""

    observations: int
    logs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class BettingTest:
    """A one-sided test by betting: is the mean of bounded observations above ``null``?

    Each observation x is winsorised to ``null ± bound``; a gambler with a fixed bet b multiplies its wealth by
    ``1 + b (x - null) / bound``. The e-value is the mean wealth of 16 gamblers with bets from 1/32 to 31/32, weighted
    by their bets: evidence within weeks of days needs large bets. The null is that each *winsorised* observation has,
    given the past, mean at most ``null``. Nothing is assumed about shape, variance or independence beyond that.

    Parameters
    ----------
    bound
        How far an observation may lie from ``null``. It must be declared before the first observation is seen: see
        :func:`winsor_bound`. Too large costs power in proportion; too small turns the test into one of signs.
    null
        The mean that has to be exceeded.

    References
    ----------
    Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting, JRSS B 86(1), §4: a mixture
    of capital processes is a capital process. Simulated with 28 daily N(mu, 1) gains, bound 2, alpha 0.1: chance of
    success .04 / .35 / .71 / .98 for mu = 0 / .3 / .5 / .8.

    Examples
    --------
    >>> test = BettingTest(bound=1.0)
    >>> state = test.start()
    >>> for gain in [0.5, 0.7, 0.4, 0.6, 0.5, 0.5]:
    ...     state = test.update(state, gain)
    >>> test.e_value(state) > 5
    True
    """

    bound: float
    null: float = 0.0

    def __post_init__(self) -> None:
        if not (self.bound > 0 and math.isfinite(self.bound)):
            raise InputError(
                "the bound of a betting test must be positive", got=repr(self.bound), hint="see winsor_bound"
            )

    def start(self) -> Wealth:
        """Before any observation; its e-value is 1."""
        return Wealth(0, (0.0,) * len(_BETS))

    def update(self, state: Wealth, x: float) -> Wealth:
        """The state after one more observation.

        Raises
        ------
        InputError
            When x is NaN.
        """
        if math.isnan(x):
            raise InputError("an observation is missing", got="nan", hint="leave days without rows out")
        stake = min(1.0, max(-1.0, (x - self.null) / self.bound))
        logs = tuple(log + math.log1p(bet * stake) for log, bet in zip(state.logs, _BETS.tolist(), strict=True))
        return Wealth(state.observations + 1, logs)

    def e_value(self, state: Wealth) -> float:
        """Evidence against the null; reject when it is at least ``1 / alpha``."""
        return _mixture(state.logs, _BET_WEIGHTS)

    def path(self, observations: ArrayLike) -> Floats:
        """The e-value after each observation, for arrays of shape (..., n): for simulations and plots."""
        stakes = np.clip((np.asarray(observations, dtype=np.float64) - self.null) / self.bound, -1, 1)
        logs = np.cumsum(np.log1p(stakes[..., None] * _BETS), axis=-2)
        wealth: Floats = np.exp(np.minimum(logs, 700.0)) @ _BET_WEIGHTS
        return wealth


def winsor_bound(reference_daily_gains: Sequence[float]) -> float:
    """A bound for :class:`BettingTest` from daily mean paired gains seen beforehand: twice their root mean square.

    Choose it from data that the test will not see (the held-out tail, scored by both versions), once, before the first
    shadow day; then it cannot depend on what it judges, and validity holds whatever its value. With normal gains the
    bound clips 5 % of days. Twice as wide, a decision takes some 60 % longer; half as wide, it comes a little earlier,
    but every third day is clipped and the test is nearly one of signs.

    Raises
    ------
    InputError
        When there is no gain to go by.

    Examples
    --------
    >>> winsor_bound([0.01, -0.01, 0.01])
    0.02
    """
    gains = np.asarray(reference_daily_gains, dtype=np.float64)
    gains = gains[np.isfinite(gains)]
    if not len(gains):
        raise InputError("no daily gains to choose a bound from", hint="score the held-out tail with both versions")
    # Two equal versions gain nothing; any positive bound then leaves the e-value at 1.
    return max(2 * float(np.sqrt((gains**2).mean())), 1e-9)


_RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class ShareTest:
    """Does a bad event fall on the canary more often than its share of traffic explains? Exact, one-sided.

    Given that a bad event happened, it fell on the canary with probability ``share`` if both arms are equally bad,
    whatever the rate itself and however it moves through the day. The alternative multiplies the canary's odds by
    1.25 … 10 (a mixture with equal weights). Null: the canary is at most ``tolerated`` times as bad. Requests must be
    assigned at random (by hash), one event counted per unit of assignment.

    References
    ----------
    The conditional binomial test of two Poisson rates (Przyborowski and Wilenski, 1940), made sequential by the mixture
    likelihood ratio (Robbins, 1970).

    Examples
    --------
    >>> test = ShareTest()
    >>> state = test.update(test.start(), canary=12, champion=20, share=0.1)
    >>> test.e_value(state) > 20
    True
    """

    tolerated: float = 1.0

    def start(self) -> Wealth:
        """Before any event; its e-value is 1."""
        return Wealth(0, (0.0,) * len(_RATIOS))

    def update(self, state: Wealth, *, canary: int, champion: int, share: float) -> Wealth:
        """The state after further bad events.

        Parameters
        ----------
        canary, champion
            Bad events on each arm since the last update.
        share
            The canary's share of answers while they happened; may change from step to step.

        Raises
        ------
        InputError
            For a negative count or a share outside (0, 1).
        """
        _check_counts(canary, champion)
        _check_share(share)
        null = _share_at(share, self.tolerated)
        logs = []
        for log, ratio in zip(state.logs, _RATIOS, strict=True):
            alternative = _share_at(share, self.tolerated * ratio)
            gain = canary * math.log(alternative / null) + champion * math.log((1 - alternative) / (1 - null))
            logs.append(log + gain)
        return Wealth(state.observations + canary + champion, tuple(logs))

    def e_value(self, state: Wealth) -> float:
        """Evidence that the canary is worse; roll back at ``1 / alpha``."""
        return _mixture(state.logs, np.full(len(_RATIOS), 1 / len(_RATIOS)))

    def path(self, canary: ArrayLike, champion: ArrayLike, share: float) -> Floats:
        """The e-value after each step, for bad events per step of shape (..., n): for simulations and plots."""
        _check_share(share)
        null = _share_at(share, self.tolerated)
        other = np.array([_share_at(share, self.tolerated * ratio) for ratio in _RATIOS])
        on, off = (np.cumsum(np.asarray(counts), axis=-1)[..., None] for counts in (canary, champion))
        logs = on * np.log(other / null) + off * np.log((1 - other) / (1 - null))
        wealth: Floats = np.exp(np.minimum(logs, 700.0)).mean(axis=-1)
        return wealth


def share_e_value(canary: int, champion: int, share: float, *, tolerated: float = 1.0) -> float:
    """The e-value of :class:`ShareTest` from cumulative counts under one share.

    Examples
    --------
    >>> round(share_e_value(0, 0, 0.1), 6)
    1.0
    """
    test = ShareTest(tolerated)
    return test.e_value(test.update(test.start(), canary=canary, champion=champion, share=share))


def rate_interval(bad: int, total: int, *, alpha: float, typical: float = 0.02) -> tuple[float, float]:
    """A confidence sequence for a rate: all rates that the beta-binomial mixture has never ruled out, at this count.

    Holds at all times at once with probability ``1 - alpha``, for events that happen independently at one rate.

    Parameters
    ----------
    bad, total
        Cumulative counts.
    typical
        The rate at which the interval is tightest; the prior is Beta(1/2, 1/(2 typical) - 1/2). It must be chosen
        beforehand; a wrong guess costs width, not validity.

    References
    ----------
    Robbins (1970), Statistical methods related to the law of the iterated logarithm, Ann. Math. Stat. 41(5).

    Examples
    --------
    >>> low, high = rate_interval(0, 1000, alpha=0.05)
    >>> low, round(high, 4)
    (0.0, 0.0049)
    """
    _check_counts(bad, total - bad)
    if not 0 < alpha < 1 or not 0 < typical < 1:
        raise InputError("alpha and the typical rate must be inside (0, 1)", got=f"{alpha!r}, {typical!r}")
    if total == 0:
        return 0.0, 1.0
    a = 0.5
    b = max(0.5, a / typical - a)
    evidence = log_beta(a + bad, b + total - bad) - log_beta(a, b) + math.log(alpha)

    def kept(rate: float) -> bool:
        return evidence < _log_binomial(bad, total - bad, rate)

    seen = bad / total
    low = 0.0 if bad == 0 else _edge(kept, inside=seen, outside=0.0)
    high = 1.0 if bad == total else _edge(kept, inside=seen, outside=1.0)
    return low, high


def excess_bound(
    canary: tuple[int, int], champion: tuple[int, int], *, alpha: float = 0.05, typical: float = 0.02
) -> float:
    """An upper confidence sequence for how much higher the canary's rate of bad events is than the champion's.

    Promote when it is below the margin that is tolerated; it may be read at every tick. The canary's upper limit at
    ``0.8 alpha`` less the champion's lower limit at ``0.2 alpha``: the arm with less traffic gets most of the error.
    Unlike :class:`ShareTest` it assumes that each arm's rate holds still.

    Parameters
    ----------
    canary, champion
        ``(bad, total)``, cumulative since the step began.

    Examples
    --------
    >>> round(excess_bound((76, 3800), (1444, 72200)), 3)
    0.011
    """
    upper = rate_interval(*canary, alpha=0.8 * alpha, typical=typical)[1]
    lower = rate_interval(*champion, alpha=0.2 * alpha, typical=typical)[0]
    return upper - lower


def split_e_value(canary: int, champion: int, share: float, *, concentration: float = 100.0) -> float:
    """Evidence that traffic is not split as declared (sample ratio mismatch), from cumulative answers of both arms.

    Check it first: a broken split makes every other comparison worthless. Stop and look when it reaches ``1 / alpha``
    (alpha of 0.001 is customary, because the cause is a fault, not chance).

    Parameters
    ----------
    share
        The canary's declared share.
    concentration
        How near the declared split the alternative lies: Beta(concentration · share, concentration · (1 - share)).

    References
    ----------
    Lindon and Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS.

    Examples
    --------
    >>> split_e_value(1000, 9000, 0.1) < 1 < 1000 < split_e_value(1200, 8800, 0.1)
    True
    """
    _check_counts(canary, champion)
    _check_share(share)
    a, b = concentration * share, concentration * (1 - share)
    mixture = log_beta(a + canary, b + champion) - log_beta(a, b)
    return math.exp(min(700.0, mixture - _log_binomial(canary, champion, share)))


def weekly_limit(
    reference_weeks: Sequence[float], level: float, *, alpha: float = 0.01, level_weeks: float = 1.0
) -> float:
    """The mean loss of one week above which quality has dropped: a one-sided prediction limit.

    ``level + t(1 - alpha, m - 1) · sd · sqrt(1 + 1 / level_weeks)``: weeks inside the training window say how much
    weeks differ (their losses are too low, so they cannot give the level); weeks after it say what is normal.

    Parameters
    ----------
    reference_weeks
        Mean losses of m >= 2 weeks, for the spread.
    level
        Mean loss over the out-of-sample weeks, and ``level_weeks`` how many weeks that mean holds (a fraction for
        less than one, as 5 / 7).
    alpha
        The chance of a false alarm in one week, if weekly losses are independent and normal with one variance inside
        and outside the training window. Weeks that resemble their neighbours alarm more often; a test simulates it.

    Raises
    ------
    InputError
        For fewer than two reference weeks: one week has no spread.

    References
    ----------
    Hahn and Meeker, Statistical Intervals, 1991, §4.7: prediction limit for a future mean.

    Examples
    --------
    >>> round(weekly_limit([0.46, 0.47, 0.45, 0.46, 0.48, 0.44, 0.46, 0.46], 0.48), 3)
    0.531
    """
    weeks = np.asarray(reference_weeks, dtype=np.float64)
    if len(weeks) < 2 or not np.isfinite(weeks).all() or not math.isfinite(level):
        raise InputError(
            "a weekly limit needs at least two reference weeks with a loss, and a level",
            got=f"{len(weeks)} weeks, level {level!r}",
            hint="train on a longer span",
        )
    if level_weeks <= 0:
        raise InputError("the level must come from some weeks", got=repr(level_weeks))
    spread = float(weeks.std(ddof=1))
    return level + t_quantile(1 - alpha, len(weeks) - 1) * spread * math.sqrt(1 + 1 / level_weeks)


def _mixture(logs: Sequence[float], weights: Floats) -> float:
    """The weighted mean of exponentials, capped at e^700 so that it stays a number JSON can carry."""
    top = max(logs)
    mean = sum(weight * math.exp(log - top) for log, weight in zip(logs, weights.tolist(), strict=True))
    return math.exp(min(700.0, top + math.log(mean)))


def _share_at(share: float, ratio: float) -> float:
    return share * ratio / (share * ratio + 1 - share)


def _log_binomial(bad: int, good: int, rate: float) -> float:
    """Log likelihood without the binomial coefficient; 0 log 0 is 0."""
    if (bad and rate <= 0) or (good and rate >= 1):
        return -math.inf
    return (bad * math.log(rate) if bad else 0.0) + (good * math.log1p(-rate) if good else 0.0)


def _edge(kept: Callable[[float], bool], *, inside: float, outside: float) -> float:
    for _ in range(50):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if kept(middle) else (inside, middle)
    return outside


def _check_counts(*counts: int) -> None:
    if any(count < 0 for count in counts):
        raise InputError("a count below zero", got=repr(counts), hint="pass cumulative counts of one step")


def _check_share(share: float) -> None:
    if not 0 < share < 1:
        raise InputError("a share must be inside (0, 1)", got=repr(share))
