"""When is a champion's week worse than its own past makes plausible?

The rule. A champion's *level* is what it showed on data it did not learn from: its held-out tail, and its own first
two matured weeks live (each joins only if it was itself plausible). Its *spread* is how much weeks differ: among the
weeks of its training window (their mean is optimistic, their differences are not), pooled with the differences among
the level weeks. A week is a drop when its loss is above the one-sided prediction limit for one more week::

    limit = mean(level) + t(1 - alpha, df) * spread * sqrt(1 + 1 / len(level)),  df = n_reference - 1 + n_level - 1

If weeks are exchangeable and roughly normal, the chance of a false alarm is ``alpha`` in any one week: at the default
0.01, one in about two years for a model. Weeks that depend on each other (seasons) make it more often; cooldown and
budget bound what that costs. With fewer than four reference weeks there is no limit and the answer is
``insufficient_data``, never ``ok``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from trimtab.errors import InputError

LEVEL_WEEKS = 2
"""Live weeks that join the level."""
LEAST_REFERENCE = 4
LEAST_LABELS = 100
"""A week with fewer labels is not judged."""


def weekly_limit(reference_weeks: Sequence[float], level: Sequence[float], *, alpha: float) -> float | None:
    """The loss above which a week is a drop; None when the reference is too short to say.

    Parameters
    ----------
    reference_weeks
        Mean loss of each week of the training window; only their spread is used.
    level
        Mean loss on the held-out tail, then of the first live weeks that were plausible.
    alpha
        Chance of a false alarm in one week.

    Examples
    --------
    >>> round(weekly_limit([0.44, 0.46, 0.45, 0.43, 0.47, 0.45], [0.46, 0.47], alpha=0.01), 3)
    0.516
    """
    reference = [week for week in reference_weeks if math.isfinite(week)]
    levels = [value for value in level if math.isfinite(value)]
    if len(reference) < LEAST_REFERENCE or not levels:
        return None
    centre = sum(levels) / len(levels)
    df = len(reference) - 1 + len(levels) - 1
    spread = math.sqrt((_sum_of_squares(reference) + _sum_of_squares(levels)) / df)
    return centre + t_quantile(1 - alpha, df) * spread * math.sqrt(1 + 1 / len(levels))


def t_quantile(p: float, df: int) -> float:
    """The ``p`` quantile of Student's t, for ``p > 0.5``; within 0.001 from three degrees of freedom up.

    Hill, "Algorithm 396: Student's t-quantiles", Communications of the ACM 13, 1970.

    Examples
    --------
    >>> round(t_quantile(0.99, 7), 3)
    2.998
    """
    if not 0.5 < p < 1 or df < 3:
        raise InputError("outside of the range of this quantile", got=f"p={p}, df={df}", hint="0.5 < p < 1, df >= 3")
    two_sided = 2 * (1 - p)
    a = 1 / (df - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * df
    y = (d * two_sided) ** (2 / df)
    if y > a + 0.05:
        x = NormalDist().inv_cdf(two_sided / 2)
        y = x * x
        if df < 5:
            c += 0.3 * (df - 4.5) * (x + 0.6)
        c += (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        y = ((1 / (((df + 6) / (df * y) - 0.089 * d - 0.822) * (df + 2) * 3) + 0.5 / (df + 4)) * y - 1) * (df + 1) / (
            df + 2
        ) + 1 / y
    return math.sqrt(df * y)


def _sum_of_squares(values: Sequence[float]) -> float:
    centre = sum(values) / len(values)
    return sum((value - centre) ** 2 for value in values)
