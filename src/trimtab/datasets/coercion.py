"""One column at a time: from whatever arrived to the array that :data:`trimtab.core.ports.Columns` promises.

Two ways to the same answer. Arrays and lists of one type are checked whole; everything else, and short lists, value by
value. A property test holds them equal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import instant
from trimtab.features.sources import Column

MISSING = "missing"
WRONG_TYPE = "wrong type"
OUT_OF_RANGE = "out of range"
NOT_FINITE = "not finite"
EMPTY = "empty"
TOO_LONG = "too long"

LONGEST_TEXT = 1000
"""Characters: one huge text would make every row of a numpy text column as wide."""
LONGEST_KEY = 200
"""Characters of a key or an id; stores limit the length of what they look up."""
NO_TIME = -(2**63)
"""A missing time: what numpy shows as NaT."""

_EARLIEST = -62_135_596_800_000_000  # 0001-01-01, in microseconds
_LATEST = 253_402_300_799_999_999  # the end of 9999
_INT64 = range(-(2**63), 2**63)
_SHORT = 8  # up to this many values, Python's own checks are faster than numpy's
_DTYPES = {"str": np.str_, "bool": np.bool_, "int": np.int64, "float": np.float64, "time": np.int64}
_SAME: dict[str, set[type]] = {
    "str": {str},
    "bool": {bool},
    "int": {int},
    "float": {float, int, type(None)},
    "time": {int},
}

Mask = NDArray[np.bool_]
Array = NDArray[Any]
Fault = tuple[Mask | int, str]
"""The rows at fault (a mask, or one index) and the reason."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a column has to be: the declaration, worked out once."""

    name: str
    kind: str
    low: float
    high: float
    optional: bool
    identifying: bool
    """Whether it is a key or the id, and so may not be empty."""

    @property
    def dtype(self) -> type[np.generic]:
        """The dtype of the typed column; an int or bool that may be missing travels as a float."""
        return np.float64 if self.optional and self.kind in ("int", "bool") else _DTYPES[self.kind]

    @property
    def missing(self) -> Any:
        """What stands for a missing value, and for a value at fault, until its row is taken out."""
        if self.kind == "str":
            return ""
        if self.kind == "float" or (self.optional and self.kind in ("int", "bool")):
            return math.nan
        return NO_TIME if self.kind == "time" else self.dtype(0)


def rule(name: str, column: Column, *, identifying: bool) -> Rule:
    """The rule of a declared column."""
    low, high = column.between or (-math.inf, math.inf)
    if column.kind == "time":
        low, high = max(low, _EARLIEST), min(high, _LATEST)
    return Rule(name, column.kind, low, high, column.optional, identifying)


def absent(rule: Rule, rows: int) -> Array:
    """The column when nothing was sent for it."""
    return np.full(rows, rule.missing, dtype=rule.dtype)


def coerce(rule: Rule, values: Sequence[object] | Array) -> tuple[Array, list[Fault]]:
    """Type a column and find the values at fault; those hold :attr:`Rule.missing` in the array.

    Strict: text is never read as a number, a bool is not an int, an int is a float. In arrays (not lists) a float
    that is whole is an int, because that is how columns with gaps are stored.
    """
    if not isinstance(values, np.ndarray):
        return _from_list(rule, values)
    if values.dtype.kind == "O":
        return _from_list(rule, values.tolist())
    return _from_array(rule, values)


def _from_list(rule: Rule, values: Sequence[object]) -> tuple[Array, list[Fault]]:
    if len(values) <= _SHORT or not set(map(type, values)) <= _SAME[rule.kind]:
        return _one_by_one(rule, values)
    if rule.kind == "str":
        texts: Sequence[Any] = values
        if max(map(len, texts)) > LONGEST_TEXT or not _storable("".join(texts)):
            return _one_by_one(rule, values)
        return _from_array(rule, np.array(values))
    try:
        return _from_array(rule, np.array(values, dtype=_DTYPES[rule.kind]))
    except OverflowError:  # some integer is past 64 bits; the slow way says which
        return _one_by_one(rule, values)


def _from_array(rule: Rule, values: Array) -> tuple[Array, list[Fault]]:
    match rule.kind:
        case "str":
            return _texts(rule, values)
        case "time":
            return _times(rule, values)
        case _:
            return _numbers(rule, values)


def _texts(rule: Rule, values: Array) -> tuple[Array, list[Fault]]:
    if values.dtype.kind != "U":
        return absent(rule, len(values)), [(np.ones(len(values), bool), WRONG_TYPE)]
    faults: list[Fault] = []
    longest = LONGEST_KEY if rule.identifying else LONGEST_TEXT
    if values.dtype.itemsize > 4 * longest:
        long = np.char.str_len(values) > longest
        faults.append((long, TOO_LONG))
        values = np.where(long, "", values)
        values = values.astype(f"U{longest}")
    if rule.identifying:
        faults.append((values == "", EMPTY))
    return values, faults


