"""Where everything is in an online row; see :mod:`trimtab.features.rows` for what the places mean."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from trimtab.core.clock import Micros
from trimtab.features.views import hop_of

VERSION = 1
LAST = struct.Struct("<q")

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
        self.hops = tuple((ring.hop, ring) for ring in rings)

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
