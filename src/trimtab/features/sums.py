"""Exact sums, and smallest and greatest values, over many ranges of sorted rows at once.

A sum over a window must not be the difference of two running sums of floats: one early 1e17 would spoil every later
window. Here a float column is first cut into *limbs*, int64 numbers that together hold every bit of it. Running sums
of int64 are exact, so their differences are too, and a window costs the same whether its key is hot or not. The
result is the exact sum, rounded to float64 within a few units in the last place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Range = tuple[Ints, Ints]
"""First row and the row after the last, for each query; shapes (q,)."""


def limbs(values: NDArray[np.generic]) -> Iterator[tuple[int, Ints]]:
    """Cut a column into int64 limbs whose running sums cannot overflow, lowest first.

    Yields ``(exponent, limb)`` with ``sum(limb * 2**exponent) == values`` exactly. Values must be finite.

    Examples
    --------
    >>> [(exponent, limb.tolist()) for exponent, limb in limbs(np.array([3.0, -4.0]))]
    [(0, [3, -4])]
    """
    width = 61 - len(values).bit_length()
    if values.dtype.kind in "bui":
        whole = values.astype(np.int64)
        if not len(whole) or max(int(whole.max()), -int(whole.min())) < 1 << width:
            yield 0, whole
        else:
            yield 0, whole & 0xFFFFFFFF
            yield 32, whole >> 32
        return
    rest = values.astype(np.float64)
    size = float(np.abs(rest).max(initial=0.0))
    if size < 2.0 ** min(width, 52) and bool((np.rint(rest) == rest).all()):
        yield 0, rest.astype(np.int64)
        return
    _, exponents = np.frexp(rest[rest != 0.0])
    low, high = max(int(exponents.min()) - 53, -1074), int(exponents.max())
    while low < high:
        # What is left is a multiple of 2**low: take its remainder modulo 2**(low + width), balanced around zero.
        if low + width >= high:
            yield low, np.ldexp(rest, -low).astype(np.int64)
            return
        with np.errstate(over="ignore"):
            scaled = np.ldexp(rest, -low - width)
        upper = np.where(np.isfinite(scaled), np.ldexp(np.rint(scaled), low + width), rest)
        yield low, np.ldexp(rest - upper, -low).astype(np.int64)
        rest, low = upper, low + width


class Total:
    """Puts window sums of limbs together again, one window per range."""

    def __init__(self, windows: int, queries: int) -> None:
        self._carry: Ints = np.zeros((windows, queries), np.int64)
        self._value: Floats = np.zeros((windows, queries))
        self._exponent: int | None = None

    def add(self, exponent: int, sums: Ints) -> None:
        """Add the sums of the next limb, shape (windows, queries)."""
        if self._exponent is not None:
            step = exponent - self._exponent
            # Balanced digits: the rest below the leading digit is at most half of it, so nothing cancels in floats.
            carry = (self._carry + (1 << (step - 1))) >> step
            self._collect(self._carry - (carry << step))
            sums = sums + carry
        self._carry, self._exponent = sums, exponent

    def value(self) -> Floats:
        """The sums, shape (windows, queries)."""
        if self._exponent is not None:
            self._collect(self._carry)
        self._exponent = None
        return self._value

    def _collect(self, digits: Ints) -> None:
        assert self._exponent is not None
        with np.errstate(over="ignore"):  # a sum beyond float64 is an infinity
            self._value += np.ldexp(digits.astype(np.float64), self._exponent)


def range_sums(values: NDArray[np.generic], ranges: Sequence[Range]) -> Floats:
    """The exact sum over each range, rounded to float64; shape (ranges, queries).

    Examples
    --------
    >>> low, high = np.array([0, 1]), np.array([3, 3])
    >>> range_sums(np.array([1e17, 0.25, 0.5]), [(low, high)]).tolist()
    [[1e+17, 0.75]]
    """
    total = Total(len(ranges), len(ranges[0][0]))
    for exponent, limb in limbs(values):
        total.add(exponent, limb_sums(limb, ranges))
    return total.value()


def limb_sums(limb: Ints, ranges: Sequence[Range]) -> Ints:
    """Sums of int64 over each range, shape (ranges, queries); wraps around past 64 bits."""
    running = np.zeros(len(limb) + 1, np.int64)
    np.cumsum(limb, out=running[1:])
    return np.stack([running[high] - running[low] for low, high in ranges])


def range_extremes(values: Floats, ranges: Sequence[Range], *, greatest: bool) -> Floats:
    """The smallest or greatest value in each range, shape (ranges, queries); an infinity for an empty one.

    A sparse table, made and used one level at a time: level k holds the extreme of 2**k rows from each row on, and
    a range is covered by two overlapping pieces of the level that fits it. Memory stays at a few times the column.
    """
    pick = np.maximum if greatest else np.minimum
    out = np.full((len(ranges), len(ranges[0][0])), -np.inf if greatest else np.inf)
    lengths = np.stack([high - low for low, high in ranges])
    levels = np.where(lengths > 0, np.frexp(lengths.astype(np.float64))[1] - 1, -1)
    table = values
    for level in range(int(levels.max(initial=-1)) + 1):
        for window, (low, high) in enumerate(ranges):
            here = np.flatnonzero(levels[window] == level)
            out[window, here] = pick(table[low[here]], table[high[here] - (1 << level)])
        step = 1 << level
        table = pick(table[:-step], table[step:]) if len(table) > step else table
    return out
