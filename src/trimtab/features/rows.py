"""The bytes of an online row: rings of tiles, one ring per hop, updated and read without unpacking the row.

A row belongs to one key of one window part. Along known time it keeps, for each tile of each hop, the running totals
at the tile's start: a window is then one subtraction of exact integers, whatever its length. Along event time, where a
late row lands in an old tile, it keeps the sum of each tile. Smallest and greatest values are kept per tile in both.

Totals are exact: a float enters as an integer multiple of ``2**-fraction``, and a row's numbers are as wide, and its
fractions as fine, as the values that it has seen need. So no value can poison a later one.

::

    row     version: u8, then per total its width in bytes and its fraction bits: u16 each   ("shape")
            last: i64, the greatest time seen
            totals, then per hop a ring of totals, then per hop and extreme a ring of float64
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.errors import IntegrityError
from trimtab.features.additions import Addition, accumulators
from trimtab.features.plan import WindowPart
from trimtab.features.shape import LAST, VERSION, Ring, Shape, rings_of, starts_of

_NAN = float("nan")
_STEP = 32
"""Fraction bits are given in steps, so that a row seldom has to be written anew with finer ones."""


_DOUBLE = struct.Struct("<d")
_NOTHING = {"min": math.inf, "max": -math.inf}


class WindowRows:
    """Reads and writes the online rows of one window part."""

    def __init__(self, part: WindowPart) -> None:
        self.part = part
        self.keeps = accumulators(part)
        self._hops = rings_of(part.over)
        self._running = part.along == "known"
        self._program = [(what == "mean", which, present) for what, which, present in self.keeps.program]
        self._shapes: dict[bytes, Shape] = {}
        self._made: dict[tuple[int, ...], Shape] = {}
        self._narrow = self._shape([4] * len(self.keeps.totals), [0] * len(self.keeps.totals))
        self._code_length = 1 + 4 * len(self.keeps.totals)
        self._fill = [_DOUBLE.pack(_NOTHING[which]) for which, _ in self.keeps.extremes]
        self._nothing = [0.0 if what == "sum" else _NAN for what, _, _ in self.keeps.program]
        self._empty = self._nothing * len(part.over)

    # ---- reading

    def read(self, rows: Sequence[bytes | None], as_of: Sequence[Micros]) -> NDArray[np.float64]:
        """The features of several keys, each answered as of its own time.

        Rows of one shape are read together: their slots are cut out as bytes and subtracted as one array.

        Parameters
        ----------
        rows
            As :meth:`update` made them, for this part or one with equal windows and aggregates; None for no row.
        as_of
            Microseconds, one per row.

        Returns
        -------
        ndarray
            float64, shape (rows, features): windows outside, aggregates inside.
        """
        if not self._running or self.keeps.extremes:
            lines = [self._empty if row is None else self._read_one(row, as_of[at]) for at, row in enumerate(rows)]
            return np.array(lines, np.float64).reshape(len(rows), len(self._empty))
        cut = self._cut(rows, as_of)
        out = np.empty((len(rows), len(self._empty)))
        for shape, (places, slots) in cut.items():
            above = shape.differences(slots, 1 + len(self.part.over))
            if above is not None and len(cut) == 1:
                return self._from_totals(above)
            if above is None:
                out[places] = [self._read_one(rows[at] or b"", as_of[at]) for at in places]
            else:
                out[places] = self._from_totals(above)
        return out

    def _cut(self, rows: Sequence[bytes | None], as_of: Sequence[Micros]) -> dict[Shape, tuple[list[int], list[bytes]]]:
        """For each shape the places of its rows, and their totals and the slot before each window."""
        over, length = self.part.over, self._code_length
        cut: dict[Shape, tuple[list[int], list[bytes]]] = {}
        # What follows from a time and a shape is kept from row to row: those of a batch mostly share both.
        starts: tuple[tuple[Micros, int, int, int], ...] = ()
        offsets: list[tuple[Micros, int]] = []
        before: Micros | None = None
        known: Shape | None = None
        for place, (row, moment) in enumerate(zip(rows, as_of, strict=True)):
            shape = self._narrow if row is None else self._shapes.get(row[:length])
            if shape is None or (row is not None and len(row) != shape.length):
                shape = self._shape_of(row or b"")
            group = cut.get(shape)
            if group is None:
                group = cut[shape] = ([], [])
            group[0].append(place)
            slots = group[1]
            if row is None:
                slots.append(shape.zero * (1 + len(over)))
                continue
            last, at, size = shape.last_of(row), shape.totals_at, shape.size
            totals = row[at : at + size]
            slots.append(totals)
            if moment != before:
                starts, before, known = starts_of(over, moment), moment, None
            if shape is not known:
                offsets, known = [(start, shape.offsets[ring] + tile * size) for start, _, ring, tile in starts], shape
            slots += [totals if start > last else row[at : at + size] for start, at in offsets]
        return cut

    def _from_totals(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Features from the totals of each window, shapes (rows, windows, totals) and (rows, features)."""
        out = np.empty((*sums.shape[:2], len(self._program)))
        with np.errstate(invalid="ignore"):  # the mean of nothing is 0/0, a NaN
            for place, (mean, which, present) in enumerate(self._program):
                if mean:
                    np.divide(sums[:, :, which], sums[:, :, present], out=out[:, :, place])
                else:
                    out[:, :, place] = sums[:, :, which]
        return out.reshape(len(out), -1)

    def _read_one(
        self, row: bytes, as_of: Micros, quotient: Callable[[int, int], float] = operator.truediv
    ) -> list[float]:
        """As :meth:`read`, for one row of any shape and kind."""
        shape = self._shapes.get(row[: self._code_length]) or self._shape_of(row)
        last = shape.last_of(row)
        totals = shape.unpack(row, shape.totals_at)
        units = shape.units
        out: list[float] = []
        try:
            for start, tile, index, place in starts_of(self.part.over, as_of):
                if start > last:
                    out += self._nothing
                    continue
                ring = shape.rings[index]
                if self._running:
                    before = shape.unpack(row, ring.offset + place * shape.size)
                    sums = [*map(operator.sub, totals, before)]
                else:
                    sums = _tile_sums(shape, row, ring, tile, last // ring.hop)
                for what, which, present in self.keeps.program:
                    if what == "sum":
                        out.append(quotient(sums[which], units[which]))
                    elif what == "mean":
                        count = sums[present]
                        out.append(quotient(sums[which], units[which]) / count if count else _NAN)
                    else:
                        out.append(_tile_extreme(row, ring, which, what, (tile, last // ring.hop)))
        except OverflowError:  # a sum beyond float64 is an infinity, as it is offline
            return self._read_one(row, as_of, _infinite)
        return out

    # ---- writing

    def update(self, row: bytes | None, additions: Sequence[Addition]) -> bytes:
        """The row after some source rows of its key, given in known order; ``row`` is None for a new key."""
        if row is None:
            shape = self._fitting(self._narrow, additions, held=[0] * len(self.keeps.totals))
            row = self._blank(shape, additions[0][0])
        else:
            shape = self._shapes.get(row[: self._code_length]) or self._shape_of(row)
        write = self._append if self._running else self._insert
        for added in additions:
            if added[2] is not None and any(map(operator.gt, added[2], shape.fractions)):
                break  # finer than the row
        else:
            try:
                return write(bytearray(row), shape, additions)
            except (struct.error, OverflowError):
                pass  # a total has outgrown its width
        row, shape = self._regrown(row, shape, additions)
        return write(bytearray(row), shape, additions)

    def _append(self, row: bytearray, shape: Shape, additions: Sequence[Addition]) -> bytes:
        """Along known time: totals only change at the end, and each new tile starts from the totals before it."""
        last = shape.last_of(row)
        totals = shape.unpack(row, shape.totals_at)
        for when, numbers, fractions, extremes in additions:
            before = b""
            for hop, ring in shape.hops:
                tile, behind = when // hop, last // hop
                if tile > behind:
                    before = before or shape.pack(totals)
                    _fill_tiles(row, ring.offset, before, ring.tiles, first=behind + 1, last=tile)
                    for offset, nothing in zip(ring.extremes, self._fill, strict=True):
                        _fill_tiles(row, offset, nothing, ring.tiles, first=behind + 1, last=tile)
                if extremes:
                    self._stretch(row, ring, tile, extremes)
            last = when
            added = numbers if shape.whole else _scaled(shape.fractions, numbers, fractions)
            totals = [*map(operator.add, totals, added)]
        LAST.pack_into(row, shape.last_at, last)
        row[shape.totals_at : shape.totals_at + shape.size] = shape.pack(totals)
        return bytes(row)

    def _insert(self, row: bytearray, shape: Shape, additions: Sequence[Addition]) -> bytes:
        """Along event time: each row goes into its tile, unless no later window can reach that far back."""
        last = shape.last_of(row)
        for when, numbers, fractions, extremes in additions:
            added = numbers if shape.whole else _scaled(shape.fractions, numbers, fractions)
            for ring in shape.rings:
                tile, behind = when // ring.hop, last // ring.hop
                if tile > behind:
                    _fill_tiles(row, ring.offset, shape.zero, ring.tiles, first=behind + 1, last=tile)
                    for offset, nothing in zip(ring.extremes, self._fill, strict=True):
                        _fill_tiles(row, offset, nothing, ring.tiles, first=behind + 1, last=tile)
                elif tile <= behind - ring.tiles:
                    continue
                at = ring.offset + tile % ring.tiles * shape.size
                row[at : at + shape.size] = shape.pack([*map(operator.add, shape.unpack(row, at), added)])
                self._stretch(row, ring, tile, extremes)
            last = max(last, when)
        LAST.pack_into(row, shape.last_at, last)
        return bytes(row)

    def _stretch(self, row: bytearray, ring: Ring, tile: int, values: Sequence[float]) -> None:
        """Take values into the extremes of a tile."""
        for value, offset, (which, _) in zip(values, ring.extremes, self.keeps.extremes, strict=True):
            at = offset + tile % ring.tiles * 8
            old = _DOUBLE.unpack_from(row, at)[0]
            if (value < old) if which == "min" else (value > old):  # never for NaN
                _DOUBLE.pack_into(row, at, value)

    # ---- shapes

    def _shape(self, widths: Sequence[int], fractions: Sequence[int]) -> Shape:
        made = self._made.get((*widths, *fractions))
        if made is None:
            made = Shape(widths, fractions, self._hops, len(self.keeps.extremes))
            self._made[(*widths, *fractions)] = self._shapes[made.code] = made
        return made

    def _shape_of(self, row: bytes) -> Shape:
        """The shape of a stored row, from its first bytes."""
        code = row[: self._code_length]
        if len(code) < self._code_length or code[0] != VERSION:
            raise IntegrityError(
                "an online row is not of this version",
                got=f"version {code[0] if code else None}",
                hint="rebuild the online store from the event log",
            )
        numbers = struct.unpack_from(f"<{2 * len(self.keeps.totals)}H", code, 1)
        shape = self._shape(numbers[::2], numbers[1::2])
        if len(row) != shape.length:
            raise IntegrityError("an online row is damaged", got=f"{len(row)} bytes", hint="rebuild the online store")
        return shape

    def _blank(self, shape: Shape, when: Micros) -> bytes:
        """A row without anything in it, whose tiles end at ``when``."""
        row = bytearray(shape.length)
        row[: len(shape.code)] = shape.code
        LAST.pack_into(row, shape.last_at, when)
        for ring in shape.rings:
            for offset, nothing in zip(ring.extremes, self._fill, strict=True):
                row[offset : offset + 8 * ring.tiles] = nothing * ring.tiles
        return bytes(row)

    def _fitting(self, shape: Shape, additions: Sequence[Addition], held: Sequence[int]) -> Shape:
        """A shape like this one that also holds the additions on top of ``held`` (in its own fractions)."""
        finest = [shape.fractions, *(added[2] for added in additions if added[2])]
        fractions = [-(-max(bits) // _STEP) * _STEP for bits in zip(*finest, strict=True)]
        coming = [_scaled(fractions, added[1], added[2]) for added in additions]
        more = [
            sum(map(abs, column)) for column in zip(_scaled(fractions, held, shape.fractions), *coming, strict=True)
        ]
        return self._shape([*map(_width, more, shape.widths)], fractions)

    def _regrown(self, row: bytes, shape: Shape, additions: Sequence[Addition]) -> tuple[bytes, Shape]:
        """The same row with numbers as wide and fractions as fine as the additions need."""
        count = 1 + sum(ring.tiles for ring in shape.rings)
        slots = list(shape.slots(row, shape.totals_at, count))  # the rings of totals follow the totals
        held = [max(map(abs, column)) for column in zip(*slots, strict=True)]
        wide = self._fitting(shape, additions, held)
        packed = b"".join(wide.pack(_scaled(wide.fractions, slot, shape.fractions)) for slot in slots)
        extremes = row[shape.totals_at + count * shape.size :]
        return wide.code + row[shape.last_at : shape.totals_at] + packed + extremes, wide


def _width(number: int, least: int) -> int:
    """The width in bytes that holds ``number`` and its negative, a power of two of at least ``least``."""
    width = least
    while number.bit_length() >= 8 * width - 1:
        width *= 2
    return width


def _scaled(wanted: Sequence[int], numbers: Sequence[int], fractions: Sequence[int] | None) -> list[int]:
    """Numbers in the wanted fractions."""
    have = fractions or (0,) * len(numbers)
    return [number << (more - bits) for number, more, bits in zip(numbers, wanted, have, strict=True)]


def _fill_tiles(row: bytearray, offset: int, slot: bytes, tiles: int, *, first: int, last: int) -> None:
    """Put ``slot`` into the tiles from ``first`` to ``last`` of a ring."""
    size = len(slot)
    if last - first + 1 >= tiles:
        row[offset : offset + size * tiles] = slot * tiles
        return
    begin, end = first % tiles, last % tiles + 1
    if begin < end:
        row[offset + begin * size : offset + end * size] = slot * (end - begin)
    else:
        row[offset + begin * size : offset + tiles * size] = slot * (tiles - begin)
        row[offset : offset + end * size] = slot * end


def _tile_sums(shape: Shape, row: bytes, ring: Ring, first: int, last: int) -> list[int]:
    """Totals of the tiles from ``first`` to ``last``."""
    begin, end = first % ring.tiles, last % ring.tiles + 1
    if begin < end:
        slots = shape.slots(row, ring.offset + begin * shape.size, end - begin)
    else:
        tail = shape.slots(row, ring.offset + begin * shape.size, ring.tiles - begin)
        slots = chain(tail, shape.slots(row, ring.offset, end))
    return [sum(column) for column in zip(*slots, strict=True)]


def _tile_extreme(row: bytes, ring: Ring, which: int, what: str, tiles: tuple[int, int]) -> float:
    """The smallest or greatest value of the tiles from the first to the last of ``tiles``; NaN for none."""
    first, last = tiles
    values = np.frombuffer(row, "<f8", ring.tiles, ring.extremes[which])
    begin, end = first % ring.tiles, last % ring.tiles + 1
    pieces = [values[begin:end]] if begin < end else [values[begin:], values[:end]]
    found = [float(piece.min() if what == "min" else piece.max()) for piece in pieces]
    value = min(found) if what == "min" else max(found)
    return value if value != _NOTHING[what] else _NAN


def _infinite(number: int, unit: int) -> float:
    try:
        return number / unit
    except OverflowError:
        return math.copysign(math.inf, number)
