"""Databases by their address: opened, their errors told in our words, and never a password in what is said.

SQLite through the standard library; PostgreSQL through psycopg; everything else through SQLAlchemy.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from trimtab.adapters.lockfile import LockFile
from trimtab.errors import ConflictError, InputError, MissingExtra, Unavailable

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
        url, mark, table = text.rpartition("#")
        if not mark:
            url, table = text, ""
        if mark and _NAME.fullmatch(table) is None:
            got = "what follows the last #" if "@" in text else repr(table)  # it may be the rest of a password
            raise InputError("not the name of a table", got=got, hint="as in sqlite:///shop.db#visits")
        return Address(url, table)

    @property
    def secrets(self) -> list[str]:
        """The passwords in it, as they stand there and as they are meant."""
        try:
            parts = urlsplit(self.url)
            found = [parts.password or "", *(value for name, value in parse_qsl(parts.query) if _is_secret(name))]
        except ValueError:
            found = [self.url.partition("://")[2]]
        return [text for one in found if one for text in (one, unquote(one))]

    @property
    def shown(self) -> str:
        """Without a password: for messages, reports and the ledger."""
        if not self.secrets:
            return f"{self.url}#{self.table}" if self.table else self.url
        try:
            parts = urlsplit(self.url)
            user, host = parts.username or "", parts.netloc.rpartition("@")[2]
        except ValueError:
            return f"{self.url.partition(':')[0]}://…"
        query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if not _is_secret(name)])
        place = f"{parts.scheme}://{f'{user}@' if user else ''}{host}{parts.path}{f'?{query}' if query else ''}"
        return f"{place}#{self.table}" if self.table else place

    def cleaned(self, said: str) -> str:
        """What a driver said, without the passwords of this address."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            said = said.replace(secret, "***")
        return said


def _is_secret(name: str) -> bool:
    return any(part in name.lower() for part in ("pass", "pwd", "secret", "token"))


def shown(place: str) -> str:
    """A place as it may be told: a file as it is, an address of a database without its password.

    Examples
    --------
    >>> shown("postgresql://ann:secret@db:5432/shop?sslmode=require#scored")
    'postgresql://ann@db:5432/shop?sslmode=require#scored'
    >>> shown("data/rows.parquet")
    'data/rows.parquet'
    """
    return Address.of(place).shown if is_url(place) else place


@dataclass(frozen=True, slots=True)
class Driver:
    """An open connection and what is peculiar to its driver."""

    connection: Any
    errors: tuple[type[Exception], ...]
    mark: str
    """How a parameter is written."""
    address: Address
    postgres: bool = False
    """Whether it is psycopg: rows are streamed through a cursor that the server holds, and copied in."""
    engine: Any = None
    """That of SQLAlchemy, where the connection is one of its."""

    @property
    def speaks_postgres(self) -> bool:
        """Whether PostgreSQL is at the other end, also where SQLAlchemy stands between."""
        return self.postgres or (self.engine is not None and self.engine.dialect.name == "postgresql")

    def one(self, ask: str, parameters: Sequence[object] = ()) -> Any:
        """The first column of the first row of an answer."""
        cursor = self.connection.cursor()
        cursor.execute(ask, parameters)
        return cursor.fetchone()[0]

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what the driver raises into our errors; a full disk and a lost server are not the query's fault."""
        try:
            yield
        except self.errors as error:
            kinds = {kind.__name__ for kind in type(error).__mro__}
            said = self.address.cleaned((str(error).splitlines() or [""])[0][:300])
            if kinds & {"OperationalError", "InterfaceError"} and not any(words in said for words in _REFUSED):
                raise Unavailable(
                    "the database cannot be used now",
                    got=f"{self.address.shown}: {said}",
                    hint="mend it, then run the same again",
                ) from None
            raise InputError(
                "the database refuses", got=f"{type(error).__name__}: {said}", hint="see the query and the table"
            ) from None


_REFUSED = ("no such", "syntax", "already exists")
"""What SQLite says of a wrong query or table; it calls that an operational error too."""


def sqlite_file(address: Address) -> Path | None:
    """The file of a SQLite database; None when it is another kind.

    Examples
    --------
    >>> sqlite_file(Address.of("sqlite:///shop.db#visits")), sqlite_file(Address.of("postgresql://db/shop#visits"))
    (PosixPath('shop.db'), None)
    """
    scheme, _, path = address.url.partition("://")
    if scheme != "sqlite" and not scheme.startswith("sqlite+"):
        return None
    return Path((path if scheme == "sqlite" else path.partition("?")[0]).removeprefix("/"))


