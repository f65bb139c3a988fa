"""Tables in a database: rows to be scored come from a query, answers go to a table, chunk by chunk.

SQLite through the standard library; PostgreSQL through psycopg; everything else through SQLAlchemy. Each over the plain
DB-API, so that a driver needs to do nothing special.
"""

from __future__ import annotations

import hashlib
import io
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from trimtab.adapters.lockfile import LockFile
from trimtab.adapters.offline.database import Address, Driver, connect, has_table, hold
from trimtab.adapters.offline.tables import Chunk
from trimtab.errors import ConflictError, InputError

if TYPE_CHECKING:
    import pyarrow as pa


class SqlTable:
    """The rows of a query, streamed in chunks. A query has no digest, so each chunk carries one of what it held.

    Parameters
    ----------
    address
        The database; its table is read whole where no query is given.
    query
        A SELECT. It must give its rows in the same order each time: end it with ORDER BY and a unique column.
    """

    def __init__(self, address: Address, query: str = "") -> None:
        if not query and not address.table:
            raise InputError(
                "which rows?", got=address.shown, hint="give --query, or a table as in sqlite:///shop.db#visits"
            )
        self._address, self._query = address, query.rstrip().rstrip(";") or f"SELECT * FROM {address.table}"  # noqa: S608 - the name was checked
        self.name = address.shown if not query else f"{address.shown}: {query}"
        self.identity = ""
        self.rows: int | None = None
        with self._open() as driver, driver.translated():
            cursor = driver.connection.cursor()
            cursor.execute(f"SELECT * FROM ({self._query}) AS asked LIMIT 1")  # noqa: S608 - the user's own query
            self.columns = [str(column[0]) for column in cursor.description]
            self._sample = cursor.fetchone()
            cursor.execute(f"SELECT count(*) FROM ({self._query}) AS asked")  # noqa: S608 - as above
            self.rows = int(cursor.fetchone()[0])

    def chunks(self, size: int, kinds: Mapping[str, str], *, id: str, skip: Collection[int] = ()) -> Iterator[Chunk]:
        """See :class:`trimtab.adapters.offline.tables.Table`; done chunks are read too, to be compared."""
        del skip
        with self._open() as driver, driver.translated():
            if driver.postgres:
                driver.connection.autocommit = False  # such a cursor lives in a transaction
                cursor = driver.connection.cursor("trimtab_batch", binary=True)
            else:
                cursor = driver.connection.cursor()
            with closing(cursor):
                cursor.execute(self._query)
                for number in range(2**62):
                    rows = cursor.fetchmany(size)
                    if not rows:
                        return
                    yield self._chunk(rows, number, number * size, kinds, id)

    def id_type(self, id: str) -> Any:
        """That of the first row; a database that mixes types in a column may refuse later."""
        import pyarrow as pa

        first = self._sample[self.columns.index(id)] if id and self._sample else 0
        return pa.int64() if isinstance(first, int) else pa.string()

    def same(self) -> bool:
        """Each chunk is compared instead."""
        return True

    def _chunk(self, rows: Sequence[Any], number: int, first: int, kinds: Mapping[str, str], id: str) -> Chunk:
        import pyarrow as pa

        columns: dict[str, list[object]] = {}
        ids = None
        for name, values in zip(self.columns, zip(*rows, strict=True), strict=True):
            if name == id:
                kind = self.id_type(id)
                texts = [value if value is None or kind == pa.int64() else str(value) for value in values]
                try:
                    ids = pa.array(texts, kind)
                except pa.ArrowException as error:  # a column of several types, as SQLite allows
                    raise InputError(f"the ids in {id!r} are of several types", got=str(error)[:200]) from None
            if name in kinds:
                columns[name] = [_read(value, kinds[name]) for value in values]
        content = hashlib.sha256(repr([tuple(row) for row in rows]).encode()).hexdigest()
        return Chunk(number, first, len(rows), ids, columns, content)

    @contextmanager
    def _open(self) -> Iterator[Driver]:
        driver = connect(self._address, readonly=True)
        try:
            yield driver
        finally:
            driver.connection.close()


def _read(value: object, kind: str) -> object:  # noqa: PLR0911 - one line per type
    """What a database has no type for: decimals, and in SQLite bools and times."""
    from datetime import date, datetime, time
    from decimal import Decimal

    from trimtab.core.clock import instant

    match value:
        case Decimal():
            return int(value) if kind == "int" and value == value.to_integral_value() else float(value)
        case datetime() if kind == "time":
            return instant(value)
        case date() if kind == "time":
            return instant(datetime.combine(value, time()))
        case int() if kind == "bool" and value in (0, 1):
            return bool(value)
        case str() if kind == "time":
            try:
                return instant(value)
            except InputError:
                return value
        case _:
            return value


