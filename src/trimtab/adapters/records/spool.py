"""Records in append-only files, per table and writer, each batch written by one ``write(2)``."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from trimtab.adapters.files import make_directory
from trimtab.adapters.records.segments import PARQUET, SegmentIndex, alone, read_mark
from trimtab.adapters.records.spoolfile import holds_rows, rows_past
from trimtab.adapters.records.tail import SEGMENT_BYTES, SpoolFile, Tail, spools
from trimtab.core.ports import Place
from trimtab.errors import InputError, Unavailable

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class Entry(NamedTuple):
    """A row and its place; the payload is None where the row is erased."""

    place: Place
    payload: bytes | None


class SpoolRecords:
    """:class:`trimtab.core.ports.Records` in files below ``root/<table>``, and what was compacted of them.

    Parameters
    ----------
    root
        The directory of all tables; created when missing.
    writer
        The name of this writer. A spool has one writer at a time: a second one is refused while the first lives.
    segment_bytes
        A file that has grown to this is followed by a new one, so that it can be deleted when it is in Parquet.

    Raises
    ------
    InputError
        When a table or a writer has a name other than letters, digits and ``-_.``.
    ConflictError
        From ``write``, when another process or object writes under this name.
    IntegrityError
        When a file is damaged anywhere but at its end.

    Notes
    -----
    A table is opened for writing at its first ``write`` (or by ``prepare``), and a torn tail is cut off then. After
    a power cut, rows written without ``sync`` may be gone though a reader saw them. Rows that could not be forced to
    disk are erased where they stand, and readers that have seen them go on behind them.

    Examples
    --------
    >>> import tempfile
    >>> records = SpoolRecords(Path(tempfile.mkdtemp()), "worker-1")
    >>> _ = records.write("answers", [b"one", b"two"])
    >>> [row for place, row in records.scan("answers")]
    [b'one', b'two']
    """

    def __init__(self, root: Path, writer: str, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._root, self._writer, self._limit = Path(root), _checked(writer, "writer"), segment_bytes
        make_directory(self._root)
        self._tails: dict[str, Tail] = {}
        self._indexes: dict[str, SegmentIndex] = {}

    def prepare(self, *tables: str) -> None:
        """Open tables for writing and mend their tails now, so that the first ``write`` does not pay for it."""
        for table in tables:
            if table not in self._tails:
                directory = self.directory(table)
                make_directory(directory)
                self._tails[table] = Tail(directory, self._writer, limit=self._limit)

    def write(self, table: str, rows: Sequence[bytes], *, sync: bool = False) -> Place:
        """Append rows as one batch and return the place after the last of them.

        No rows and ``sync=True`` forces to disk what this writer wrote to the table before; that alone may be done in
        another thread than the one that writes.
        """
        tail = self._tails.get(table)
        if tail is None:
            self.prepare(table)
            tail = self._tails[table]
        if not rows:
            return Place(self._writer, tail.settled() if sync else tail.end)
        try:
            return Place(self._writer, tail.append(rows, sync=sync))
        except OSError as error:
            raise self._mended(table, tail, error) from error

    def make_sure(self, table: str, size: int) -> None:
        """Raise ``Unavailable`` when a batch of so many bytes could not be written now; no row comes of it."""
        self.prepare(table)
        tail = self._tails[table]
        try:
            tail.try_room(size)
        except OSError as error:
            raise self._mended(table, tail, error) from error

    def _mended(self, table: str, tail: Tail, error: OSError) -> Unavailable:
        """Take back what a failed write left; what to raise for it."""
        try:
            tail.restore()
        except OSError:
            if not tail.owes:
                tail.close()
                del self._tails[table]  # the next write opens the file anew and mends it
        what, hint = "records cannot be written", "make room on the disk, then send again"
        return Unavailable(what, got=f"{table}: {error.strerror}", hint=hint)

    def scan(self, table: str, *, after: Mapping[str, int] | None = None) -> Iterator[tuple[Place, bytes]]:
        """Yield every row past the given offset of each writer, writer by writer, from spools or from Parquet."""
        for place, payload in self.entries(table, after=after):
            if payload is not None:
                yield place, payload

    def entries(
        self, table: str, *, after: Mapping[str, int] | None = None, only: str | None = None
    ) -> Iterator[Entry]:
        """The same, of one writer or of all, with the places of erased rows where they are known."""
        given = dict(after or {})
        directory, index = self.directory(table), self.index(table)
        chains = spools(directory)
        for writer in sorted({*chains, *index.by_writer()}) if only is None else (only,):
            yield from _Way(writer, index, position=given.get(writer, 0)).along(chains.get(writer, []))

    def tables(self) -> list[str]:
        """The names of the tables that hold rows, sorted."""
        names = sorted(path.name for path in self._root.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))
        return [name for name in names if self._holds_rows(name)]

    def erase(self, table: str, rows: Mapping[str, Sequence[int]]) -> int:
        """Overwrite the named rows (writer → offsets as given by ``scan``) for good; how many were erased now.

        It also finishes, in every file of the table, an erasure that a crash has cut short.

        Raises
        ------
        InputError
            When an offset is not the end of a row. The rows of writers before it are erased then.
        Unavailable
            When the disk takes no more. Some of the rows may be erased then.
        """
        directory = self.directory(table)
        if not directory.is_dir():
            if rows:
                raise InputError(f"table {table} has no such writer", got=", ".join(sorted(rows)))
            return 0
        from trimtab.adapters.records.erasing import erase

        with alone(directory / PARQUET, wait=True):  # or a compaction could bring back what it has read before
            try:
                return erase(self, table, {writer: set(offsets) for writer, offsets in rows.items()})
            except OSError as error:
                hint = "make room on the disk, then erase again"
                raise Unavailable("records cannot be erased", got=f"{table}: {error.strerror}", hint=hint) from error

    def directory(self, table: str) -> Path:
        """Where the files of a table are; its Parquet files are below, in ``parquet``."""
        return self._root / _checked(table, "table")

    def index(self, table: str) -> SegmentIndex:
        """What of a table is in Parquet."""
        if table not in self._indexes:
            self._indexes[table] = SegmentIndex(self.directory(table) / PARQUET)
        return self._indexes[table]

    def close(self) -> None:
        """Let go of the files, so that another object may write under this name."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()

    def _holds_rows(self, table: str) -> bool:
        for files in spools(self.directory(table)).values():
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # compacted and deleted since the directory was listed
                    if holds_rows(file.path):
                        return True
        index = self.index(table)
        marks = (read_mark(index.directory, each) for own in index.by_writer().values() for each in own)
        return any(mark is not None and mark.rows for mark in marks)


