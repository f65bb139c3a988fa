"""Frozen quantile bins: one mergeable count vector per feature, from which every drift distance is computed.

The layout of a count vector is always the same: ``size`` bins, then *unseen* (a value that the reference never had,
only where the reference had few distinct values), then *missing*.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.core.ids import digest
from trimtab.errors import InputError, SchemaError

Counts = NDArray[np.int64]

BINS = 20
"""Target number of bins."""
COARSE = 10
"""Groups that PSI is computed on."""
_SLIVER = 0.01
_CATEGORIES = 200


class Bins(msgspec.Struct, frozen=True, dict=True):
    """How the values of one feature are counted; fixed once, so that counts of different times and arms add up.

    Made by :func:`fit_bins`. A number falls into the interval ``edges[i - 1] < x <= edges[i]``, an infinity into the
    outermost one. NaN is missing, and so is the empty string.
    """

    edges: tuple[float, ...] = ()
    """Ascending; empty for categories."""
    slots: tuple[int, ...] = ()
    """The bin of each of the ``len(edges) + 1`` intervals; ``size`` stands for unseen."""
    categories: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()
    """For each bin the group that it belongs to for PSI, ascending from 0."""

    @property
    def size(self) -> int:
        """Bins, without unseen and missing."""
        return len(self.groups)

    @property
    def width(self) -> int:
        """Length of a count vector."""
        return len(self.groups) + 2

    @property
    def ordered(self) -> bool:
        """Whether the bins lie in an order (numbers), so that a Kolmogorov-Smirnov statistic makes sense."""
        return not self.categories

    @cached_property
    def id(self) -> str:
        """Equal for equal bins: counts with equal ids may be added."""
        return digest(msgspec.to_builtins(self))[:12]

    def place(self, values: NDArray[np.generic]) -> Counts:
        """Where each value is counted: 0 … size - 1, ``size`` for unseen, ``size + 1`` for missing."""
        values = np.asarray(values)
        if values.ndim != 1:
            raise InputError("values to count must be one column", got=f"shape {values.shape}")
        if self.categories:
            return self._place_text(values)
        numbers = _numbers(values)
        placed = np.asarray(self.slots, dtype=np.int64)[np.searchsorted(self.edges, numbers, side="left")]
        placed[np.isnan(numbers)] = self.size + 1
        return placed

    def count(self, values: NDArray[np.generic]) -> Counts:
        """How many values fall where, int64 of shape (width,).

        Raises
        ------
        SchemaError
            When text is given for a number.

        Examples
        --------
        >>> fit_bins(np.array([1.0, 1.0, 2.0])).count(np.array([1.0, 2.0, 2.0, 7.0, np.nan])).tolist()
        [1, 2, 1, 1]
        """
        return np.bincount(self.place(values), minlength=self.width).astype(np.int64)

    def coarse(self, counts: NDArray[np.generic]) -> Counts:
        """Merge a count vector into the groups for PSI (at most :data:`COARSE`), then unseen, then missing."""
        vector = np.asarray(counts, dtype=np.int64)
        if vector.shape != (self.width,):
            raise InputError("counts of other bins", got=f"shape {vector.shape}, bins of width {self.width}")
        groups = self.groups[-1] + 1 if self.groups else 0
        return np.bincount([*self.groups, groups, groups + 1], weights=vector, minlength=groups + 2).astype(np.int64)

    def _place_text(self, values: NDArray[np.generic]) -> Counts:
        text = values.astype(np.str_)
        names = np.asarray(self.categories)
        order = np.argsort(names)
        found = np.minimum(np.searchsorted(names[order], text), len(names) - 1)
        placed = np.where(names[order][found] == text, order[found], self.size).astype(np.int64)
        placed[text == ""] = self.size + 1
        if values.dtype == object:
            placed[[_absent(value) for value in values]] = self.size + 1
        return placed


def fit_bins(values: NDArray[np.generic], *, bins: int = BINS) -> Bins:
    """Choose bins from a reference.

    Numbers get about ``bins`` bins of equal count; a value that holds more than ``1 / bins`` of all rows (zeros,
    sentinels) gets a bin of its own. A number with at most ``bins`` distinct values gets one bin for each, and whatever
    is none of them is unseen. Text gets one bin per category, at most 200; rarer ones count as unseen.

    Parameters
    ----------
    values
        Shape (n,), numbers or text; missing and infinite values are left out.

    Examples
    --------
    >>> fit_bins(np.arange(1000.0)).size
    20
    >>> fit_bins(np.array(["b", "a", "b"])).categories
    ('b', 'a')
    """
    values = np.asarray(values)
    if values.dtype.kind in "USO":
        return _fit_text(values, bins)
    numbers = _numbers(values)
    distinct, counts = np.unique(numbers[np.isfinite(numbers)], return_counts=True)
    if not len(distinct):
        return Bins(edges=(), slots=(0,), groups=(0,))
    if len(distinct) <= bins:
        edges, slots = _points(distinct)
        return Bins(edges=edges, slots=slots, groups=_grouped(counts, merge_to=1 / COARSE))
    cuts = _cuts(distinct, counts, bins)
    edges = tuple(_between(distinct, cut) for cut in cuts)
    masses = np.add.reduceat(counts, [0, *cuts])
    return Bins(edges=edges, slots=tuple(range(len(edges) + 1)), groups=_grouped(masses, merge_to=1 / COARSE))


def _cuts(distinct: NDArray[np.float64], counts: Counts, bins: int) -> list[int]:
    """Positions in ``distinct`` at which a new bin begins, ascending, without 0."""
    total = int(counts.sum())
    heavy = np.flatnonzero(counts * bins > total)
    borders = np.unique([0, *heavy, *(heavy + 1), len(distinct)])
    cumulated = np.concatenate([[0], np.cumsum(counts)])
    light = total - int(counts[heavy].sum())
    spare = max(1, bins - len(heavy))
    cuts: list[int] = []
    for start, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        mass = int(cumulated[end] - cumulated[start])
        if end - start == 1 and counts[start] * bins > total:
            cuts.append(start)
            continue
        # A sliver between two heavy values joins the one before it: a bin of a handful of rows is only noise.
        if mass < _SLIVER * total and start > 0:
            continue
        parts = max(1, round(spare * mass / light))
        targets = cumulated[start] + mass * np.arange(parts) / parts
        cuts.extend((start + np.searchsorted(cumulated[start:end], targets, side="left")).tolist())
    return [cut for cut in sorted(set(cuts)) if 0 < cut < len(distinct)]


def _points(distinct: NDArray[np.float64]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Edges around single values: everything that lies between them is unseen."""
    edges: list[float] = []
    slots: list[int] = []
    unseen = len(distinct)
    for place, value in enumerate(distinct.tolist()):
        # The interval (next lower float64, value] holds the value and nothing else.
        edges += [float(np.nextafter(np.float64(value), -np.inf)), value]
        slots += [unseen, place]
    return tuple(edges), (*slots, unseen)


