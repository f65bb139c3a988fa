"""Entity keys as numbers: rows grouped by key in one sort, and looked up without ever sorting strings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import SchemaError

Ints = NDArray[np.int64]

_ROOM = 1 << 62
"""Codes stay below this, so that int64 never overflows."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Rows of a history sorted by key, then by position; made by :func:`group`.

    ``places`` holds ``code << bits | position`` in ascending order, so a position in a key's rows is one
    ``searchsorted``. Queries (one per request) come sorted too, which keeps that search inside the processor's cache.
    """

    order: Ints
    """Position of each sorted row in the history, shape (n,)."""
    places: Ints
    bits: int
    queries: Ints
    """``code << bits`` of each query, negative for a key that no row has; shape (q,), in the order of ``back``."""
    back: Ints
    """Which request each query is, shape (q,)."""

    def below(self, limits: Ints) -> Ints:
        """For each query the index of its key's first sorted row whose position is at least ``limits`` (shape (q,))."""
        return self.places.searchsorted(self.queries + limits)

    def starts(self) -> NDArray[np.bool_]:
        """Where a new key begins among the sorted rows, shape (n,)."""
        codes = self.places >> self.bits
        first = np.ones(len(codes), bool)
        np.not_equal(codes[1:], codes[:-1], out=first[1:])
        return first


def group(rows: Sequence[NDArray[np.generic]], asked: Sequence[NDArray[np.generic]], limits: Ints) -> Grouping:
    """Group rows by one or more key columns and prepare the look-up of the requested keys.

    Parameters
    ----------
    rows
        Key columns of the history, each of shape (n,).
    asked
        The same columns of the requests, each of shape (q,).
    limits
        Only used to order the queries: about where in the history each one ends, shape (q,).
    """
    n = len(rows[0])
    bits = max(n, 1).bit_length()
    codes, wanted, span = _encode(rows, asked)
    if span > _ROOM >> bits:
        codes, wanted, _ = _dense(codes, wanted)
    places = np.sort((codes << bits) | np.arange(n, dtype=np.int64))
    wanted = np.where(wanted < 0, np.int64(-1) << bits, wanted << bits)
    back = np.argsort(wanted + limits)
    return Grouping(places & ((1 << bits) - 1), places, bits, wanted[back], back)


def _encode(rows: Sequence[NDArray[np.generic]], asked: Sequence[NDArray[np.generic]]) -> tuple[Ints, Ints, int]:
    """One number per key, equal exactly for equal keys, and a bound above it; -1 for a requested key of no row."""
    codes, wanted = np.zeros(len(rows[0]), np.int64), np.zeros(len(asked[0]), np.int64)
    span = 1
    for row, ask in zip(rows, asked, strict=True):
        for digits in _digits(row, ask):
            digit, digit_asked, base = digits
            if span * base > _ROOM:  # both below n after this, and n * n fits
                codes, wanted, span = _dense(codes, wanted)
                digit, digit_asked, base = _dense(digit, digit_asked)
            if base == 1:
                wanted = np.where(digit_asked < 0, -1, wanted)
                continue
            codes = codes * base + digit
            wanted = np.where((wanted < 0) | (digit_asked < 0), -1, wanted * base + digit_asked)
            span *= base
    return codes, wanted, span


def _dense(codes: Ints, wanted: Ints) -> tuple[Ints, Ints, int]:
    """Renumber codes without gaps."""
    values, codes = np.unique(codes, return_inverse=True)
    return codes.astype(np.int64), _find(values, wanted), max(len(values), 1)


def _find(values: Ints, wanted: Ints) -> Ints:
    """The index of each wanted value among sorted ``values``, -1 where it is not there."""
    if not len(values):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(values.searchsorted(wanted), len(values) - 1)
    return np.where(values[at] == wanted, at, -1)


def _digits(row: NDArray[np.generic], ask: NDArray[np.generic]) -> list[tuple[Ints, Ints, int]]:
    """A key column as mixed-radix digits: pairs of digits of rows and requests, and their base."""
    if not len(row):
        return [(np.zeros(0, np.int64), np.full(len(ask), -1, np.int64), 1)]
    if row.dtype.kind in "iub" and ask.dtype.kind in "iub":
        return [_shift(row.astype(np.int64), ask.astype(np.int64))]
    if row.dtype.kind == "U" and ask.dtype.kind == "U":
        width = max(row.dtype.itemsize, ask.dtype.itemsize, 4) // 4
        letters, letters_asked = _letters(row, width), _letters(ask, width)
        return [
            _shift(letters[:, place].astype(np.int64), letters_asked[:, place].astype(np.int64))
            for place in range(width)
        ]
    raise SchemaError(
        "keys of rows and requests are of different types",
        got=f"{row.dtype} and {ask.dtype}",
        hint="use str or int for an entity key, the same in every source",
    )


def _shift(row: Ints, ask: Ints) -> tuple[Ints, Ints, int]:
    """Numbers as digits from 0: by their offset where they lie close together, else by rank."""
    low, high = int(row.min()), int(row.max())
    if high - low < 128:  # letters: number only those that occur, so that codes stay small
        present = np.bincount(row - low) > 0
        rank = np.where(present, np.cumsum(present) - 1, -1)
        inside = (ask >= low) & (ask <= high)
        return rank[row - low], np.where(inside, rank[np.where(inside, ask - low, 0)], -1), int(present.sum())
    if high - low < 1 << 32:
        return row - low, np.where((ask >= low) & (ask <= high), ask - low, -1), high - low + 1
    values, codes = np.unique(row, return_inverse=True)
    return codes.astype(np.int64), _find(values, ask), len(values)


def _letters(texts: NDArray[np.generic], width: int) -> NDArray[np.uint32]:
    """The code points of texts, shape (n, width), zero after the end."""
    wide = np.ascontiguousarray(texts.astype(f"<U{width}"))
    return wide.view(np.uint32).reshape(len(texts), width)