class _Way:
    """From one place of a writer to the end of what it wrote: through spools, and Parquet where they are gone."""

    def __init__(self, writer: str, index: SegmentIndex, *, position: int) -> None:
        self._writer, self._index, self._position = writer, index, position

    def along(self, files: Sequence[SpoolFile]) -> Iterator[Entry]:
        """Every row past the position, each once."""
        for file in files:
            if file.following is not None and file.following <= self._position:
                continue
            if file.base > self._position:
                yield from self._compacted(file.base)
            yield from self._file(file)
        yield from self._compacted(None)

    def _file(self, file: SpoolFile) -> Iterator[Entry]:
        try:
            size = file.path.stat().st_size
            if self._position > file.base + size and self._index.holds(self._writer, self._position):
                return  # a power cut took the end of the file, and what was read of it is in Parquet
            for row in rows_past(file.path, after=self._position - file.base):
                self._position = file.base + row.end
                yield Entry(Place(self._writer, self._position), None if row.erased else row.payload)
        except FileNotFoundError:  # compacted and deleted since the directory was listed
            yield from self._compacted(file.following, fresh=True)

    def _compacted(self, until: int | None, *, fresh: bool = False) -> Iterator[Entry]:
        """Rows that are in Parquet, up to an offset, which is where the next file begins."""
        while until is None or self._position < until:
            segment = self._index.covering(self._writer, self._position, fresh=fresh or until is not None)
            if segment is None or (until is not None and segment.start >= until):
                break  # neither here nor there: a power cut took it before it was forced to disk
            from trimtab.adapters.records.parquet import rows_of

            for offset, payload in rows_of(self._index.directory, segment, after=self._position):
                if until is not None and offset > until:
                    break
                self._position = offset
                yield Entry(Place(self._writer, offset), payload)
            self._position = segment.end if until is None else min(segment.end, until)
        if until is not None:
            self._position = until


def _checked(name: str, kind: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise InputError(
            f"not the name of a {kind} of records", got=repr(name[:80]), hint="use letters, digits and -_."
        )
    return name