def connect(address: Address, *, readonly: bool = False) -> Driver:
    """Open a database; ``readonly`` keeps a query from writing, and SQLite from making a file that is not there.

    Raises
    ------
    MissingExtra
        When its driver is not installed.
    InputError, Unavailable
        When there is none.
    """
    scheme = address.url.partition(":")[0]
    path = sqlite_file(address)
    if scheme == "sqlite" and path is not None:
        try:
            name = f"{path.absolute().as_uri()}?mode={'ro' if readonly else 'rwc'}"
            found = sqlite3.connect(name, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise Unavailable("the database cannot be opened", got=f"{path}: {error}") from None
        return Driver(found, (sqlite3.Error,), "?", address)
    if scheme in ("postgresql", "postgres"):
        return _postgres(address, readonly=readonly)
    return _through_sqlalchemy(address)


def _postgres(address: Address, *, readonly: bool) -> Driver:
    try:
        import psycopg
    except ImportError:
        raise _missing("psycopg", "PostgreSQL", "trimtab[postgres]") from None
    try:
        found = psycopg.connect(address.url, autocommit=True, application_name="trimtab batch")
        if readonly:
            found.execute("SET default_transaction_read_only = on")
    except psycopg.Error as error:
        said = address.cleaned(" ".join(str(error).split()))[:300]
        raise Unavailable("the database cannot be opened", got=f"{address.shown}: {said}") from None
    return Driver(found, (psycopg.Error,), "%s", address, postgres=True)


_HELD_S = 5.0
"""A run that was killed holds its table until the server has noticed: for so long the next one waits."""


def hold(driver: Driver) -> LockFile | None:
    """Be the one run that writes to the table, until the connection ends.

    PostgreSQL knows such locks. Beside the file of a SQLite database stands one for the table, ``shop.db.scored.lock``,
    which is to be released, and which a killed process lets go of. Other databases know no lock that all of them share:
    there nothing is held.

    Raises
    ------
    ConflictError
        When another run writes there.
    Unavailable
        When the file system refuses.
    """
    if driver.speaks_postgres:
        _hold_in_postgres(driver)
        return None
    file = sqlite_file(driver.address)
    if file is None or not file.is_file():  # a database in memory is nobody else's
        return None
    file = file.resolve()  # by whatever link it was named
    lock = LockFile(file.with_name(f"{file.name}.{_split(driver.address.table)[1].lower()}.lock"))
    try:
        if lock.take():
            return lock
    except OSError as error:
        raise Unavailable(
            "the table of the answers cannot be held", got=str(error), hint="check the rights of the directory"
        ) from error
    raise _held(driver)


def _hold_in_postgres(driver: Driver) -> None:
    """By schema and name, however the address writes them; one that is still to come will be in the first schema."""
    schema, name = _split(driver.address.table.lower())
    ask = "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = to_regclass"
    found = schema or driver.one(f"SELECT coalesce(({ask}({driver.mark})), current_schema(), '')", (name,))
    until = time.monotonic() + _HELD_S
    while not driver.one(
        f"SELECT pg_try_advisory_lock(hashtext('trimtab_batch'), hashtext({driver.mark}))", (f"{found}.{name}",)
    ):
        if time.monotonic() > until:
            raise _held(driver)
        time.sleep(0.1)


def _held(driver: Driver) -> ConflictError:
    return ConflictError(
        "another run writes these answers", got=driver.address.shown, hint="wait for it, or name another table"
    )


def has_table(driver: Driver) -> bool:
    """Whether the table is there, whoever made it and whatever we may do with it: the catalogue says so.

    Raises
    ------
    InputError, Unavailable
        When the catalogue cannot be asked: then nobody knows.
    """
    schema, name = _split(driver.address.table)
    with driver.translated():
        if driver.speaks_postgres:
            return driver.one(f"SELECT to_regclass({driver.mark})::text", (driver.address.table,)) is not None
        if isinstance(driver.connection, sqlite3.Connection):
            ask = f"SELECT count(*) FROM {schema or 'main'}.sqlite_master WHERE type IN ('table', 'view')"  # noqa: S608 - checked
            return bool(driver.one(f"{ask} AND name = ? COLLATE NOCASE", (name,)))
    import sqlalchemy

    try:
        catalogue = sqlalchemy.inspect(driver.engine)
        # In small letters it stands for the name as the database writes one that is not quoted.
        return any(catalogue.has_table(each, schema=schema or None) for each in (name, name.lower()))
    except sqlalchemy.exc.SQLAlchemyError as error:
        said = driver.address.cleaned(str(error))[:300]
        raise Unavailable(
            "the database does not say whether the table is there", got=f"{driver.address.shown}: {said}"
        ) from None


def _split(table: str) -> tuple[str, str]:
    """Schema, empty where none is named, and name."""
    schema, _, name = table.rpartition(".")
    return schema, name


def _missing(module: str, what: str, install: str) -> MissingExtra:
    return MissingExtra(f"the driver for {what} is not installed", got=module, hint=f"pip install '{install}'")


_MARKS = {"qmark": "?", "format": "%s", "pyformat": "%s"}


def _through_sqlalchemy(address: Address) -> Driver:
    try:
        import sqlalchemy
    except ImportError:
        raise _missing("sqlalchemy", address.url.partition(":")[0], "sqlalchemy") from None
    try:
        # Without a pool: a connection that is closed is closed, and lets go of what it held.
        engine = sqlalchemy.create_engine(address.url, poolclass=sqlalchemy.pool.NullPool)
        raw = engine.raw_connection()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        said = address.cleaned(str(error))[:300]
        raise Unavailable("the database cannot be opened", got=f"{address.shown}: {said}") from None
    mark = _MARKS.get(engine.dialect.paramstyle)
    if mark is None:
        raise InputError("this driver's parameters cannot be written", got=engine.dialect.paramstyle)
    return Driver(raw, (engine.dialect.dbapi.Error,), mark, address, engine=engine)
