"""Records in append-only files, one per table and writer, each batch written by one ``write(2)``."""

from __future__ import annotations

import fcntl
import os
import re
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from trimtab.adapters.files import make_directory, sync_directory
from trimtab.adapters.records import frames
from trimtab.core.ports import Place
from trimtab.errors import ConflictError, InputError, IntegrityError, Unavailable

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SUFFIX = ".spool"


class SpoolRecords:
    """:class:`trimtab.core.ports.Records` in ``root/<table>/<writer>.spool``.

    Parameters
    ----------
    root
        The directory of all tables; created when missing.
    writer
        The name of this writer. A file has one writer at a time: a second one is refused while the first lives.

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
    a power cut, rows written without ``sync`` may be gone though a reader saw them.

    Examples
    --------
    >>> import tempfile
    >>> records = SpoolRecords(Path(tempfile.mkdtemp()), "worker-1")
    >>> _ = records.write("answers", [b"one", b"two"])
    >>> [row for place, row in records.scan("answers")]
    [b'one', b'two']
    """

    def __init__(self, root: Path, writer: str) -> None:
        self._root, self._writer = Path(root), _checked(writer, "writer")
        make_directory(self._root)
        self._tails: dict[str, _Tail] = {}

    def prepare(self, *tables: str) -> None:
        """Open tables for writing and mend their tails now, so that the first ``write`` does not pay for it."""
        for table in tables:
            if table not in self._tails:
                directory = self._root / _checked(table, "table")
                make_directory(directory)
                self._tails[table] = _Tail(directory / f"{self._writer}{_SUFFIX}")

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
            try:
                tail.restore()
            except OSError:
                tail.close()
                del self._tails[table]  # the next write opens the file anew and mends it
            raise Unavailable(
                "records cannot be written",
                got=f"{table}: {error.strerror}",
                hint="make room on the disk, then send again",
            ) from error

    def scan(self, table: str, *, after: Mapping[str, int] | None = None) -> Iterator[tuple[Place, bytes]]:
        """Yield every row past the given offset of each writer, writer by writer."""
        given = after or {}
        for writer, path in self._files(table).items():
            for row in _rows(path, after=given.get(writer, 0)):
                yield Place(writer, row.end), row.payload

    def tables(self) -> list[str]:
        """The names of the tables that hold rows, sorted."""
        names = sorted(path.name for path in self._root.iterdir() if path.is_dir() and _NAME.fullmatch(path.name))
        return [name for name in names if any(map(_holds_rows, self._files(name).values()))]

    def erase(self, table: str, rows: Mapping[str, Sequence[int]]) -> int:
        """Overwrite the named rows (writer → offsets as given by ``scan``) for good; how many were erased now.

        It also finishes, in every file of the table, an erasure that a crash has cut short.

        Raises
        ------
        InputError
            When an offset is not the end of a row. The rows of writers before it are erased then.
        """
        files = self._files(table)
        if unknown := rows.keys() - files.keys():
            raise InputError(f"table {table} has no such writer", got=", ".join(sorted(unknown)))
        return sum(_erase(path, set(rows.get(writer, ()))) for writer, path in files.items())

    def close(self) -> None:
        """Let go of the files, so that another object may write under this name."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()

    def _files(self, table: str) -> dict[str, Path]:
        directory = self._root / _checked(table, "table")
        return {path.name[: -len(_SUFFIX)]: path for path in sorted(directory.glob(f"*{_SUFFIX}"))}


class _Tail:
    """The end of one file, held by its writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._end = _mended(path, self._descriptor)
                if self._end == 0:
                    sync_directory(path.parent)
            except BaseException:
                os.close(self._descriptor)
                raise
            self._closing = weakref.finalize(self, os.close, self._descriptor)
        except BlockingIOError as error:
            raise ConflictError(
                "another process writes records under this name", got=str(path), hint="give each writer its own name"
            ) from error
        except OSError as error:
            raise Unavailable("cannot open records for writing", got=f"{path}: {error.strerror}") from error

    def append(self, rows: Sequence[bytes], *, sync: bool) -> int:
        """Write one batch; its end. After an ``OSError`` the file needs to be restored."""
        batch = frames.pack(rows, offset=self._end)
        if (written := os.pwrite(self._descriptor, batch, self._end)) < len(batch):
            # The disk or the file is full; the system tells the reason only to the next write.
            os.pwrite(self._descriptor, batch[written:], self._end + written)
            raise OSError(0, f"only {written} of {len(batch)} bytes were taken")
        if sync:
            os.fdatasync(self._descriptor)
        self._end += len(batch)
        return self._end

    @property
    def end(self) -> int:
        """Where the file ends."""
        return self._end

    def settled(self) -> int:
        """Force to disk what was appended, and up to where that is. It changes nothing: rows may come meanwhile."""
        end = self._end
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise Unavailable("records cannot be forced to disk", got=f"{self._path}: {error.strerror}") from error
        return end

    def restore(self) -> None:
        """Cut off what a failed ``append`` left."""
        os.ftruncate(self._descriptor, self._end)

    def close(self) -> None:
        """Give the file free; dropping the object does so too."""
        self._closing()


