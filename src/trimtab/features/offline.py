"""Window and latest parts computed for many requests at once; :mod:`trimtab.features.history` calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.core.ports import Columns
from trimtab.errors import SchemaError
from trimtab.features.keys import Grouping, group
from trimtab.features.late import fold_since
from trimtab.features.plan import LatestPart, WindowPart
from trimtab.features.sums import Total, limb_sums, limbs, range_extremes, range_sums
from trimtab.features.views import hop_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a source in known order, and for each request how many of them count and as of when."""

    time: Ints
    known: Ints
    columns: Columns
    limits: Ints
    """For each request, rows at positions below this count; shape (q,)."""
    as_of: Ints
    """The time each request is answered as of, never before the last row that counts; shape (q,)."""


class Folds(Protocol):
    """Aggregates of columns (in sorted order) over all windows of a part; results of shape (windows, queries)."""

    def sums(self, values: NDArray[np.generic]) -> Floats:
        """Exact sums, rounded to float64."""
        ...

    def extremes(self, values: Floats, *, greatest: bool) -> Floats:
        """Smallest or greatest values; an infinity for nothing."""
        ...


def window_values(part: WindowPart, rows: Rows, keys: NDArray[np.generic]) -> tuple[Ints, list[Floats]]:
    """The features of a window part.

    Parameters
    ----------
    keys
        The requests' entity keys, shape (q,).

    Returns
    -------
    tuple
        Which request each result belongs to, and the feature columns in the order of ``part.names()``; shapes (q,).
    """
    grouping = group([rows.columns[part.entity]], [keys], rows.limits)
    folds = _known_folds(part, rows, grouping) if part.along == "known" else _time_folds(part, rows, grouping)
    declared = zip(part.aggregates, part.kinds, strict=True)
    table = {column: _column(rows.columns, column, kind) for (_, column), kind in declared}
    sums: dict[str, Floats] = {}
    counts: dict[str, Floats] = {}
    everything = folds.sums(np.ones(len(grouping.order), bool))

    def sum_of(column: str) -> Floats:
        if column not in sums:
            values, present = table[column]
            sums[column] = folds.sums((values if present is None else np.where(present, values, 0.0))[grouping.order])
        return sums[column]

    def count_of(column: str) -> Floats:
        present = table[column][1]
        if present is None:
            return everything
        if column not in counts:
            counts[column] = folds.sums(present[grouping.order])
        return counts[column]

    def aggregate(aggregation: str, column: str) -> Floats:
        if aggregation == "count":
            return everything
        if aggregation == "sum":
            return sum_of(column)
        if aggregation == "mean":
            count = count_of(column)
            return np.divide(sum_of(column), count, out=np.full_like(count, np.nan), where=count > 0)
        values, present = table[column]
        nothing = np.inf if aggregation == "min" else -np.inf
        filled = values.astype(np.float64) if present is None else np.where(present, values, nothing)
        found = folds.extremes(filled[grouping.order], greatest=aggregation == "max")
        return np.where(np.isinf(found), np.nan, found)

    wide = [aggregate(aggregation, column) for aggregation, column in part.aggregates]
    return grouping.back, [column[window] for window in range(len(part.over)) for column in wide]


def latest_values(part: LatestPart, rows: Rows, keys: Sequence[NDArray[np.generic]]) -> tuple[Ints, list[Floats]]:
    """The features of a latest part; as :func:`window_values`."""
    grouping = group([rows.columns[name] for name in part.keys], keys, rows.limits)
    end = grouping.below(rows.limits[grouping.back])
    seen = end > grouping.below(np.zeros(len(end), np.int64))
    if not len(grouping.order):
        return grouping.back, [np.full(len(end), np.nan) for _ in part.columns]
    newest = grouping.order[_newest(rows.time[grouping.order], grouping.starts())[np.where(seen, end - 1, 0)]]
    if part.ttl > 0:
        seen &= rows.as_of[grouping.back] - rows.time[newest] <= part.ttl
    return grouping.back, [
        np.where(seen, np.asarray(rows.columns[name], np.float64)[newest], np.nan) for name in part.columns
    ]


