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
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np

from trimtab.core.clock import Micros
from trimtab.core.ports import Columns
from trimtab.errors import IntegrityError
from trimtab.features.plan import WindowPart
from trimtab.features.views import hop_of

VERSION = 1
_LAST = struct.Struct("<q")
_NAN = float("nan")


_DOUBLE = struct.Struct("<d")
_NOTHING = {"min": math.inf, "max": -math.inf}

Row = bytes | bytearray
Addition = tuple[Micros, tuple[int, ...], tuple[int, ...] | None, tuple[float, ...]]
"""What one source row adds to its key: its time along the part's axis, for each total a number and its fraction bits
(None: all whole), and for each extreme a value (NaN: missing)."""


class Accumulators(NamedTuple):
    """What a window part keeps: totals, extremes, and how its features come from them."""

    totals: tuple[str, ...]
    """Names of the totals: ``*`` counts rows, ``n:<column>`` present values, ``s:<column>`` sums values."""
    extremes: tuple[tuple[str, str], ...]
    """Aggregation (``min`` or ``max``) and column of each extreme."""
    program: tuple[tuple[str, int, int], ...]
    """For each aggregate: what to do, with which total or extreme, and which total counts its values."""


def accumulators(part: WindowPart) -> Accumulators:
    """The totals and extremes that the features of a part need."""
    totals, extremes, program = ["*"], [], []

    def total(name: str) -> int:
        if name not in totals:
            totals.append(name)
        return totals.index(name)

    for (aggregation, column), kind in zip(part.aggregates, part.kinds, strict=True):
        if aggregation == "count":
            program.append(("sum", 0, 0))
        elif aggregation in ("sum", "mean"):
            present = total(f"n:{column}") if kind == "float" else 0
            program.append((aggregation, total(f"s:{column}"), present))
        else:
            if (aggregation, column) not in extremes:
                extremes.append((aggregation, column))
            program.append((aggregation, extremes.index((aggregation, column)), 0))
    return Accumulators(tuple(totals), tuple(extremes), tuple(program))


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
        self.totals_at = self.last_at + _LAST.size
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