def _checked(name: str, kind: str) -> str:
    if _NAME.fullmatch(name) is None:
        raise InputError(
            f"not the name of a {kind} of records", got=repr(name[:80]), hint="use letters, digits and -_."
        )
    return name


def _mended(path: Path, descriptor: int) -> int:
    """Cut a torn tail off; where the file ends now."""
    size = os.fstat(descriptor).st_size
    end = 0
    with path.open("rb") as file:
        last = None
        for last in frames.headers(file, start=0, size=size):
            end = last.end
        if last is not None and last.end == size and not frames.intact(file, last):
            end = last.start  # the header reached the disk before its rows did
        elif end < size:
            frames.refuse_damage(file, name=str(path), start=end, size=size)
    if end < size:
        os.ftruncate(descriptor, end)
        os.fsync(descriptor)
    return end


def _holds_rows(path: Path) -> bool:
    with path.open("rb") as file:
        return next(frames.headers(file, start=0, size=os.fstat(file.fileno()).st_size), None) is not None


def _rows(path: Path, *, after: int) -> Iterator[frames.Row]:
    with path.open("rb", buffering=1 << 20) as file:
        size = os.fstat(file.fileno()).st_size
        end = start = _batch_with(file, path, offset=after, size=size)
        for batch in frames.headers(file, start=start, size=size):
            rows = _rows_of(file, batch)
            if rows is None:
                if batch.end < size:
                    raise IntegrityError("a spool of records is damaged", got=f"{path}: the batch at {batch.start}")
                return
            end = batch.end
            yield from (row for row in rows if row.end > after and not row.erased)
        if end < size:
            frames.refuse_damage(file, name=str(path), start=end, size=size)


def _rows_of(file: IO[bytes], batch: frames.Batch) -> list[frames.Row] | None:
    for fresh in (False, True):
        # An erasure under way may show half of a row; then what the file holds now is looked at once more.
        body = os.pread(file.fileno(), batch.end - batch.first, batch.first) if fresh else frames.body_of(file, batch)
        rows = frames.rows_in(batch, body)
        if rows is not None and all(row.intact for row in rows):
            return rows
    return None


def _batch_with(file: IO[bytes], path: Path, *, offset: int, size: int) -> int:
    """Where to begin to read what stands past ``offset``, which is the end of a row."""
    if offset > size:
        raise IntegrityError(
            "a spool is shorter than what was read from it",
            got=f"{path}: {size} bytes, read up to {offset}",
            hint="a power cut took the end; rebuild what was derived from these records",
        )
    if offset in (0, size):
        return offset
    file.seek(offset)
    if frames.header_at(file.read(frames.HEADER_SIZE), offset) is not None:
        return offset
    for batch in frames.headers(file, start=0, size=size):
        if batch.end == offset:
            return offset
        if batch.start < offset < batch.end:
            if any(row.end == offset for row in frames.rows_in(batch, frames.body_of(file, batch)) or ()):
                return batch.start
            break
    raise InputError("not the end of a row", got=f"{path}: offset {offset}", hint="pass offsets that scan gave")


def _erase(path: Path, offsets: set[int]) -> int:
    with path.open("r+b", buffering=0) as file:
        named: list[frames.Row] = []
        cut_short: list[frames.Row] = []
        for batch in frames.headers(file, start=0, size=os.fstat(file.fileno()).st_size):
            for row in frames.rows_in(batch, frames.body_of(file, batch)) or ():
                if row.end in offsets:
                    named.append(row)
                elif row.erased and any(row.payload):
                    cut_short.append(row)
        if missing := offsets - {row.end for row in named}:
            raise InputError("not the end of a row", got=f"{path}: offset {min(missing)}", hint="pass what scan gave")
        for row in (*named, *cut_short):
            _overwrite(file.fileno(), row)
        if named or cut_short:
            os.fdatasync(file.fileno())
    return sum(not row.erased for row in named)


def _overwrite(descriptor: int, row: frames.Row) -> None:
    # The mark goes first: from then on no reader takes the row, however far the zeros have come.
    zeros = bytes(len(row.payload))
    os.pwrite(descriptor, frames.ROW.pack(len(zeros) | frames.ERASED, zlib.crc32(zeros)), row.start)
    os.pwrite(descriptor, zeros, row.start + frames.ROW_SIZE)
