"""Ingest: from posted rows to the event log and the online rows, exactly once.

The event log is the truth. A row is acknowledged when it is on disk there; online rows follow from it and are caught
up at start. A row sent twice is recognised by its id, or by its whole content where the source declares none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Clock, Micros
from trimtab.core.ids import Json, sha256
from trimtab.core.ports import Columns, Records
from trimtab.datasets.validation import QUARANTINE_ROWS, Quarantine, rows_to_columns, validate
from trimtab.errors import Unavailable
from trimtab.features.history import History
from trimtab.features.online import OnlineWriter
from trimtab.features.sources import Source

EVENTS = "events."
"""Tables of the event log are called this and the name of the source."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the rows of one body."""

    accepted: int
    repeated: int
    quarantine: Quarantine
    columns: Columns
    """The accepted rows, in the order in which they became known."""
    seq: int
    """Rows of the source so far."""

    def to_json(self) -> dict[str, Json]:
        return {
            "accepted": self.accepted,
            "repeated": self.repeated,
            "quarantined": self.quarantine.to_json(),
            "rows_of_source": self.seq,
        }


class Ingest:
    """Takes the rows of one source.

    Parameters
    ----------
    source
        What the rows must look like.
    history
        What was known before the event log began; its rows come first.
    records
        Holds the event log.
    writer
        Keeps the online rows.
    clock
        Says when a row arrives, which is when it becomes known, whatever the sender says. A source whose time is its
        known time happened on arrival, too.
    stood
        Under a driven clock: where it stood before its last move. Nothing was asked since then, so rows that became
        known since are on time.
    limit
        Most quarantined rows of one body that are described one by one.
    """

    def __init__(
        self,
        source: Source,
        history: History,
        *,
        records: Records,
        writer: OnlineWriter,
        clock: Clock,
        stood: Callable[[], Micros] | None = None,
        limit: int = QUARANTINE_ROWS,
    ) -> None:
        self._stood, self._limit = stood, limit
        self._source, self._records, self._writer, self._clock = source, records, writer, clock
        self._table = EVENTS + source.name
        self._seen = set(_identities(source, history.columns))
        self._seq = len(history)
        self._known: Micros = int(history.known[-1]) if len(history) else 0
        self._unapplied: list[tuple[Columns, int]] = []
        """Rows in the log that the online store could not take yet, with the position of the first."""

    @property
    def seq(self) -> int:
        """Rows of the source so far, history included."""
        return self._seq

    def recover(self) -> Columns | None:
        """Catch up with the event log after a start; returns its rows, None when it is empty."""
        logged = _logged(self._source, self._records)
        if not logged:
            return None
        columns = _unpacked(self._source, [row for _, row in logged])
        self._apply(columns, [identity for identity, _ in logged])
        return columns

    @property
    def behind(self) -> int:
        """Rows in the event log that the online store has not taken yet."""
        return sum(len(columns[self._source.known]) for columns, _ in self._unapplied)

    @property
    def known(self) -> Micros:
        """When the last row of the source became known; 0 when there is none."""
        return self._known

    def catch_up(self) -> None:
        """Apply what the online store could not take when it came.

        Raises
        ------
        Unavailable
            When it still cannot; nothing is lost.
        """
        while self._unapplied:
            self._writer.apply(self._source.name, *self._unapplied[0])
            self._unapplied.pop(0)

    def take(self, rows: Sequence[Mapping[str, Json]]) -> Taken:
        """Take posted rows: in the event log on disk when it returns, and applied unless the online store is full.

        Raises
        ------
        SchemaError
            When a declared column is missing from every row.
        Unavailable
            When the disk is full; nothing of the body was taken then.
        """
        now = self._clock.now()
        validated = validate(self._source, rows_to_columns(self._source, rows), now=now, limit=self._limit)
        # The identity of a row is that of what was sent: lifting `known` below must not make a repetition look new.
        identities = list(_identities(self._source, validated.columns))
        keep = self._unseen(validated.columns, identities)
        columns = {name: values[keep] for name, values in validated.columns.items()}
        columns[self._source.known] = self._arrived(columns[self._source.known].astype(np.int64), now)
        if len(keep):
            named = [identities[place] for place in keep]
            self._records.write(self._table, _packed(columns, named), sync=True)
            self._apply(columns, named)
        return Taken(len(keep), len(identities) - len(keep), validated.quarantine, columns, self._seq)

    def _arrived(self, sent: NDArray[np.int64], now: Micros) -> NDArray[np.int64]:
        """When rows became known: on arrival, whatever the sender says.

        A request that was answered before did not see them, so training must not; the next one sees them, although
        the sender's clock may be ahead. Only what a driven clock has just moved over was asked about by nobody.
        """
        came = np.where(sent > (now if self._stood is None else self._stood()), np.minimum(sent, now), now)
        return np.maximum.accumulate(np.maximum(came, self._known))

    def _unseen(self, columns: Columns, identities: Sequence[str]) -> NDArray[np.int64]:
        """Places of the rows that are new, in known order."""
        new: dict[str, int] = {}
        for place, identity in enumerate(identities):
            if identity not in self._seen:
                new.setdefault(identity, place)
        places = np.fromiter(new.values(), np.int64, len(new))
        return places[np.argsort(columns[self._source.known][places], kind="stable")]

    def _apply(self, columns: Columns, identities: Sequence[str]) -> None:
        # The rows are in the log: they count from here on, whether or not the online rows can follow at once.
        known = columns[self._source.known]
        if self._source.name in self._writer.sources:
            self._unapplied.append((columns, self._seq))
        self._seen.update(identities)
        self._seq += len(known)
        self._known = int(known[-1])
        # They are acknowledged whatever becomes of the online rows: those can be caught up, and their watermark tells.
        with contextlib.suppress(Unavailable):
            self.catch_up()


