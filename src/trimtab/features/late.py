"""Windows along event time among what was known: a two-dimensional question.

Which rows between two places in known order happened at or after some time? Rows are kept in blocks of 2**k, each
sorted by time; a range of rows is a few whole blocks, and in a block the rows that count are its tail. Levels are made
one at a time from the one before, so memory stays at a few times the columns, and a hot key costs no more than a cold
one (the merge-sort tree of computational geometry, level by level).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Numbers = NDArray[Any]


def fold_since(
    when: Ints,
    columns: Sequence[tuple[np.ufunc, Numbers, float]],
    ranges: Sequence[tuple[Ints, Ints, Ints]],
) -> list[list[Numbers]]:
    """Fold columns over the rows of each range that happened at or after each query's start.

    Parameters
    ----------
    when
        Time of each row, shape (n,).
    columns
        Triples of an operation (``np.add``, ``np.minimum``, ``np.maximum``), a column of shape (n,), and the result
        for no row.
    ranges
        Triples of first row, row after the last, and start time; shapes (q,).

    Returns
    -------
    list
        For each range the folded columns, each of shape (q,) in the column's type.

    Examples
    --------
    >>> when, one = np.array([5, 1, 9]), np.ones(3, np.int64)
    >>> low, high, start = np.array([0, 1]), np.array([3, 3]), np.array([5, 0])
    >>> [folded.tolist() for folded in fold_since(when, [(np.add, one, 0)], [(low, high, start)])[0]]
    [[2, 2]]
    """
    moments = np.sort(when)
    rank = moments.searchsorted(when)
    out = [[_full(len(low), nothing, column) for _, column, nothing in columns] for low, _, _ in ranges]
    wanted = [moments.searchsorted(start) for _, _, start in ranges]
    lefts: list[Ints] = [low.copy() for low, _, _ in ranges]
    rights: list[Ints] = [np.maximum(high, low) for low, high, _ in ranges]
    for level, keys, order in _levels(rank, lefts, rights):
        folded = [_tails(operation, column, order, level, nothing) for operation, column, nothing in columns]
        for window, (left, right) in enumerate(zip(lefts, rights, strict=True)):
            for blocks, chosen in _edge_blocks(left, right):
                at = keys.searchsorted(blocks * len(rank) + wanted[window][chosen])
                inside = at < (blocks + 1) << level
                rows, at = chosen[inside], at[inside]
                for column, (operation, _, _) in enumerate(columns):
                    out[window][column][rows] = operation(out[window][column][rows], folded[column][at])
        for ends in (*lefts, *rights):
            np.right_shift(ends, 1, out=ends)
    return out


def _levels(rank: Ints, lefts: list[Ints], rights: list[Ints]) -> Iterator[tuple[int, Ints, Ints]]:
    """Yield level, ``block * n + rank`` in ascending order, and the rows in that order, while a range needs more."""
    n, level = len(rank), 0
    order: Ints = np.arange(n, dtype=np.int64)
    while any(bool((left < right).any()) for left, right in zip(lefts, rights, strict=True)):
        keys = (order >> level) * n + rank[order]
        resort = np.argsort(keys, kind="stable")  # two sorted runs per block: one merge
        order = order[resort]
        yield level, keys[resort], order
        level += 1


def _tails(operation: np.ufunc, column: Numbers, order: Ints, level: int, nothing: float) -> Numbers:
    """The fold from each sorted row to the end of its block."""
    size = 1 << level
    padded = _full(-(-len(order) // size) * size, nothing, column)
    padded[: len(order)] = column[order]
    folded: Numbers = operation.accumulate(padded.reshape(-1, size)[:, ::-1], axis=1)[:, ::-1].reshape(-1)
    return folded


def _full(length: int, nothing: float, like: Numbers) -> Numbers:
    return np.full(length, nothing, like.dtype)


def _edge_blocks(left: Ints, right: Ints) -> Iterator[tuple[Ints, Ints]]:
    """The blocks of this level that a range takes whole, with the queries that take them; moves the ends inward."""
    chosen = np.flatnonzero((left < right) & (left & 1 == 1))
    yield left[chosen], chosen
    left[chosen] += 1
    chosen = np.flatnonzero((left < right) & (right & 1 == 1))
    right[chosen] -= 1
    yield right[chosen], chosen
