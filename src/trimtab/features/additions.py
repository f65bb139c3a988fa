"""What a window part accumulates, and what each source row adds to it: exact integers."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any, NamedTuple

from trimtab.core.clock import Micros
from trimtab.core.ports import Columns
from trimtab.errors import SchemaError
from trimtab.features.plan import WindowPart

_NAN = float("nan")

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


def additions_of(keeps: Accumulators, columns: Columns, kinds: dict[str, str]) -> Iterator[tuple[Any, ...]]:
    """What each source row adds: ``(numbers, fractions, extremes)``, see :data:`Addition`; ``kinds`` by column."""
    count = len(next(iter(columns.values())))
    totals: dict[str, list[int]] = {"*": [1] * count}
    fractions: dict[str, list[int]] = {}
    for name, kind in kinds.items():
        if columns[name].dtype.kind not in ("bi" if kind == "int" else "bif"):
            raise SchemaError(f"column {name!r} is not of its declared kind {kind}", got=str(columns[name].dtype))
        if f"s:{name}" in keeps.totals:
            values = columns[name].tolist()
            if kind == "int":
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