class SqlAnswers:
    """Answers in a table of a database. A chunk's rows and the note that it is done are one transaction.

    Notes stand in ``trimtab_batch`` of the same database. Where no lock holds the table, the run's own note does: each
    transaction sees that it still stands, so that of two runs the later one goes on and the earlier one writes no more.
    """

    def __init__(self, address: Address) -> None:
        if not address.table:
            raise InputError("which table?", got=address.shown, hint="name it, as in sqlite:///scores.db#scored")
        self._address = address
        self._driver = connect(address)
        self._held: LockFile | None = None
        self._run: bytes | None = None
        self._absent = False
        try:
            with self._driver.translated():
                self._held = hold(self._driver)
                self._execute(
                    "CREATE TABLE IF NOT EXISTS trimtab_batch"
                    " (target VARCHAR(200), chunk INTEGER, facts TEXT, PRIMARY KEY (target, chunk))"
                )
                self._commit()
        except BaseException:
            self.close()
            raise

    def notes(self) -> dict[int, bytes]:
        """The note of every chunk that is done, by number; -1 is the run's own."""
        with self._driver.translated():
            cursor = self._execute(
                f"SELECT chunk, facts FROM trimtab_batch WHERE target = {self._driver.mark}",  # noqa: S608 - a placeholder
                (self._address.table,),
            )
            found = {int(chunk): str(facts).encode() for chunk, facts in cursor.fetchall()}
            self._commit()
        self._run = found.get(-1)
        return found

    def begin(self, note: bytes, schema: pa.Schema) -> None:
        """Make the table, empty, and remember the run; whatever stood there is gone.

        Raises
        ------
        InputError
            When there was none, and somebody has made one since: that is theirs.
        """
        body = ", ".join(f'"{field.name}" {_sql_type(field.type)}' for field in schema)
        with self._transaction():
            self._execute(f"DELETE FROM trimtab_batch WHERE target = {self._driver.mark}", (self._address.table,))  # noqa: S608 - a placeholder
            if not self._absent:
                self._execute(f"DROP TABLE IF EXISTS {self._address.table}")
            self._execute(f"CREATE TABLE {self._address.table} ({body})")
            self._note(-1, note)
        self._run, self._absent = note, False

    def exists(self) -> bool:
        """Whether the table is there already, whoever made it; errors of :func:`has_table`."""
        found = has_table(self._driver)
        self._commit()
        self._absent = not found
        return found

    def write(self, number: int, note: bytes, table: pa.Table) -> None:
        """Add the rows of a chunk and its note, both or neither."""
        with self._transaction():
            self._still_ours()
            if self._driver.postgres:
                self._copy(table)
            elif table.num_rows:
                marks = ", ".join([self._driver.mark] * table.num_columns)
                rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
                self._driver.connection.cursor().executemany(
                    f"INSERT INTO {self._address.table} VALUES ({marks})",  # noqa: S608 - the name was checked
                    rows,
                )
            self._note(number, note)

    def _copy(self, table: pa.Table) -> None:
        """Rows as CSV, which Arrow writes and PostgreSQL reads a table at a time; an empty field is NULL."""
        import pyarrow as pa
        from pyarrow import csv

        plain = [
            column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
            for column in table.columns
        ]
        data = io.BytesIO()
        csv.write_csv(pa.table(plain, names=table.column_names), data, csv.WriteOptions(include_header=False))
        with self._driver.connection.cursor().copy(f"COPY {self._address.table} FROM STDIN (FORMAT csv)") as copy:
            copy.write(data.getbuffer())

    def finish(self, report: bytes, *, chunks: int) -> None:
        """Note that all of it is there; the notes of the chunks are no longer needed."""
        del chunks
        with self._transaction():
            self._still_ours()
            self._execute(f"DELETE FROM trimtab_batch WHERE target = {self._driver.mark}", (self._address.table,))  # noqa: S608 - a placeholder
            self._note(-2, report)

    def finished(self) -> bytes | None:
        """The report of a run that is over; None when there is none, or its table is gone."""
        report = self.notes().get(-2)
        return report if report is not None and self.exists() else None

    def close(self) -> None:
        """Let go of the database."""
        self._driver.connection.close()
        if self._held is not None:
            self._held.release(remove=True)

    def _still_ours(self) -> None:
        """See that no other run has begun here since; none can until this transaction ends."""
        ours = f"target = {self._driver.mark} AND chunk = -1"
        self._execute(f"UPDATE trimtab_batch SET chunk = -1 WHERE {ours}", (self._address.table,))  # noqa: S608 - a placeholder
        found = self._execute(f"SELECT facts FROM trimtab_batch WHERE {ours}", (self._address.table,)).fetchall()  # noqa: S608 - as above
        if [str(facts).encode() for (facts,) in found] != [self._run]:
            raise ConflictError(
                "another run has begun to write these answers", got=self._address.shown, hint="let that one end"
            )

    def _note(self, number: int, note: bytes) -> None:
        marks = ", ".join([self._driver.mark] * 3)
        self._execute(f"INSERT INTO trimtab_batch VALUES ({marks})", (self._address.table, number, note.decode()))  # noqa: S608 - placeholders

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        connection = self._driver.connection
        with self._driver.translated():
            if self._driver.postgres:
                with connection.transaction():
                    yield
                return
            if isinstance(connection, sqlite3.Connection):
                connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.commit()
            except BaseException:
                connection.rollback()
                raise

    def _execute(self, sql: str, parameters: Sequence[object] = ()) -> Any:
        cursor = self._driver.connection.cursor()
        cursor.execute(sql, parameters)
        return cursor

    def _commit(self) -> None:
        if not isinstance(self._driver.connection, sqlite3.Connection):
            self._driver.connection.commit()


def _sql_type(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_floating(kind):
        return "DOUBLE PRECISION"
    return "BIGINT" if pa.types.is_integer(kind) else "TEXT"
