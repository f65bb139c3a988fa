"""How each kind of plan part keeps online rows: their keys, what a source row adds, and what a read gives."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.core.ports import Columns
from trimtab.errors import IntegrityError
from trimtab.features.additions import additions_of
from trimtab.features.plan import LatestPart, WindowPart
from trimtab.features.rows import WindowRows

_VERSION = 1


class PartRows(Protocol):
    """The online rows of one part."""

    id: bytes
    """The part's row id, 12 bytes."""
    source: str
    time: str
    """The source's column of event time."""
    known: str
    """The source's column of known time."""
    fresh: Micros
    needs: frozenset[str]
    """The columns of the source that it reads."""
    sharing: object
    """Parts of a source for which this is equal have equal additions."""
    reading: object
    """Parts for which this is equal can be read together, by any of them."""

    def keys(self, columns: Columns) -> list[bytes]:
        """The store key of each source row or request."""
        ...

    def additions(self, columns: Columns, known: NDArray[np.int64]) -> list[Any]:
        """What each source row, in known order, adds to its online row."""
        ...

    def update(self, row: bytes | None, additions: Sequence[Any]) -> bytes:
        """The online row after these additions; None: there is none yet."""
        ...

    def read(self, rows: Sequence[bytes | None], as_of: Sequence[Micros]) -> NDArray[np.float64]:
        """The part's features for each online row, shape (rows, features)."""
        ...


class WindowPartRows:
    """Rows of a window part: one per entity key."""

    def __init__(self, part: WindowPart) -> None:
        self.id, self.source, self.fresh = part.row_id.encode(), part.source, part.fresh
        self.time, self.known = part.time, part.known
        aggregated = {column for _, column in part.aggregates if column != "*"}
        self.needs = frozenset({part.time, part.known, part.entity, *aggregated})
        self._rows = WindowRows(part)
        self._part = part
        self.sharing: object = (part.along, part.aggregates, part.kinds)
        self.reading: object = (self.sharing, part.over)
        kinds = zip(part.aggregates, part.kinds, strict=True)
        self._kinds = {column: kind for (_, column), kind in kinds if column != "*"}

    def keys(self, columns: Columns) -> list[bytes]:
        return _keys(self.id, columns[self._part.entity].tolist())

    def additions(self, columns: Columns, known: NDArray[np.int64]) -> list[Any]:
        # A row cannot have happened after it was known; one that says so counts from when it was known.
        when = known if self._part.along == "known" else np.minimum(np.asarray(columns[self.time], np.int64), known)
        added = additions_of(self._rows.keeps, columns, self._kinds)
        return [(moment, *rest) for moment, rest in zip(when.tolist(), added, strict=True)]

    def update(self, row: bytes | None, additions: Sequence[Any]) -> bytes:
        return self._rows.update(row, additions)

    def read(self, rows: Sequence[bytes | None], as_of: Sequence[Micros]) -> NDArray[np.float64]:
        return self._rows.read(rows, as_of)


class LatestPartRows:
    """Rows of a latest part: one per combination of keys, with the values and when they happened."""

    fresh = 0

    def __init__(self, part: LatestPart) -> None:
        self.id, self.source = part.row_id.encode(), part.source
        self.time, self.known = part.time, part.known
        self._part = part
        self.needs = frozenset({part.time, part.known, *part.keys, *part.columns})
        self.sharing: object = part.columns
        self.reading: object = (part.row_id, part.ttl)
        self._row = struct.Struct(f"<Bq{len(part.columns)}d")

    def keys(self, columns: Columns) -> list[bytes]:
        if len(self._part.keys) == 1:
            return _keys(self.id, columns[self._part.keys[0]].tolist())
        combined = zip(*(columns[name].tolist() for name in self._part.keys), strict=True)
        return _keys(self.id, ["".join(f"{len(str(key))}:{key}" for key in keys) for keys in combined])

    def additions(self, columns: Columns, known: NDArray[np.int64]) -> list[Any]:
        del known  # rows come in known order already
        values = [np.asarray(columns[name], np.float64).tolist() for name in self._part.columns]
        return list(zip(np.asarray(columns[self.time], np.int64).tolist(), *values, strict=True))

    def update(self, row: bytes | None, additions: Sequence[Any]) -> bytes:
        best = None
        newest = self._unpack(row)[1] if row is not None else None
        for added in additions:
            if newest is None or added[0] >= newest:
                best, newest = added, added[0]
        if best is None:
            assert row is not None  # without a row the first addition is the best
            return row
        return self._row.pack(_VERSION, *best)

    def read(self, rows: Sequence[bytes | None], as_of: Sequence[Micros]) -> NDArray[np.float64]:
        out = np.full((len(rows), len(self._part.columns)), np.nan)
        for place, (row, moment) in enumerate(zip(rows, as_of, strict=True)):
            if row is not None:
                _, time, *values = self._unpack(row)
                if not 0 < self._part.ttl < moment - time:
                    out[place] = values
        return out

    def _unpack(self, row: bytes) -> tuple[Any, ...]:
        if len(row) != self._row.size or row[0] != _VERSION:
            raise IntegrityError(
                "an online row is damaged or of another version",
                got=f"{len(row)} bytes",
                hint="rebuild the online store from the event log",
            )
        return self._row.unpack(row)


def _keys(part: bytes, keys: Sequence[object]) -> list[bytes]:
    prefix = part + b"="
    return [prefix + str(key).encode() for key in keys]


def part_rows(part: WindowPart | LatestPart) -> PartRows:
    """The rows of a part."""
    return WindowPartRows(part) if isinstance(part, WindowPart) else LatestPartRows(part)
