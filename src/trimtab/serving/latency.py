"""Durations as counts in fixed buckets: they merge by addition, and give percentiles with a known error.

**Buckets.** Log-spaced from 1 µs to 100 s: 1 µs wide below 16 µs, and at most 1/16 of their lower bound above. A value
read back as the middle of its bucket is within 3.2 % of the truth; a percentile is placed inside its bucket by rank, so
it is within 6.25 %, mostly much nearer. All bounds that Prometheus is shown, such as 0.005 or 0.1 s, are bounds here
too, so nothing is lost between the two. A bucket holds what is above the bound before and up to its own.

**Cost.** A bucket is found by one look into a table: by microsecond below 16.384 ms, by millisecond up to 1 s.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

SHOWN = (
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 75_000, 100_000, 250_000, 500_000, 750_000, 1_000_000,
    2_500_000, 5_000_000, 7_500_000, 10_000_000,
)  # fmt: skip
"""Bounds that are shown outside, in microseconds: those of OpenTelemetry for requests, and five below them."""

_FINE, _COARSE, _LONGEST = 16_384, 1_000_000, 100_000_000


def _bounds() -> tuple[int, ...]:
    found, shown = [1], [*SHOWN, _LONGEST]
    while found[-1] < _LONGEST:
        last = found[-1]
        following = max(last * 17 // 16, last + 1)
        if following >= _FINE:  # whole milliseconds, so that a table of them suffices
            following = max(following // 1000, last // 1000 + 1) * 1000
        if shown[0] <= last:
            shown.pop(0)
        found.append(min(following, shown[0]))
    return tuple(found)


BOUNDS = _bounds()
"""Upper bounds of the buckets in microseconds; one more bucket holds what took longer."""
BUCKETS = len(BOUNDS) + 1
FINE_US = _FINE
FINE = [bisect_left(BOUNDS, us) for us in range(_FINE)]
"""Bucket by microsecond, below :data:`FINE_US`; those of longer durations by :func:`bucket`."""
_BY_MS = [bisect_left(BOUNDS, ms * 1000) for ms in range(_COARSE // 1000 + 1)]


def bucket(us: int) -> int:
    """The bucket of a duration in whole microseconds.

    Examples
    --------
    >>> BOUNDS[bucket(100_000)], BOUNDS[bucket(100_001)] > 100_001, bucket(10**12) == BUCKETS - 1
    (100000, True, True)
    """
    if us < _FINE:
        return FINE[us] if us > 0 else 0
    return _BY_MS[(us + 999) // 1000] if us <= _COARSE else bisect_left(BOUNDS, us)


def quantile(counts: Sequence[int], q: float) -> float:
    """The duration in microseconds below which a share ``q`` of the counted lies; NaN when nothing was counted.

    Within its bucket a value is placed by its rank. What took longer than the last bound counts as that bound.

    Examples
    --------
    >>> counts = [0] * BUCKETS
    >>> for us in range(1, 10_001):
    ...     counts[bucket(us)] += 1
    >>> abs(quantile(counts, 0.99) / 9_900 - 1) < 0.0625
    True
    """
    total = sum(counts)
    if not total:
        return math.nan
    rank = max(q * total, 1e-9)
    below = 0
    for at, count in enumerate(counts):
        if count and below + count >= rank:
            if at >= len(BOUNDS):
                return float(BOUNDS[-1])
            low = BOUNDS[at - 1] if at else 0
            return low + (BOUNDS[at] - low) * (rank - below) / count
        below += count
    return float(BOUNDS[-1])


def share_above(counts: Sequence[int], us: float) -> float:
    """The share of the counted that took longer than ``us``, to the bucket; NaN when nothing was counted.

    Examples
    --------
    >>> counts = [0] * BUCKETS
    >>> counts[bucket(100_000)] = 3
    >>> counts[bucket(100_001)] = 1
    >>> share_above(counts, 100_000)
    0.25
    """
    total = sum(counts)
    return sum(counts[bisect_left(BOUNDS, us) + 1 :]) / total if total else math.nan


def shown_counts(counts: Sequence[int]) -> list[int]:
    """How many took at most each of :data:`SHOWN`, and at last all: cumulative, as Prometheus wants them."""
    running, cumulative = 0, []
    start = 0
    for bound in SHOWN:
        stop = bisect_left(BOUNDS, bound) + 1
        running += sum(counts[start:stop])
        cumulative.append(running)
        start = stop
    return [*cumulative, running + sum(counts[start:])]
