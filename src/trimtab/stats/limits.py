"""Prediction limits: up to where is one more observation still plausible?"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trimtab.errors import InputError
from trimtab.stats.tails import t_quantile


def prediction_limit(reference: Sequence[float], level: Sequence[float], *, alpha: float) -> float:
    """The value that one more observation exceeds with chance ``alpha``, its level and its spread known apart.

    ``mean(level) + t(1 - alpha, df) * spread * sqrt(1 + 1 / len(level))``, where the spread is pooled over both
    samples and ``df = len(reference) - 1 + len(level) - 1``. Exact for independent normal observations of one variance.

    Parameters
    ----------
    reference
        Observations that say how much observations differ; their mean is not used, since it may be biased.
    level
        Observations that say where they lie; they count for the spread too.

    Raises
    ------
    InputError
        When a value is not finite, there is no level, or nothing to take a spread from.

    References
    ----------
    Hahn and Meeker, Statistical Intervals, 1991, section 4.7: prediction limit for a future mean.

    Examples
    --------
    >>> round(prediction_limit([0.44, 0.46, 0.45, 0.43, 0.47, 0.45], [0.46, 0.47], alpha=0.01), 3)
    0.516
    """
    df = len(reference) - 1 + len(level) - 1
    if not (reference and level) or df < 1 or not all(map(math.isfinite, (*reference, *level))):
        raise InputError(
            "a prediction limit needs finite values of a reference and a level, three in all",
            got=f"{len(reference)} and {len(level)}",
            hint="leave out what is missing",
        )
    centre = sum(level) / len(level)
    spread = math.sqrt((_sum_of_squares(reference) + _sum_of_squares(level)) / df)
    return centre + t_quantile(1 - alpha, df) * spread * math.sqrt(1 + 1 / len(level))


def _sum_of_squares(values: Sequence[float]) -> float:
    centre = sum(values) / len(values)
    return sum((value - centre) ** 2 for value in values)
