"""Validation at the boundary: every row that enters is typed and believable, or quarantined with a reason.

No row is lost: accepted and quarantined rows add up to what was sent. A batch without a declared column is refused as a
whole (:class:`~trimtab.errors.SchemaError`), because then nothing can be said about any of its rows.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import MINUTE, Micros, instant, iso
from trimtab.core.ids import Json
from trimtab.core.ports import Columns
from trimtab.datasets.coercion import Fault, Rule, absent, coerce, instant_of, rule
from trimtab.errors import InputError, SchemaError
from trimtab.features.batch import RequestBatch
from trimtab.features.sources import Source

KNOWN_EARLY = "known before it happened"
KNOWN_LATE = "known in the future"
DUPLICATE = "duplicate"

AHEAD: Micros = 5 * MINUTE
_YEAR_9999: Micros = 253_000_000_000 * 1_000_000
"""ISO 8601 text ends about here; a later time is shown as the number it is."""
"""How far the clock of a sender may be ahead of ours before its rows are taken to be wrong."""
QUARANTINE_ROWS = 100_000
"""Most rows that a report describes one by one (the setting ``quarantine_rows``); the counts are always complete."""
_VALUE_TEXT = 80

Raw = Mapping[str, Sequence[object]] | Columns


@dataclass(frozen=True, slots=True)
class BadRow:
    """One quarantined row: its position in the batch, and the first thing found wrong with it."""

    index: int
    column: str
    reason: str
    value: str
    """The value at fault as Python shows it, cut to 80 characters."""


@dataclass(frozen=True, slots=True)
class Quarantine:
    """What was refused and why.

    Each row is counted once, under the first fault found: columns in declared order, then what columns say together.
    """

    source: str
    sent: int
    counts: Mapping[tuple[str, str], int]
    """Rows by column and reason; complete."""
    rows: tuple[BadRow, ...]
    """The first of them, up to the limit."""

    @property
    def total(self) -> int:
        """Rows quarantined."""
        return sum(self.counts.values())

    def to_json(self) -> Json:
        """The report for a file, an HTTP answer or ``--json``."""
        return {
            "source": self.source,
            "sent": self.sent,
            "accepted": self.sent - self.total,
            "quarantined": self.total,
            "reasons": [
                {"column": column, "reason": reason, "rows": count}
                for (column, reason), count in sorted(self.counts.items())
            ],
            "rows": [
                {"index": row.index, "column": row.column, "reason": row.reason, "value": row.value}
                for row in self.rows
            ],
            "rows_not_shown": self.total - len(self.rows),
        }


@dataclass(frozen=True, slots=True)
class Validated:
    """A batch after validation."""

    columns: Columns
    """The accepted rows, in the order sent, every declared column typed as ``Columns`` says."""
    accepted: NDArray[np.bool_]
    """Shape (n,): which of the rows sent they are."""
    quarantine: Quarantine

    def __len__(self) -> int:
        """Rows accepted."""
        return self.quarantine.sent - self.quarantine.total


@dataclass(slots=True)
class _Faults:
    """The first fault of each row, as a code; 0 for none."""

    codes: NDArray[np.int32]
    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, column: str, faults: Sequence[Fault]) -> None:
        for where, reason in faults:
            if not isinstance(where, int) and not where.any():
                continue
            self.found.append((column, reason))
            if isinstance(where, int):
                self.codes[where] = self.codes[where] or len(self.found)
            else:
                self.codes[where & (self.codes == 0)] = len(self.found)


class Validator:
    """Checks batches of one source; the declaration is worked out once.

    Examples
    --------
    >>> from trimtab.features.sources import Entity, Events, column
    >>> schema = {"amount": column(int, between=(0, 9))}
    >>> sales = Events("sales", time="at", known="at", keys=[Entity("shop")], schema=schema)
    >>> result = Validator(sales).validate({"at": [5, 6], "shop": ["a", "b"], "amount": [3, -1]})
    >>> result.columns["amount"].tolist(), result.quarantine.rows[0].reason
    ([3], 'out of range')
    """

    def __init__(self, source: Source, *, limit: int = QUARANTINE_ROWS) -> None:
        self.source = source
        self._limit = limit
        identifying = {*source.key_names, source.id}
        self._rules = tuple(
            rule(name, column, identifying=name in identifying) for name, column in source.every_column().items()
        )

    def validate(self, raw: Raw, *, now: Micros | None = None) -> Validated:
        """Type every declared column and set aside the rows that cannot be believed; see :func:`validate`."""
        rows = self._rows(raw)
        faults = _Faults(np.zeros(rows, np.int32))
        typed: dict[str, NDArray[Any]] = {}
        for column in self._rules:
            values = raw.get(column.name)
            if values is None:
                typed[column.name] = absent(column, rows)
            else:
                typed[column.name], found = coerce(column, values)
                faults.add(column.name, found)
        self._check_rows(typed, faults, now)
        accepted = faults.codes == 0
        if not faults.found:
            return Validated(typed, accepted, Quarantine(self.source.name, rows, {}, ()))
        columns = {name: values[accepted] for name, values in typed.items()}
        return Validated(columns, accepted, self._report(faults, raw, typed))

    def _rows(self, raw: Raw) -> int:
        lengths = {}
        for column in self._rules:
            if column.name in raw:
                lengths[column.name] = len(raw[column.name])
            elif not column.optional:
                raise self._lacks(column, raw)
        if len(set(lengths.values())) > 1:
            raise SchemaError(
                f"the columns of {self.source.name!r} differ in length",
                got=", ".join(f"{name}: {length}" for name, length in lengths.items()),
                hint="send one value per row in every column",
            )
        return next(iter(lengths.values()))

    def _lacks(self, column: Rule, raw: Raw) -> SchemaError:
        near = difflib.get_close_matches(column.name, [str(name) for name in raw], n=1)
        return SchemaError(
            f"column {column.name!r} of {self.source.name!r} is missing",
            got=f"columns {', '.join(sorted(map(str, raw))) or 'none'}",
            hint=f"rename {near[0]!r} to {column.name!r}"
            if near
            else "send it, or declare it with column(..., optional=True)",
        )

    def _check_rows(self, typed: Mapping[str, NDArray[Any]], faults: _Faults, now: Micros | None) -> None:
        source = self.source
        known = typed[source.known]
        if source.known != source.time:
            faults.add(source.known, [(known < typed[source.time], KNOWN_EARLY)])
        if now is not None:
            faults.add(source.known, [(known > now + AHEAD, KNOWN_LATE)])
        if len(known) > 1:
            name = source.id or source.known
            columns = [typed[source.id]] if source.id else list(typed.values())
            repeated = _repeated(columns, faults.codes == 0)
            if repeated is not None:
                faults.add(name, [(repeated, DUPLICATE)])

    def _report(self, faults: _Faults, raw: Raw, typed: Mapping[str, NDArray[Any]]) -> Quarantine:
        where = np.flatnonzero(faults.codes)
        counts: Counter[tuple[str, str]] = Counter()
        for code, count in zip(*np.unique(faults.codes[where], return_counts=True), strict=True):
            counts[faults.found[code - 1]] += int(count)
        rows = []
        for index in where[: self._limit].tolist():
            column, reason = faults.found[faults.codes[index] - 1]
            value = raw.get(column, typed[column])[index]
            rows.append(BadRow(index, column, reason, _shown(value, time=reason in (KNOWN_LATE, KNOWN_EARLY))))
        return Quarantine(self.source.name, len(faults.codes), dict(counts), tuple(rows))


def validate(source: Source, raw: Raw, *, now: Micros | None = None, limit: int = QUARANTINE_ROWS) -> Validated:
    """Check a batch of rows of a source.

    A row is quarantined when a required value is missing (``None``, NaN, NaT), of the wrong type, infinite, out of the
    declared range, an empty or overlong key or id; when it was known before it happened; when it was known
    more than five minutes after ``now``; and when an earlier accepted row has the same id (without an id: is the same).

    Parameters
    ----------
    raw
        Columns by name: numpy arrays or sequences of Python values. Columns that are not declared are not read.
    now
        Microseconds; leave it out for history.
    limit
        Most quarantined rows described one by one.

    Raises
    ------
    SchemaError
        When a column that may not be missing is not there at all, or columns differ in length.

    Examples
    --------
    >>> from trimtab.features.sources import Entity, Events
    >>> sales = Events("sales", time="at", known="at", keys=[Entity("shop")], schema={"amount": int})
    >>> validate(sales, {"at": [5], "shop": [""], "amount": [3]}).quarantine.to_json()["reasons"]
    [{'column': 'shop', 'reason': 'empty', 'rows': 1}]
    """
    return Validator(source, limit=limit).validate(raw, now=now)


def rows_to_columns(source: Source, rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """Turn the rows of a JSON body into columns for :func:`validate`.

    Times may be ISO 8601 text or integer microseconds. Everything else is left as it is, so that a value of the wrong
    type costs its own row and no other. A column that no row has is left out, so that ``validate`` can name it.

    Raises
    ------
    InputError
        When a row is not an object.

    Examples
    --------
    >>> from trimtab.features.sources import Entity, Events
    >>> sales = Events("sales", time="at", known="at", keys=[Entity("shop")], schema={"amount": int})
    >>> rows_to_columns(sales, [{"at": "1970-01-02", "shop": "a", "amount": "3"}])
    {'at': [86400000000], 'shop': ['a'], 'amount': ['3']}
    """
    for index, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(
                f"row {index} for {source.name!r} is not an object",
                got=_shown(row),
                hint='send {"column": value, ...}',
            )
    columns: dict[str, list[object]] = {}
    for name, declared in source.every_column().items():
        if not any(name in row for row in rows) and rows:
            continue
        values = [row.get(name) for row in rows]
        columns[name] = [_read_time(value) for value in values] if declared.kind == "time" else values
    return columns


def request_batch(source: Source, columns: Columns) -> RequestBatch:
    """The validated rows of a ``Requests`` source, in the order given, as the pipeline takes them.

    Raises
    ------
    InputError
        When the source is not of requests.
    """
    if source.kind != "requests":
        raise InputError(f"{source.name!r} holds {source.kind}, not requests", hint="pass the model's requests")
    ids: list[str] = columns[source.id].tolist()
    return RequestBatch(
        ids=ids,
        at=columns[source.time].astype(np.int64, copy=False),
        keys={name: columns[name] for name in source.key_names},
        inputs={name: columns[name] for name in source.columns},
    )


def _read_time(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return instant(value)
    except InputError:
        return value  # text: quarantined as of the wrong type, with the text as it came


def _repeated(columns: Sequence[NDArray[Any]], alive: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Rows equal to an earlier row that is alive; None when there are none, which is found fast."""
    # NaN is unlike itself, but a missing value sent twice is the same row: compare floats by their bits.
    lists = [(c.view(np.int64) if c.dtype.kind == "f" else c).tolist() for c in columns]
    keys: list[Any] = lists[0] if len(lists) == 1 else list(zip(*lists, strict=True))
    if len(set(keys)) == len(keys):
        return None
    seen: set[Any] = set()
    repeated = np.zeros(len(keys), bool)
    for index in np.flatnonzero(alive).tolist():
        repeated[index] = keys[index] in seen
        seen.add(keys[index])
    return repeated


def _shown(value: object, *, time: bool = False) -> str:
    if isinstance(value, np.datetime64):
        value = instant_of(value) if time else value
    elif isinstance(value, np.generic):
        value = value.item()
    if time and isinstance(value, int) and 0 <= value < _YEAR_9999:
        return iso(value)
    text = repr(value)
    return text if len(text) <= _VALUE_TEXT else text[: _VALUE_TEXT - 1] + "…"
