"""Tables in a database: rows to be scored come from a query, answers go to a table, chunk by chunk.

SQLite through the standard library; PostgreSQL through psycopg; everything else through SQLAlchemy. Each over the plain
DB-API, so that a driver needs to do nothing special.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trimtab.adapters.offline.tables import Chunk, missing_driver
from trimtab.errors import InputError, Unavailable

if TYPE_CHECKING:
    import pyarrow as pa

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


def is_url(text: str) -> bool:
    """Whether a place is a database rather than a file.

    Examples
    --------
    >>> is_url("sqlite:///shop.db#visits"), is_url("data/rows.parquet")
    (True, False)
    """
    return _SCHEME.match(text) is not None


@dataclass(frozen=True, slots=True)
class Address:
    """A database, and a table in it: ``scheme://…#table``."""

    url: str
    table: str

    @staticmethod
    def of(text: str) -> Address:
        """Read an address.

        Raises
        ------
        InputError
            When the name of the table is not one.

        Examples
        --------
        >>> Address.of("sqlite:///shop.db#visits")
        Address(url='sqlite:///shop.db', table='visits')
        """
        url, _, table = text.partition("#")
        if table and _NAME.fullmatch(table) is None:
            raise InputError("not the name of a table", got=repr(table), hint="as in sqlite:///shop.db#visits")
        return Address(url, table)

    @property
    def shown(self) -> str:
        """Without a password: for messages, reports and the ledger."""
        parts = urlsplit(self.url)
        if parts.password is None:
            return f"{self.url}#{self.table}" if self.table else self.url
        return f"{parts.scheme}://{parts.username}@{parts.hostname}{parts.path}#{self.table}"


@dataclass(frozen=True, slots=True)
class Driver:
    """An open connection and what is peculiar to its driver."""

    connection: Any
    errors: tuple[type[Exception], ...]
    mark: str
    """How a parameter is written."""
    named_cursor: bool = False
    """Whether rows are only streamed through a cursor that the server holds."""

    @contextmanager
    def translated(self, url: str) -> Iterator[None]:
        """Turn what the driver raises into our errors; a full disk and a lost server are not the query's fault."""
        try:
            yield
        except self.errors as error:
            kind, said = type(error).__name__, (str(error).splitlines() or [""])[0][:300]
            if kind in ("OperationalError", "InterfaceError") and "no such" not in said and "syntax" not in said:
                raise Unavailable(
                    "the database cannot be used now", got=f"{url}: {said}", hint="mend it, then run the same again"
                ) from None
            raise InputError(
                "the database refuses", got=f"{kind}: {said}", hint="see the query and the table"
            ) from None