def _between(distinct: NDArray[np.float64], cut: int) -> float:
    """An edge between two neighbouring values; the lower one, when nothing lies between."""
    below, above = float(distinct[cut - 1]), float(distinct[cut])
    middle = below + (above - below) / 2
    return middle if below < middle < above else below


def _grouped(masses: Counts, *, merge_to: float) -> tuple[int, ...]:
    """Merge neighbours until each group holds about ``merge_to`` of all rows."""
    total = float(masses.sum())
    groups: list[int] = []
    group, held = 0, 0.0
    for place, mass in enumerate(masses.tolist()):
        if place and (held >= merge_to * total * 0.95 or mass >= merge_to * total) and group < COARSE - 1:
            group, held = group + 1, 0.0
        held += mass
        groups.append(group)
    return tuple(groups)


def _fit_text(values: NDArray[np.generic], bins: int) -> Bins:
    present = np.array([value for value in values if not _absent(value)], dtype=np.str_)
    names, counts = np.unique(present, return_counts=True)
    if not len(names):
        return Bins(categories=("",), groups=(0,))
    order = np.lexsort((names, -counts))[:_CATEGORIES]
    masses = counts[order]
    own = int((masses * bins >= counts.sum()).sum())
    own = min(max(own, 1), COARSE - 1)
    groups = tuple(min(place, own) for place in range(len(order)))
    return Bins(categories=tuple(names[order].tolist()), groups=groups)


