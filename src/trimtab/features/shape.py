"""Where everything is in an online row; see :mod:`trimtab.features.rows` for what the places mean."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.features.views import hop_of

VERSION = 1
LAST = struct.Struct("<q")

_LARGE = 1 << 62

Row = bytes | bytearray


class Ring(NamedTuple):
    """One ring of a row: tiles of one hop."""

    hop: Micros
    tiles: int
    offset: int
    """Of the totals."""
    extremes: tuple[int, ...]
    """Offsets of the extremes, one ring of float64 each."""


class Shape:
    """Where everything is in a row of given widths; computed once per shape, then only looked up."""

    def __init__(self, widths: Sequence[int], fractions: Sequence[int], hops: dict[Micros, int], extremes: int) -> None:
        self.widths, self.fractions = tuple(widths), tuple(fractions)
        pairs = [number for pair in zip(widths, fractions, strict=True) for number in pair]
        self.code = struct.pack(f"<B{len(pairs)}H", VERSION, *pairs)
        self.whole = not any(fractions)
        self.units = tuple(1 << fraction for fraction in fractions)
        formats = {4: "i", 8: "q"}
        self._slot = struct.Struct("<" + "".join(formats.get(width, f"{width}s") for width in widths))
        self._wide = tuple(place for place, width in enumerate(widths) if width not in formats)
        self.size = self._slot.size
        fields = {4: "<i4", 8: "<i8", 16: [("low", "<u8"), ("high", "<i8")]}
        self._fields = None
        if all(width in fields for width in widths):
            self._fields = np.dtype([(str(place), fields[width]) for place, width in enumerate(widths)])
        # Of one narrow width: all totals are subtracted at once.
        even = {4: "<i4", 8: "<i8"}.get(widths[0]) if len({*widths}) == 1 else None
        self._even = np.dtype(even) if even is not None else None
        self.zero = self.pack([0] * len(self.widths))
        self.last_at = len(self.code)
        self.totals_at = self.last_at + LAST.size
        self.length = self.totals_at + self.size
        places = []
        for tiles in hops.values():
            places.append(self.length)
            self.length += self.size * tiles
        rings = []
        for (hop, tiles), offset in zip(hops.items(), places, strict=True):
            rings.append(Ring(hop, tiles, offset, tuple(self.length + 8 * tiles * place for place in range(extremes))))
            self.length += 8 * tiles * extremes
        self.rings = tuple(rings)
        self.offsets = tuple(places)
        self.hops = tuple((ring.hop, ring) for ring in rings)

    def differences(self, slots: Sequence[bytes], group: int) -> NDArray[np.float64] | None:
        """How far the first slot of each group is above the others of it.

        Parameters
        ----------
        slots
            Whole groups of slots of this shape, one group after another.
        group
            Slots in a group.

        Returns
        -------
        ndarray or None
            float64, shape (groups, group - 1, totals), fractions applied; each exact difference rounded at most twice,
            and once where the width is 4 or 8 bytes. None when numbers are too wide or too large for int64 arithmetic.
        """
        if self._fields is None:
            return None
        if self._even is not None and self.whole:
            even = np.frombuffer(b"".join(slots), self._even).reshape(-1, group, len(self.widths))
            if self.widths[0] == 4 or not bool(((even >= _LARGE) | (even <= -_LARGE)).any()):
                apart: NDArray[np.float64] = (even[:, :1].astype(np.int64) - even[:, 1:]).astype(np.float64)
                return apart
            return None
        table = np.frombuffer(b"".join(slots), self._fields).reshape(-1, group)
        out = np.empty((len(table), group - 1, len(self.widths)))
        for place, (width, fraction) in enumerate(zip(self.widths, self.fractions, strict=True)):
            column = table[str(place)]
            high = column["high"] if width == 16 else column
            if width > 4 and bool(((high >= _LARGE) | (high <= -_LARGE)).any()):
                return None
            if width < 16:
                above = (high[:, :1].astype(np.int64) - high[:, 1:]).astype(np.float64)
            else:
                above = _wide_differences(column["low"], high)
            out[:, :, place] = np.ldexp(above, -fraction) if fraction else above
        return out

    def last_of(self, row: Row) -> Micros:
        """The greatest time in the row."""
        last: Micros = LAST.unpack_from(row, self.last_at)[0]
        return last

    def unpack(self, row: Row, offset: int) -> Sequence[int]:
        """The numbers of the slot at ``offset``."""
        slot = self._slot.unpack_from(row, offset)
        return self._narrowed(slot) if self._wide else slot

    def slots(self, row: Row, offset: int, count: int) -> Iterator[Sequence[int]]:
        """The numbers of ``count`` slots one after another."""
        slots = self._slot.iter_unpack(memoryview(row)[offset : offset + count * self.size])
        return map(self._narrowed, slots) if self._wide else slots

    def pack(self, numbers: Sequence[int]) -> bytes:
        """A slot; raises ``struct.error`` or ``OverflowError`` when a number does not fit."""
        if not self._wide:
            return self._slot.pack(*numbers)
        fields: list[int | bytes] = list(numbers)
        for place in self._wide:
            fields[place] = numbers[place].to_bytes(self.widths[place], "little", signed=True)
        return self._slot.pack(*fields)

    def _narrowed(self, slot: tuple[Any, ...]) -> Sequence[int]:
        numbers = list(slot)
        for place in self._wide:
            numbers[place] = int.from_bytes(numbers[place], "little", signed=True)
        return numbers


def _wide_differences(low: NDArray[np.uint64], high: NDArray[np.int64]) -> NDArray[np.float64]:
    """Differences of 128-bit numbers, from their halves: magnitude first, so that nothing cancels in floats."""
    rest = low[:, :1] - low[:, 1:]
    above = high[:, :1] - high[:, 1:] - (low[:, :1] < low[:, 1:])
    negative = above < 0
    above = np.where(negative, ~above + (rest == 0), above)
    rest = np.where(negative, -rest, rest)
    size = np.ldexp(above.astype(np.float64), 64) + rest
    return np.asarray(np.where(negative, -size, size), np.float64)


def rings_of(over: Sequence[Micros]) -> dict[Micros, int]:
    """The tiles that the windows of each hop need: from the tile in which one starts to the newest."""
    hops: dict[Micros, int] = {}
    for length in over:
        hop = hop_of(length)
        hops[hop] = max(hops.get(hop, 0), -(-length // hop) + 1)
    return hops


@lru_cache(maxsize=256)
def starts_of(over: tuple[Micros, ...], as_of: Micros) -> tuple[tuple[Micros, int, int, int], ...]:
    """For each window, answered as of a time: its first instant, its first tile, its ring and its place there."""
    hops = rings_of(over)
    starts = []
    for length in over:
        hop = hop_of(length)
        tile = (as_of - length) // hop
        starts.append((tile * hop, tile, list(hops).index(hop), tile % hops[hop]))
    return tuple(starts)