def _newest(time: Ints, starts: NDArray[np.bool_]) -> Ints:
    """For each sorted row the row with the greatest time so far in its key; of equal ones the later row."""
    index = np.arange(len(time))
    if bool((starts[1:] | (time[1:] >= time[:-1])).all()):
        return index
    rank = np.unique(time, return_inverse=True)[1]
    score = np.cumsum(starts) * len(time) + rank  # a later key beats every earlier one, so the scan never looks back
    best = np.maximum.accumulate(score)
    return np.maximum.accumulate(np.where(score == best, index, 0))


def _column(columns: Columns, name: str, kind: str) -> tuple[NDArray[np.generic], NDArray[np.bool_] | None]:
    """A column and where it is present (None: everywhere). A value that is not finite counts as missing."""
    if kind == "*":
        return np.zeros(0), None
    values = columns[name]
    if values.dtype.kind in "bi":
        return values, None
    if values.dtype.kind != "f" or kind == "int":
        raise SchemaError(f"column {name!r} cannot be aggregated as {kind}", got=str(values.dtype))
    present = np.isfinite(values)
    return values, None if bool(present.all()) else present


def _ranges(part: WindowPart, rows: Rows, grouping: Grouping) -> tuple[Ints, list[tuple[Ints, Ints]]]:
    """Where each query's rows end, and for each window its start in time and its first row in known order."""
    limits, as_of = rows.limits[grouping.back], rows.as_of[grouping.back]
    starts = [(as_of - length) // hop_of(length) * hop_of(length) for length in part.over]
    return limits, [(start, np.minimum(rows.known.searchsorted(start), limits)) for start in starts]


@dataclass(frozen=True, slots=True)
class _KnownFolds:
    """Windows along known time: each is one range of a key's rows."""

    ranges: list[tuple[Ints, Ints]]

    def sums(self, values: NDArray[np.generic]) -> Floats:
        return range_sums(values, self.ranges)

    def extremes(self, values: Floats, *, greatest: bool) -> Floats:
        return range_extremes(values, self.ranges, greatest=greatest)


def _known_folds(part: WindowPart, rows: Rows, grouping: Grouping) -> Folds:
    limits, windows = _ranges(part, rows, grouping)
    high = grouping.below(limits)
    return _KnownFolds([(grouping.below(first), high) for _, first in windows])


@dataclass(frozen=True, slots=True)
class _TimeFolds:
    """Windows along event time: of the rows that became known in the window only the first can have happened before it.

    A row that became known more than the greatest delay after the window's start also happened in it. So only the
    ``heads`` need to be looked at by time; the ``tails`` count whole.
    """

    when: Ints
    heads: list[tuple[Ints, Ints, Ints]]
    tails: list[tuple[Ints, Ints]]

    def sums(self, values: NDArray[np.generic]) -> Floats:
        pieces = list(limbs(values))
        heads = fold_since(self.when, [(np.add, limb, 0) for _, limb in pieces], self.heads)
        total = Total(len(self.tails), len(self.tails[0][0]))
        for place, (exponent, limb) in enumerate(pieces):
            total.add(exponent, limb_sums(limb, self.tails) + np.stack([head[place] for head in heads]))
        return total.value()

    def extremes(self, values: Floats, *, greatest: bool) -> Floats:
        pick, nothing = (np.maximum, -np.inf) if greatest else (np.minimum, np.inf)
        heads = fold_since(self.when, [(pick, values, nothing)], self.heads)
        tails = range_extremes(values, self.tails, greatest=greatest)
        return np.asarray(pick(tails, np.stack([head[0] for head in heads])), np.float64)


def _time_folds(part: WindowPart, rows: Rows, grouping: Grouping) -> Folds:
    # A row cannot have happened after it was known; one that says so counts from when it was known.
    when = np.minimum(rows.time, rows.known)
    delay = int((rows.known - when).max(initial=0))
    limits, windows = _ranges(part, rows, grouping)
    high = grouping.below(limits)
    heads, tails = [], []
    for start, first in windows:
        whole = grouping.below(np.minimum(rows.known.searchsorted(start + delay), limits))
        heads.append((grouping.below(first), whole, start))
        tails.append((whole, high))
    return _TimeFolds(when[grouping.order], heads, tails)