class WindowRows:
    """Reads and writes the online rows of one window part."""

    def __init__(self, part: WindowPart) -> None:
        self.part = part
        self.keeps = accumulators(part)
        self._hops: dict[Micros, int] = {}
        for length in part.over:
            hop = hop_of(length)
            self._hops[hop] = max(self._hops.get(hop, 0), -(-length // hop) + 1)
        self._ring_of = [list(self._hops).index(hop_of(length)) for length in part.over]
        self._shapes: dict[bytes, Shape] = {}
        self._code_length = 1 + 4 * len(self.keeps.totals)
        self._fill = [_DOUBLE.pack(_NOTHING[which]) for which, _ in self.keeps.extremes]
        self._nothing = [0.0 if what == "sum" else _NAN for what, _, _ in self.keeps.program]
        self.empty = self._nothing * len(part.over)
        """The features of a key that has no row."""

    # ---- reading

    def starts(self, as_of: Micros) -> list[tuple[Micros, int, int]]:
        """For each window, answered as of a time: its first instant, its first tile, and its ring."""
        hops = [(length, hop_of(length), ring) for length, ring in zip(self.part.over, self._ring_of, strict=True)]
        return [((as_of - length) // hop * hop, (as_of - length) // hop, ring) for length, hop, ring in hops]

    def read(
        self,
        row: bytes,
        starts: Sequence[tuple[Micros, int, int]],
        quotient: Callable[[int, int], float] = operator.truediv,
    ) -> list[float]:
        """The features of a key: windows outside, aggregates inside."""
        shape = self._shape_of(row)
        last = _LAST.unpack_from(row, shape.last_at)[0]
        totals = shape.unpack(row, shape.totals_at)
        units, running = shape.units, self.part.along == "known"
        out: list[float] = []
        try:
            for start, tile, place in starts:
                if start > last:
                    out += self._nothing
                    continue
                ring = shape.rings[place]
                if running:
                    before = shape.unpack(row, ring.offset + tile % ring.tiles * shape.size)
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
            return self.read(row, starts, _infinite)
        return out

    # ---- writing

    def update(self, row: bytes | None, additions: Sequence[Addition]) -> bytes:
        """The row after some source rows of its key, given in known order; ``row`` is None for a new key."""
        if row is None:
            shape = self._shape([4] * len(self.keeps.totals), [0] * len(self.keeps.totals))
            row = self._blank(shape, additions[0][0])
        else:
            shape = self._shape_of(row)
        write = self._append if self.part.along == "known" else self._insert
        finer = any(added[2] and any(map(operator.gt, added[2], shape.fractions)) for added in additions)
        if not finer:
            try:
                return write(bytearray(row), shape, additions)
            except (struct.error, OverflowError):
                pass  # a total has outgrown its width
        row, shape = self._regrown(row, shape, additions)
        return write(bytearray(row), shape, additions)

    def _append(self, row: bytearray, shape: Shape, additions: Sequence[Addition]) -> bytes:
        """Along known time: totals only change at the end, and each new tile starts from the totals before it."""
        last = _LAST.unpack_from(row, shape.last_at)[0]
        totals = shape.unpack(row, shape.totals_at)
        for when, numbers, fractions, extremes in additions:
            for ring in shape.rings:
                tile, behind = when // ring.hop, last // ring.hop
                if tile > behind:
                    _fill_tiles(row, ring.offset, shape.pack(totals), ring.tiles, first=behind + 1, last=tile)
                    for offset, nothing in zip(ring.extremes, self._fill, strict=True):
                        _fill_tiles(row, offset, nothing, ring.tiles, first=behind + 1, last=tile)
                if extremes:
                    self._stretch(row, ring, tile, extremes)
            last = when
            added = numbers if shape.whole else _scaled(shape, numbers, fractions)
            totals = [*map(operator.add, totals, added)]
        _LAST.pack_into(row, shape.last_at, last)
        row[shape.totals_at : shape.totals_at + shape.size] = shape.pack(totals)
        return bytes(row)

    def _insert(self, row: bytearray, shape: Shape, additions: Sequence[Addition]) -> bytes:
        """Along event time: each row goes into its tile, unless no later window can reach that far back."""
        last = _LAST.unpack_from(row, shape.last_at)[0]
        for when, numbers, fractions, extremes in additions:
            added = numbers if shape.whole else _scaled(shape, numbers, fractions)
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
        _LAST.pack_into(row, shape.last_at, last)
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
        shape = Shape(widths, fractions, self._hops, len(self.keeps.extremes))
        return self._shapes.setdefault(shape.code, shape)

    def _shape_of(self, row: bytes) -> Shape:
        """The shape of a stored row, from its first bytes."""
        code = row[: self._code_length]
        known = self._shapes.get(code)
        if known is not None:
            return known
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
        _LAST.pack_into(row, shape.last_at, when)
        for ring in shape.rings:
            for offset, nothing in zip(ring.extremes, self._fill, strict=True):
                row[offset : offset + 8 * ring.tiles] = nothing * ring.tiles
        return bytes(row)

    def _regrown(self, row: bytes, shape: Shape, additions: Sequence[Addition]) -> tuple[bytes, Shape]:
        """The same row with numbers as wide and fractions as fine as the additions need."""
        finer = [shape.fractions, *(added[2] for added in additions if added[2])]
        fractions = [max(column) for column in zip(*finer, strict=True)]
        shifts = [new - old for new, old in zip(fractions, shape.fractions, strict=True)]
        places = [shape.totals_at, *(ring.offset + i * shape.size for ring in shape.rings for i in range(ring.tiles))]
        slots = {
            place: [number << shift for number, shift in zip(shape.unpack(row, place), shifts, strict=True)]
            for place in places
        }
        finest = self._shape(shape.widths, fractions)
        coming = [[abs(n) for n in _scaled(finest, added[1], added[2])] for added in additions]
        held = [max(map(abs, column)) for column in zip(*slots.values(), strict=True)]
        more = [sum(column) for column in zip(*coming, strict=True)]
        widths = map(_width, map(operator.add, held, more), shape.widths)
        wide = self._shape(list(widths), fractions)
        grown = bytearray(self._blank(wide, _LAST.unpack_from(row, shape.last_at)[0]))
        for place, numbers in slots.items():
            at = wide.totals_at + (place - shape.totals_at) // shape.size * wide.size
            grown[at : at + wide.size] = wide.pack(numbers)
        tail = shape.totals_at + len(places) * shape.size
        grown[wide.totals_at + len(places) * wide.size :] = row[tail:]
        return bytes(grown), wide


def _width(number: int, least: int) -> int:
    """The width in bytes that holds ``number`` and its negative, a power of two of at least ``least``."""
    width = least
    while number.bit_length() >= 8 * width - 1:
        width *= 2
    return width


def _scaled(shape: Shape, numbers: Sequence[int], fractions: Sequence[int] | None) -> list[int]:
    """Numbers in the row's own fractions."""
    have = fractions or (0,) * len(numbers)
    return [n << (wanted - bits) for n, wanted, bits in zip(numbers, shape.fractions, have, strict=True)]


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


def additions_of(keeps: Accumulators, columns: Columns, kinds: dict[str, str]) -> Iterator[tuple[Any, ...]]:
    """What each source row adds: ``(numbers, fractions, extremes)``, see :data:`Addition`."""
    count = len(next(iter(columns.values())))
    totals: dict[str, list[int]] = {"*": [1] * count}
    fractions: dict[str, list[int]] = {}
    for name in {name[2:] for name in keeps.totals if name != "*"}:
        values = columns[name].tolist()
        if kinds[name] == "int":
            totals[f"s:{name}"] = values
        else:
            totals[f"n:{name}"], totals[f"s:{name}"], fractions[f"s:{name}"] = _fixed_point(values)
    numbers = zip(*(totals[name] for name in keeps.totals), strict=True)
    whole = [0] * count
    fine = any(any(bits) for bits in fractions.values())
    bits = zip(*(fractions.get(name, whole) for name in keeps.totals), strict=True) if fine else repeat(None, count)
    if keeps.extremes:
        tables = [[x if x - x == 0 else _NAN for x in columns[name].tolist()] for _, name in keeps.extremes]
        return zip(numbers, bits, zip(*tables, strict=True), strict=True)
    return zip(numbers, bits, repeat((), count), strict=True)


def _fixed_point(values: list[float]) -> tuple[list[int], list[int], list[int]]:
    """Whether each value is present, and the value as ``number * 2**-fraction``."""
    present, numbers, fractions = [], [], []
    for value in values:
        if value - value != 0.0:  # NaN and the infinities: missing
            number, fraction = 0, 0
        elif value % 1.0 == 0.0:
            number, fraction = int(value), 0
        else:
            number, divisor = value.as_integer_ratio()
            fraction = divisor.bit_length() - 1
        present.append(int(value - value == 0.0))
        numbers.append(number)
        fractions.append(fraction)
    return present, numbers, fractions
