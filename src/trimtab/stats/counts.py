"""Counts of bad events on two arms that share the traffic: tests and bounds that may be read at every tick.

They are e-values and confidence sequences (see :mod:`trimtab.stats.betting` for what that means), from the cumulative
counts of a step; the numbers at which to act are the caller's.

=======================  ===========================================================================
:func:`share_e_value`    do bad events fall on the canary more often than its share of traffic says?
:func:`excess_bound`     how much higher may the canary's rate of bad events be?
:func:`split_e_value`    is traffic split as declared? (sample ratio mismatch)
=======================  ===========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable

from trimtab.errors import InputError
from trimtab.stats.tails import log_beta

_RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_LARGEST_LOG = 700.0
"""e to this still is a number that JSON can carry."""


def share_e_value(canary: int, champion: int, share: float) -> float:
    """Evidence that a bad event falls on the canary more often than its share of traffic explains. Exact, one-sided.

    Given that a bad event happened, it fell on the canary with probability ``share`` if both arms are equally bad,
    whatever the rate itself and however it moves through the day. The alternative multiplies the canary's odds by
    1.25 … 10 (a mixture with equal weights). Requests must be assigned at random (by hash), one event counted per unit
    of assignment.

    Parameters
    ----------
    canary, champion
        Bad events on each arm since the step began.
    share
        The canary's share of the answers in this step, in (0, 1).

    Raises
    ------
    InputError
        For a negative count or a share outside (0, 1).

    References
    ----------
    The conditional binomial test of two Poisson rates (Przyborowski and Wilenski, 1940), made sequential by the mixture
    likelihood ratio (Robbins, 1970).

    Examples
    --------
    >>> share_e_value(12, 20, 0.1) > 20
    True
    """
    _check_counts(canary, champion)
    _check_share(share)
    null = _share_at(share, 1.0)
    logs = []
    for ratio in _RATIOS:
        other = _share_at(share, ratio)
        logs.append(canary * math.log(other / null) + champion * math.log((1 - other) / (1 - null)))
    top, weight = max(logs), 1 / len(logs)
    mean = sum(weight * math.exp(log - top) for log in logs)
    return math.exp(min(_LARGEST_LOG, top + math.log(mean)))


def rate_interval(bad: int, total: int, *, alpha: float, typical: float) -> tuple[float, float]:
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
    >>> low, high = rate_interval(0, 1000, alpha=0.05, typical=0.02)
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


def excess_bound(canary: tuple[int, int], champion: tuple[int, int], *, alpha: float, typical: float) -> float:
    """An upper confidence sequence for how much higher the canary's rate of bad events is than the champion's.

    Promote when it is below the margin that is tolerated; it may be read at every tick. The canary's upper limit at
    ``0.8 alpha`` less the champion's lower limit at ``0.2 alpha``: the arm with less traffic gets most of the error.
    Unlike :func:`share_e_value` it assumes that each arm's rate holds still.

    Parameters
    ----------
    canary, champion
        ``(bad, total)``, cumulative since the step began.

    Examples
    --------
    >>> round(excess_bound((76, 3800), (1444, 72200), alpha=0.05, typical=0.02), 3)
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
    return math.exp(min(_LARGEST_LOG, mixture - _log_binomial(canary, champion, share)))


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