def connect(address: Address, *, readonly: bool = False) -> Driver:
    """Open a database; ``readonly`` keeps SQLite from making one that is not there.

    Raises
    ------
    MissingExtra
        When its driver is not installed.
    InputError, Unavailable
        When there is none.
    """
    scheme = address.url.partition(":")[0]
    if scheme == "sqlite":
        path = address.url.removeprefix("sqlite:///").removeprefix("sqlite://")
        try:
            name = f"{Path(path).absolute().as_uri()}?mode={'ro' if readonly else 'rwc'}"
            found = sqlite3.connect(name, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise Unavailable("the database cannot be opened", got=f"{path}: {error}") from None
        return Driver(found, (sqlite3.Error,), "?")
    if scheme in ("postgresql", "postgres"):
        try:
            import psycopg
        except ImportError:
            raise missing_driver("psycopg", "PostgreSQL") from None
        try:
            return Driver(psycopg.connect(address.url, autocommit=True), (psycopg.Error,), "%s", named_cursor=True)
        except psycopg.Error as error:
            raise Unavailable("the database cannot be opened", got=f"{address.shown}: {error}"[:300]) from None
    return _through_sqlalchemy(address)


_MARKS = {"qmark": "?", "format": "%s", "pyformat": "%s"}


def _through_sqlalchemy(address: Address) -> Driver:
    try:
        import sqlalchemy
    except ImportError:
        raise missing_driver("sqlalchemy", address.url.partition(":")[0]) from None
    try:
        engine = sqlalchemy.create_engine(address.url)
        raw = engine.raw_connection()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise Unavailable("the database cannot be opened", got=f"{address.shown}: {error}"[:300]) from None
    mark = _MARKS.get(engine.dialect.paramstyle)
    if mark is None:
        raise InputError("this driver's parameters cannot be written", got=engine.dialect.paramstyle)
    return Driver(raw, (engine.dialect.dbapi.Error,), mark)


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
        with self._open() as (driver, url), driver.translated(url):
            cursor = driver.connection.cursor()
            cursor.execute(f"SELECT * FROM ({self._query}) AS asked LIMIT 1")  # noqa: S608 - the user's own query
            self.columns = [str(column[0]) for column in cursor.description]
            self._sample = cursor.fetchone()
            cursor.execute(f"SELECT count(*) FROM ({self._query}) AS asked")  # noqa: S608 - as above
            self.rows = int(cursor.fetchone()[0])

    def chunks(self, size: int, kinds: Mapping[str, str], *, id: str, skip: Collection[int] = ()) -> Iterator[Chunk]:
        """See :class:`trimtab.adapters.offline.tables.Table`; done chunks are read too, to be compared."""
        del skip
        with self._open() as (driver, url), driver.translated(url):
            if driver.named_cursor:
                driver.connection.autocommit = False  # such a cursor lives in a transaction
                cursor = driver.connection.cursor("trimtab_batch")
            else:
                cursor = driver.connection.cursor()
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
    def _open(self) -> Iterator[tuple[Driver, str]]:
        driver = connect(self._address, readonly=True)
        try:
            yield driver, self._address.shown
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

    Notes stand in ``trimtab_batch`` of the same database.
    """

    def __init__(self, address: Address) -> None:
        if not address.table:
            raise InputError("which table?", got=address.shown, hint="name it, as in sqlite:///scores.db#scored")
        self._address = address
        self._driver = connect(address)
        with self._driver.translated(address.shown):
            self._execute(
                "CREATE TABLE IF NOT EXISTS trimtab_batch"
                " (target VARCHAR(200), chunk INTEGER, facts TEXT, PRIMARY KEY (target, chunk))"
            )
            self._commit()

    def notes(self) -> dict[int, bytes]:
        """The note of every chunk that is done, by number; -1 is the run's own."""
        with self._driver.translated(self._address.shown):
            cursor = self._execute(
                f"SELECT chunk, facts FROM trimtab_batch WHERE target = {self._driver.mark}",  # noqa: S608 - a placeholder
                (self._address.table,),
            )
            found = {int(chunk): str(facts).encode() for chunk, facts in cursor.fetchall()}
            self._commit()
        return found

    def begin(self, note: bytes, schema: pa.Schema) -> None:
        """Make the table, empty, and remember the run; whatever stood there is gone."""
        body = ", ".join(f'"{field.name}" {_sql_type(field.type)}' for field in schema)
        with self._transaction():
            self._execute(f"DELETE FROM trimtab_batch WHERE target = {self._driver.mark}", (self._address.table,))  # noqa: S608 - a placeholder
            self._execute(f"DROP TABLE IF EXISTS {self._address.table}")
            self._execute(f"CREATE TABLE {self._address.table} ({body})")
            self._note(-1, note)

    def exists(self) -> bool:
        """Whether the table is there already, whoever made it."""
        try:
            with self._driver.translated(self._address.shown):
                self._execute(f"SELECT 1 FROM {self._address.table} WHERE 1 = 0").fetchall()  # noqa: S608 - checked
                self._commit()
        except (InputError, Unavailable):
            self._driver.connection.rollback()
            return False
        return True

    def write(self, number: int, note: bytes, table: pa.Table) -> None:
        """Add the rows of a chunk and its note, both or neither."""
        marks = ", ".join([self._driver.mark] * table.num_columns)
        rows = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        with self._transaction():
            if rows:
                self._driver.connection.cursor().executemany(
                    f"INSERT INTO {self._address.table} VALUES ({marks})",  # noqa: S608 - the name was checked
                    rows,
                )
            self._note(number, note)

    def finish(self, report: bytes, *, chunks: int) -> None:
        """Note that all of it is there; the notes of the chunks are no longer needed."""
        del chunks
        with self._transaction():
            self._execute(f"DELETE FROM trimtab_batch WHERE target = {self._driver.mark}", (self._address.table,))  # noqa: S608 - a placeholder
            self._note(-2, report)

    def finished(self) -> bytes | None:
        """The report of a run that is over; None when there is none."""
        return self.notes().get(-2)

    def close(self) -> None:
        """Let go of the database."""
        self._driver.connection.close()

    def _note(self, number: int, note: bytes) -> None:
        marks = ", ".join([self._driver.mark] * 3)
        self._execute(f"INSERT INTO trimtab_batch VALUES ({marks})", (self._address.table, number, note.decode()))  # noqa: S608 - placeholders

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        connection = self._driver.connection
        with self._driver.translated(self._address.shown):
            if not self._driver.named_cursor and isinstance(connection, sqlite3.Connection):
                connection.execute("BEGIN IMMEDIATE")
            elif self._driver.named_cursor:
                connection.autocommit = False
            try:
                yield
                connection.commit()
            except BaseException:
                connection.rollback()
                raise
            finally:
                if self._driver.named_cursor:
                    connection.autocommit = True

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
