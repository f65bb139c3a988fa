"""The ledger in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab.adapters.sqlite import Database
from trimtab.core.ids import canonical
from trimtab.core.ledger import (
    GENESIS,
    Draft,
    Event,
    Upcaster,
    check_repeated,
    event_hash,
    normalized,
    upcast,
    verify,
)
from trimtab.errors import ConflictError, InputError, LedgerCorrupt, StaleEpoch

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, stream TEXT NOT NULL, number INTEGER NOT NULL, epoch INTEGER NOT NULL,
    id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, data TEXT NOT NULL, happened INTEGER NOT NULL, known INTEGER NOT NULL,
    actor TEXT NOT NULL, cause TEXT NOT NULL, version INTEGER NOT NULL, measured TEXT NOT NULL,
    previous TEXT NOT NULL, hash TEXT NOT NULL, UNIQUE (stream, number)
);;
CREATE TRIGGER IF NOT EXISTS events_stay BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;;
CREATE TRIGGER IF NOT EXISTS events_remain BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END
"""
_COLUMNS = (
    "seq, stream, number, epoch, id, type, data, happened, known, actor, cause, version, measured, previous, hash"
)
_PAGE = 1000


class SqliteLedger:
    """A :class:`trimtab.core.ledger.Ledger` in SQLite: WAL, and on disk when ``append`` returns.

    Parameters
    ----------
    path
        The file; created when missing.
    durable
        False leaves it to the system when bytes reach the disk: for the scratch ledger of a replay.
    upcasters
        Steps that bring old shapes of events to the newest one when they are read, by (type, version).

    Raises
    ------
    LedgerCorrupt
        When the file is damaged.
    Unavailable
        When it is locked for half a minute, the disk is full, or it is of a newer version of Trimtab.
    """

    def __init__(
        self, path: Path, *, durable: bool = True, upcasters: Mapping[tuple[str, int], Upcaster] | None = None
    ) -> None:
        self._database = Database(path, schema=_SCHEMA, version=1, durable=durable, corrupt=LedgerCorrupt)
        self._upcasters = dict(upcasters or {})

    def append(self, stream: str, drafts: Sequence[Draft], *, expected: int, epoch: int) -> list[Event]:
        """Append drafts to a stream and return the stored events; see the port for the contract."""
        wanted = [normalized(draft) for draft in drafts]
        ids = [draft.id for draft in wanted]
        if len(set(ids)) < len(ids):
            raise InputError("the same event twice in one append", got=", ".join(ids))
        with self._database.writing() as connection:
            seq, previous, highest = _head(connection.execute(_HEAD).fetchall())
            if epoch < highest:
                raise StaleEpoch(
                    "a newer writer has taken over",
                    got=f"epoch {epoch}, the ledger is at {highest}",
                    hint="stop writing",
                )
            (count,) = connection.execute(
                "SELECT COALESCE(MAX(number), 0) FROM events WHERE stream = ?", (stream,)
            ).fetchone()
            if count != expected:
                sql = f"SELECT {_COLUMNS} FROM events WHERE stream = ? AND number > ? ORDER BY number LIMIT ?"  # noqa: S608
                stored = [_event(row) for row in connection.execute(sql, (stream, expected, len(ids)))]
                if not ids or [event.id for event in stored] != ids:
                    raise ConflictError(
                        f"stream {stream} is not where it was expected",
                        got=f"{count} events, expected {expected}",
                        hint="read it again, then decide again",
                    )
                repeated = [upcast(event, self._upcasters) for event in stored]
                check_repeated(repeated, wanted)
                return repeated
            _refuse_taken(connection, ids)
            events = []
            for offset, draft in enumerate(wanted, start=1):
                mark = event_hash(previous, stream, count + offset, epoch, draft)
                events.append(Event(seq + offset, stream, count + offset, epoch, draft, previous, mark))
                previous = mark
            marks = ", ".join("?" * 15)
            connection.executemany(f"INSERT INTO events ({_COLUMNS}) VALUES ({marks})", map(_row, events))  # noqa: S608
        return [upcast(event, self._upcasters) for event in events]

    def read(self, *, after: int = 0, stream: str | None = None) -> Iterator[Event]:
        """Yield the events with ``seq > after``, of one stream or of all, in their newest shape."""
        return (upcast(event, self._upcasters) for event in self._stored(after, stream))

    def head(self) -> tuple[int, str, int]:
        """The last ``seq``, its hash, and the highest epoch."""
        return _head(self._database.rows(_HEAD))

    def verify(self) -> int:
        """Check the hash chain of what is stored (before any upcasting); how many events it holds.

        Raises
        ------
        LedgerCorrupt
            At the first event that was changed after it was written.
        """
        return verify(self._stored(0, None))

    def close(self) -> None:
        """Free the file; the object is not used again."""
        self._database.close()

    def _stored(self, after: int, stream: str | None) -> Iterator[Event]:
        # By pages, so that a slow reader does not hold a snapshot open and keep the log from being checkpointed.
        where, parameters = ("AND stream = ?", [stream]) if stream is not None else ("", [])
        sql = f"SELECT {_COLUMNS} FROM events WHERE seq > ? {where} ORDER BY seq LIMIT {_PAGE}"  # noqa: S608
        while True:
            rows = self._database.rows(sql, [after, *parameters])
            yield from map(_event, rows)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]


_HEAD = "SELECT seq, hash, epoch FROM events ORDER BY seq DESC LIMIT 1"


def _head(rows: list[Any]) -> tuple[int, str, int]:
    # Epochs never go down along the ledger, so the last event carries the highest.
    if not rows:
        return 0, GENESIS, 0
    seq, mark, epoch = rows[0]
    return seq, mark, epoch


def _refuse_taken(connection: sqlite3.Connection, ids: Sequence[str]) -> None:
    for wanted in ids:
        row = connection.execute("SELECT stream, number FROM events WHERE id = ?", (wanted,)).fetchone()
        if row is not None:
            raise ConflictError(
                "an event with this id is in the ledger already",
                got=f"{wanted} at {row[0]} {row[1]}",
                hint="read the stream again, then decide again",
            )


def _row(event: Event) -> tuple[Any, ...]:
    draft = event.draft
    return (
        event.seq,
        event.stream,
        event.number,
        event.epoch,
        draft.id,
        draft.type,
        canonical(draft.data).decode(),
        draft.happened,
        draft.known,
        draft.actor,
        draft.cause,
        draft.version,
        canonical(draft.measured).decode(),
        event.previous,
        event.hash,
    )


def _event(row: Sequence[Any]) -> Event:
    seq, stream, number, epoch, name, kind, data, happened, known, actor, cause, version, measured, previous, mark = row
    try:
        content, names = json.loads(data), tuple(json.loads(measured))
    except (TypeError, ValueError) as error:
        raise LedgerCorrupt("an event cannot be read", got=f"event {seq}: {error}", hint="restore a backup") from error
    draft = Draft(name, kind, content, happened, known, actor, cause, version, names)
    return Event(seq, stream, number, epoch, draft, previous, mark)
