"""Whether the answers of a batch would go where its rows come from: starting anew would then destroy the rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from trimtab.adapters.offline.database import Address, connect, is_url, shown, sqlite_file
from trimtab.adapters.offline.queries import names
from trimtab.adapters.offline.tables import input_files
from trimtab.errors import InputError

_POSTGRES = ("postgresql", "postgres")


def refuse_own_input(rows: object, query: str, out: str) -> None:
    """See that the answers go to another place than the rows come from; nothing is opened for writing.

    Compared are files (also by links), folders (one in the other too), and tables of one database, also those that a
    query reads. In SQLite and PostgreSQL the database itself says what a query reads, through views too; elsewhere
    only the name of the table in the query can tell.

    Raises
    ------
    InputError
        When they are one.
    """
    if not isinstance(rows, str | Path):
        return
    place = str(rows)
    if is_url(place):
        asked = Address.of(place)
        own = _same_table(asked, query, Address.of(out)) if is_url(out) else _is_database(asked, out)
    else:
        own = not is_url(out) and not query and _same_files(place, out)
    if own:
        raise InputError(
            "the answers would go where the rows come from", got=shown(out), hint="name another place with --out"
        )


# -- files


def _is_database(asked: Address, out: str) -> bool:
    file = sqlite_file(asked)
    return file is not None and _same(file, Path(out))


def _same_files(place: str, out: str) -> bool:
    """Also where an answer would be read as a row by the next run: then the rows would no longer be the same."""
    target = Path(out).absolute()
    parts = target.with_name(f"{target.name}.parts")
    source = Path(place)
    if source.is_dir():
        return _within(target, source) or _within(source, target) or _within(source, parts)
    return _would_match(source, target) or any(
        _within(file, target) or _within(file, parts) for file in input_files(place)
    )


def _would_match(pattern: Path, target: Path) -> bool:
    """Whether a glob finds the file, once it is there."""
    steps, found = pattern.absolute().parts, target.absolute().parts
    return len(steps) == len(found) and all(fnmatch(name, step) for name, step in zip(found, steps, strict=True))


def _within(path: Path, folder: Path) -> bool:
    """Whether it is that, or in it; links are followed."""
    found = path.resolve()
    return any(_same(step, folder) for step in (found, *found.parents))


def _same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:  # one of them is not there
        return first.resolve() == second.resolve()


# -- databases


def _same_table(asked: Address, query: str, target: Address) -> bool:
    files = sqlite_file(asked), sqlite_file(target)
    if files[0] is not None and files[1] is not None:
        if not files[0].is_file() or not _same(files[0], files[1]):
            return False
        read = _read_by_sqlite(files[0], query or f"SELECT * FROM {asked.table}")  # noqa: S608 - the name was checked
        return _last(target.table) in read
    if all(address.url.partition(":")[0] in _POSTGRES for address in (asked, target)):
        return _same_in_postgres(asked, query, target)
    if asked.url != target.url:
        return False
    return _last(target.table) in (names(query) if query else {_last(asked.table)})


def _last(table: str) -> str:
    """The name without the schema, as databases compare it."""
    return table.rpartition(".")[2].lower()


def _read_by_sqlite(file: Path, query: str) -> set[str]:
    """The tables that a query reads, through views too. It is prepared, and not run."""
    found: set[str] = set()

    def note(action: int, first: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ and first is not None:
            found.add(first.lower())
        return sqlite3.SQLITE_OK

    driver = connect(Address(f"sqlite:///{file}", ""), readonly=True)
    with closing(driver.connection), driver.translated():
        driver.connection.set_authorizer(note)
        driver.connection.execute(f"EXPLAIN {query}").fetchall()
    return found


def _same_in_postgres(asked: Address, query: str, target: Address) -> bool:
    """Whether two addresses, however they are written, name one database, and the query reads the table."""
    source, place = connect(asked, readonly=True), connect(target, readonly=True)
    with closing(source.connection) as first, closing(place.connection) as second:
        with place.translated():
            if _database(first) != _database(second):
                return False
            written = set(second.execute(_WITH_PARTITIONS, (target.table,)).fetchall())
        with source.translated():
            text = query.rstrip().rstrip(";") or f"SELECT * FROM {asked.table}"  # noqa: S608 - the name was checked
            # Bytes, and no parameters: nothing in it is taken for a placeholder.
            plan = first.execute(f"EXPLAIN (VERBOSE, FORMAT JSON) {text}".encode()).fetchone()[0]
        return not written.isdisjoint(_relations(plan))


_WITH_PARTITIONS = """
WITH RECURSIVE own(oid) AS (
    SELECT to_regclass(%s)::oid UNION SELECT inhrelid FROM pg_inherits JOIN own ON inhparent = own.oid
)
SELECT nspname, relname FROM own JOIN pg_class c ON c.oid = own.oid JOIN pg_namespace n ON n.oid = relnamespace
"""


def _database(connection: Any) -> Any:
    """A server is known by the moment it was started, a database by its number."""
    ask = "SELECT pg_postmaster_start_time(), oid FROM pg_database WHERE datname = current_database()"
    return connection.execute(ask).fetchone()


def _relations(plan: Any) -> Iterator[tuple[str, str]]:
    """Schema and name of every table in a plan."""
    if isinstance(plan, list):
        for part in plan:
            yield from _relations(part)
    elif isinstance(plan, dict):
        if "Relation Name" in plan:
            yield plan.get("Schema", ""), plan["Relation Name"]
        for part in plan.values():
            yield from _relations(part)