def _times(rule: Rule, values: Array) -> tuple[Array, list[Fault]]:
    if values.dtype.kind == "M":
        typed = values.astype("datetime64[us]").astype(np.int64)
    elif values.dtype.kind in "iu":
        typed = values.astype(np.int64)
    else:
        return absent(rule, len(values)), [(np.ones(len(values), bool), WRONG_TYPE)]
    gone = typed == NO_TIME
    faults: list[Fault] = [] if rule.optional else [(gone, MISSING)]
    faults.append((((typed < rule.low) | (typed > rule.high)) & ~gone, OUT_OF_RANGE))
    return typed, faults


def _numbers(rule: Rule, values: Array) -> tuple[Array, list[Fault]]:
    kind = values.dtype.kind
    everywhere = np.ones(len(values), bool)
    fits = {"bool": kind in "bf", "int": kind in "iuf", "float": kind in "iuf"}[rule.kind]
    if not fits:
        return absent(rule, len(values)), [(everywhere, WRONG_TYPE)]
    faults: list[Fault] = []
    bad = ~everywhere
    if kind == "f":
        gone = np.isnan(values)
        if not rule.optional:
            faults.append((gone, MISSING))
            bad |= gone
        endless = np.isinf(values)
        faults.append((endless, NOT_FINITE))
        bad |= endless
        if rule.kind != "float":
            whole = (values == 0) | (values == 1) if rule.kind == "bool" else values == np.rint(values)
            odd = ~whole & ~gone & ~endless
            huge = np.abs(values) >= 2.0**63
            faults += [(odd, WRONG_TYPE), (huge & ~endless, OUT_OF_RANGE)]
            bad |= odd | huge
    elif kind == "u" and rule.kind == "int":
        huge = values >= np.uint64(2**63)
        faults.append((huge, OUT_OF_RANGE))
        bad |= huge
    if rule.kind != "bool" and (rule.low > -math.inf or rule.high < math.inf):
        beyond = (values < rule.low) | (values > rule.high)
        faults.append((beyond, OUT_OF_RANGE))
        bad |= beyond
    if bad.any():
        values = np.where(bad, rule.missing, values)
    return values.astype(rule.dtype), faults


def _one_by_one(rule: Rule, values: Sequence[object]) -> tuple[Array, list[Fault]]:
    typed: list[Any] = []
    faults: list[Fault] = []
    for index, value in enumerate(values):
        kept, reason = _value(rule, value)
        if reason:
            faults.append((index, reason))
            kept = rule.missing
        typed.append(kept)
    return np.array(typed, dtype=rule.dtype), faults


def _value(rule: Rule, value: Any) -> tuple[Any, str]:  # noqa: PLR0911 - one line per reason
    if isinstance(value, np.datetime64 | np.timedelta64):  # the item of one in nanoseconds is an int
        if not isinstance(value, np.datetime64) or (rule.kind != "time" and not np.isnat(value)):
            return None, WRONG_TYPE
        value = instant_of(value)
    elif isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return rule.missing, "" if rule.optional else MISSING
    read: Any = _READERS[rule.kind](value)
    if read is None:
        return None, WRONG_TYPE
    if rule.kind == "str":
        if len(read) > (LONGEST_KEY if rule.identifying else LONGEST_TEXT):
            return None, TOO_LONG
        return (None, EMPTY) if rule.identifying and not read else (read, "")
    if rule.kind == "float" and math.isinf(read):
        return None, NOT_FINITE
    if rule.kind != "bool" and not rule.low <= read <= rule.high:
        return None, OUT_OF_RANGE
    return (None, OUT_OF_RANGE) if rule.kind == "int" and read not in _INT64 else (read, "")


def instant_of(value: np.datetime64) -> int | None:
    """A numpy time as microseconds; ``None`` for NaT."""
    micros = int(value.astype("datetime64[us]").astype(np.int64))
    return None if micros == NO_TIME else micros


def _storable(text: str) -> bool:
    if "\x00" in text:  # numpy drops it at the end of a text: two ids would become one
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _read_str(value: object) -> str | None:
    return str(value) if isinstance(value, str) and _storable(value) else None


def _read_bool(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _read_int(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _read_time(value: object) -> int | None:
    return instant(value) if isinstance(value, datetime) else _read_int(value)


_READERS = {"str": _read_str, "bool": _read_bool, "int": _read_int, "float": _read_float, "time": _read_time}