def logged_columns(source: Source, records: Records) -> Columns | None:
    """Every row of a source in the event log, in known order; None when there is none."""
    logged = _logged(source, records)
    return _unpacked(source, [row for _, row in logged]) if logged else None


def logged_since(source: Source, records: Records, after: Mapping[str, int]) -> tuple[Columns | None, dict[str, int]]:
    """The rows of a source that came into the event log past a place, None when none did, and the place behind them."""
    rows, places = [], dict(after)
    for place, row in records.scan(EVENTS + source.name, after=after):
        rows.append(msgspec.msgpack.decode(row)[1])
        places[place.writer] = place.offset
    return _unpacked(source, rows) if rows else None, places


def _logged(source: Source, records: Records) -> list[tuple[str, dict[str, Json]]]:
    return [msgspec.msgpack.decode(row) for _, row in records.scan(EVENTS + source.name)]


def _identities(source: Source, columns: Columns) -> Iterator[str]:
    """What tells the rows of a source apart."""
    if source.id:
        yield from columns[source.id].tolist()
        return
    lists = [columns[name].tolist() for name in sorted(source.every_column())]
    for row in zip(*lists, strict=True):
        yield sha256(repr(row).encode())[:32]


def _packed(columns: Columns, identities: Sequence[str]) -> list[bytes]:
    names = list(columns)
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    return [
        msgspec.msgpack.encode((identity, dict(zip(names, row, strict=True))))
        for identity, row in zip(identities, rows, strict=True)
    ]


def _unpacked(source: Source, rows: Sequence[Mapping[str, Json]]) -> Columns:
    types = {"time": np.int64, "int": np.int64, "float": np.float64, "bool": np.bool_, "str": np.str_}
    columns: dict[str, NDArray[np.generic]] = {}
    for name, column in source.every_column().items():
        kind = np.float64 if column.optional and column.kind in ("int", "bool") else types[column.kind]
        columns[name] = np.array([row[name] for row in rows], dtype=kind)
    return columns
