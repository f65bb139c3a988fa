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

from trimtab.stats.limits import prediction_limit

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
    return prediction_limit(reference, levels, alpha=alpha)
