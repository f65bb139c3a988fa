"""One SQLite file as a store: one connection, one lock, whole transactions, our errors."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trimtab.adapters.files import make_directory
from trimtab.errors import IntegrityError, TrimtabError, Unavailable

_BUSY_S = 30.0
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_OPEN_TRIES = 100


class Database:
    """A SQLite database in WAL mode.

    One connection serves all threads behind a lock: writes are serialised by SQLite anyway, and what is stored
    here is of low volume. A forked child opens a connection of its own.

    Parameters
    ----------
    path
        The file; it and its directory are created when missing.
    schema
        SQL that creates what is missing; run at every opening.
    version
        The version of the schema; a file of a newer one is refused.
    durable
        True: a commit is on disk when it returns (``synchronous=FULL``). False: it survives ``kill -9`` but not a
        power cut; for scratch stores.
    corrupt
        The error to raise when the file is damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        schema: str,
        version: int,
        durable: bool,
        corrupt: type[TrimtabError] = IntegrityError,
    ) -> None:
        self._path = Path(path)
        self._schema, self._version, self._durable, self._corrupt = schema, version, durable, corrupt
        self._lock = threading.RLock()
        self._inherited: list[sqlite3.Connection] = []
        make_directory(self._path.parent)
        self._open()

    def _open(self) -> None:
        with self._translated():
            self._process = os.getpid()
            self._connection = sqlite3.connect(
                self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False, cached_statements=64
            )
            self._write_ahead()
            self._connection.execute(f"PRAGMA synchronous={'FULL' if self._durable else 'OFF'}")
            (found,) = self._connection.execute("PRAGMA user_version").fetchone()
            if found > self._version:
                self._connection.close()
                raise Unavailable(
                    "the store was written by a newer version of Trimtab",
                    got=f"{self._path} has version {found}, this one reads {self._version}",
                    hint="upgrade Trimtab",
                )
            if found < self._version:
                with self.writing() as connection:
                    for statement in self._schema.split(";;"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={self._version}")

    def _write_ahead(self) -> None:
        # Turning WAL on needs the file for itself and does not wait for it, so that two processes that open a new
        # file at once would fail without these tries.
        for attempt in range(_OPEN_TRIES):
            try:
                (mode,) = self._connection.execute("PRAGMA journal_mode=WAL").fetchone()
            except sqlite3.OperationalError:
                if attempt == _OPEN_TRIES - 1:
                    raise
            else:
                if mode == "wal":
                    return
            time.sleep(0.02)
        raise Unavailable("cannot open the store for writing", got=str(self._path), hint="another process holds it")

    def _own(self) -> sqlite3.Connection:
        if self._process != os.getpid():
            self._inherited.append(self._connection)  # closing it here would release the parent's locks
            self._lock = threading.RLock()
            self._open()
        return self._connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed at the end, rolled back when anything is raised."""
        connection = self._own()
        with self._lock, self._translated():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """The rows that a query gives, read in one snapshot."""
        connection = self._own()
        with self._lock, self._translated():
            return connection.execute(sql, parameters).fetchall()

    def close(self) -> None:
        """Free the file; the object is not used again."""
        with self._lock:
            self._connection.close()

    def __del__(self) -> None:
        # Only the process that opened a connection may close it.
        if getattr(self, "_process", 0) == os.getpid() and hasattr(self, "_connection"):
            self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise Unavailable("the store is closed", got=f"{self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _CORRUPT:
                raise self._corrupt(
                    "the store is damaged", got=f"{self._path}: {error}", hint="restore it from a backup"
                ) from error
            raise Unavailable(
                "the store cannot be used now", got=f"{self._path}: {error}", hint="check space, rights and locks"
            ) from error