def _absent(value: object) -> bool:
    return value is None or value == "" or value != value  # noqa: PLR0124 - NaN is the one value unlike itself


def _numbers(values: NDArray[np.generic]) -> NDArray[np.float64]:
    if values.dtype.kind == "M":
        values = values.astype("datetime64[us]").astype(np.int64)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        raise SchemaError("text where the reference has numbers", got=str(values.dtype)) from None


class BinSet:
    """Counts a whole float32 matrix at once, off the request path.

    Parameters
    ----------
    bins
        By feature name, in column order; numbers only.

    Notes
    -----
    Float32 values are compared with the greatest float32 that is not above an edge, which places each exactly where
    :meth:`Bins.place` does. One pass per edge over all columns costs less than a binary search per column.
    """

    def __init__(self, bins: Mapping[str, Bins]) -> None:
        self.bins = dict(bins)
        parts = list(self.bins.values())
        if any(not part.ordered for part in parts):
            raise InputError("a matrix of numbers has no categories", hint="count text columns with Bins.count")
        self.offsets = np.concatenate([[0], np.cumsum([part.width for part in parts])]).astype(np.int64)
        self.width = int(self.offsets[-1])
        self.id = digest([[name, part.id] for name, part in self.bins.items()])[:12]
        sizes = np.array([len(part.edges) for part in parts], dtype=np.int64)
        self._order = np.argsort(-sizes, kind="stable")
        most = int(sizes.max(initial=0))
        # Row e holds the e-th edge of every column that has one; columns are sorted so that these come first.
        self._active = [int((sizes > edge).sum()) for edge in range(most)]
        edges = np.full((most, len(parts)), np.inf, dtype=np.float32)
        table = np.zeros((len(parts), most + 2), dtype=np.int64)
        for row, column in enumerate(self._order.tolist()):
            part = parts[column]
            edges[: len(part.edges), row] = [_float32_below(edge) for edge in part.edges]
            table[row, : len(part.slots)] = np.asarray(part.slots) + self.offsets[column]
            table[row, most + 1] = part.size + 1 + self.offsets[column]
        self._edges = edges[:, :, None]
        self._table = table.ravel()
        self._base = (np.arange(len(parts), dtype=np.int64) * (most + 2))[:, None]
        self._missing = most + 1

    def count(self, values: NDArray[np.float32]) -> Counts:
        """Counts of n rows, int64 of shape (width,): the vectors of all features, one after the other.

        Raises
        ------
        InputError
            When the matrix has another number of columns.
        """
        if values.ndim != 2 or values.shape[1] != len(self._order):
            raise InputError(
                "a matrix of other features", got=f"shape {values.shape}", hint=f"{len(self._order)} columns"
            )
        columns = np.ascontiguousarray(values.T[self._order], dtype=np.float32)
        place = np.zeros(columns.shape, dtype=np.uint8)
        for edge, active in zip(self._edges, self._active, strict=True):
            place[:active] += columns[:active] > edge[:active]
        place[np.isnan(columns)] = self._missing
        return np.bincount(self._table[place + self._base].ravel(), minlength=self.width).astype(np.int64)

    def split(self, counts: Counts) -> dict[str, Counts]:
        """The vector of each feature."""
        return {
            name: counts[start:end]
            for name, start, end in zip(self.bins, self.offsets[:-1], self.offsets[1:], strict=True)
        }


def _float32_below(edge: float) -> np.float32:
    with np.errstate(over="ignore"):
        near = np.float32(edge)
        return near if float(near) <= edge else np.nextafter(near, np.float32(-np.inf))
