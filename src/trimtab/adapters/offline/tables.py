"""Tables to be scored, a chunk of rows at a time: Parquet, CSV, data frames. SQL stands in its own module.

Every reader gives the same chunks again for the same content: rows in the order of the files (sorted by name) and of
the rows in them, ``size`` rows to a chunk, numbered from 0. No more than a few chunks are in memory.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.offline.parquet import to_numpy
from trimtab.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a table."""

    number: int
    first: int
    """Number of its first row in the table."""
    rows: int
    ids: Any
    """The id column as it came, an Arrow array; None when the table has none."""
    columns: Mapping[str, NDArray[Any] | list[object]]
    digest: str = ""
    """Of the content, where the table has no identity of its own."""


class Table(Protocol):
    """A table that can be read in chunks, any number of times.

    Contract: ``chunks`` yields the chunks that are not in ``skip``, in order, each the same whenever the content is the
    same. What cannot be read raises ``InputError``.
    """

    name: str
    """For messages and reports."""
    identity: str
    """A digest of the whole content; empty when every chunk carries one instead."""
    columns: list[str]
    rows: int | None
    """How many, when that is known."""

    def chunks(self, size: int, kinds: Mapping[str, str], *, id: str, skip: Collection[int] = ()) -> Iterator[Chunk]:
        """Chunks with the columns that are named in ``kinds``, and the ids."""
        ...

    def id_type(self, id: str) -> Any:
        """The Arrow type of the id column; that of row numbers when ``id`` is empty."""
        ...

    def same(self) -> bool:
        """Whether the content is still what it was when the table was opened; cheap."""
        ...


def open_files(pattern: str) -> Table:
    """The table in a file, a directory or a glob: Parquet, or CSV where the names end in ``.csv`` or ``.csv.gz``.

    Raises
    ------
    InputError
        When nothing matches, kinds are mixed, or a file is not what its name says.
    """
    files = input_files(pattern)
    kinds = {"csv" if file.name.endswith((".csv", ".csv.gz")) else "parquet" for file in files}
    if len(kinds) > 1:
        raise InputError("the files are of several kinds", got=pattern, hint="give Parquet or CSV files, not both")
    if kinds == {"csv"}:
        from trimtab.adapters.offline.csv_table import CsvTable

        return CsvTable(pattern, files)
    return ParquetTable(pattern, files)


def input_files(pattern: str) -> list[Path]:
    """The files that a file, a directory or a glob names, sorted.

    Raises
    ------
    InputError
        When there are none.
    """
    place = Path(pattern)
    if place.is_dir():
        found = sorted(
            path
            for path in place.rglob("*")
            if path.is_file() and path.name.endswith((".parquet", ".csv", ".csv.gz")) and not _hidden(path, place)
        )
    elif place.exists():
        found = [place]
    else:
        found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True)) if Path(name).is_file()]  # noqa: PTH207 - Path.glob takes no absolute patterns
    if not found:
        raise InputError("no file holds the rows", got=pattern, hint="name a file, a directory or a glob in quotes")
    return found


def _hidden(path: Path, below: Path) -> bool:
    return any(part.startswith(("_", ".")) for part in path.relative_to(below).parts)


@dataclass(frozen=True)
class _Stamp:
    """What a file looks like from outside."""

    path: Path
    size: int
    modified: int

    @staticmethod
    def of(path: Path) -> _Stamp:
        try:
            found = path.stat()
        except OSError as error:
            raise unreadable(path, error) from None
        return _Stamp(path, found.st_size, found.st_mtime_ns)


class Files:
    """What tables in files have in common: an identity by content, and whether it is still so."""

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self.name, self._paths = name, list(files)
        self._stamps = [_Stamp.of(path) for path in files]
        total = hashlib.sha256()
        for path in files:
            try:
                with path.open("rb") as data:
                    total.update(f"{path.name}\n{hashlib.file_digest(data, 'sha256').hexdigest()}\n".encode())
            except OSError as error:
                raise unreadable(path, error) from None
        self.identity = total.hexdigest()

    def same(self) -> bool:
        """Whether size and time of every file are what they were."""
        return all(stamp.path.exists() and _Stamp.of(stamp.path) == stamp for stamp in self._stamps)


class ParquetTable(Files):
    """Parquet files, row group after row group; those whose rows are all done are not read again."""

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        super().__init__(name, files)
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._groups: list[list[int]] = []
        """Per file the rows of each of its row groups."""
        schema = None
        for path in files:
            try:
                with pq.ParquetFile(path) as file:
                    found = file.metadata
                    own = file.schema_arrow
                    self._groups.append([found.row_group(n).num_rows for n in range(found.num_row_groups)])
            except (pa.ArrowException, OSError) as error:
                raise unreadable(path, error) from None
            if schema is not None and sorted(own.names) != sorted(schema.names):
                raise InputError(
                    "the files have different columns",
                    got=f"{path.name}: {', '.join(own.names)}"[:300],
                    hint=f"{files[0].name} has {', '.join(schema.names)}"[:300],
                )
            schema = schema or own
        self._schema = schema
        self.columns = list(schema.names) if schema is not None else []
        self.rows: int | None = sum(map(sum, self._groups))

    def chunks(self, size: int, kinds: Mapping[str, str], *, id: str, skip: Collection[int] = ()) -> Iterator[Chunk]:
        """See :class:`Table`."""
        wanted = [name for name in self.columns if name in kinds or name == id]
        total = self.rows or 0
        for held, number in cut(self._batches(size, wanted, skip), size, total=total, skip=skip):
            yield make_chunk(held, number, size, kinds, id=id, id_type=self.id_type(id))

    def id_type(self, id: str) -> Any:
        """See :class:`Table`."""
        return type_of_ids(self._schema, id)

    def _batches(self, size: int, wanted: list[str], skip: Collection[int]) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Pieces of the files, each with the number of its first row."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        start = 0
        for path, groups in zip(self._paths, self._groups, strict=True):
            starts = (start + np.concatenate([[0], np.cumsum(groups)])).tolist() if groups else [start]
            needed = [
                place
                for place, rows in enumerate(groups)
                if rows
                and any(n not in skip for n in range(starts[place] // size, (starts[place + 1] - 1) // size + 1))
            ]
            start = starts[-1]
            try:
                with pq.ParquetFile(path) as file:
                    for group in needed:
                        at = starts[group]
                        # Without names there is still a number of rows; a column is read for it.
                        names = wanted or self.columns[:1]
                        for batch in file.iter_batches(batch_size=size, row_groups=[group], columns=names):
                            yield at, batch
                            at += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise unreadable(path, error) from None


def cut(
    batches: Iterator[tuple[int, pa.RecordBatch]], size: int, *, total: int, skip: Collection[int]
) -> Iterator[tuple[list[pa.RecordBatch], int]]:
    """Put pieces together, or cut them, to chunks of exactly ``size`` rows, the last one of what is left."""
    held: list[pa.RecordBatch] = []
    for at, batch in batches:
        offset = 0
        while offset < batch.num_rows:
            number, row = (at + offset) // size, at + offset
            end = min((number + 1) * size, total)
            take = min(end - row, batch.num_rows - offset)
            if number not in skip:
                held.append(batch.slice(offset, take))
                if row + take == end:
                    yield held, number
                    held = []
            offset += take


def make_chunk(
    held: list[pa.RecordBatch], number: int, size: int, kinds: Mapping[str, str], *, id: str, id_type: Any
) -> Chunk:
    """A chunk of pieces that follow each other."""
    import pyarrow as pa

    alike = all(batch.schema == held[0].schema for batch in held)
    tables = [pa.Table.from_batches([batch]) for batch in held]
    table = pa.Table.from_batches(held) if alike else pa.concat_tables(tables, promote_options="permissive")
    columns = {name: to_numpy(table[name]) for name in table.column_names if name in kinds}
    return Chunk(number, number * size, table.num_rows, ids_of(table, id, id_type), columns)


def ids_of(table: pa.Table, id: str, kind: Any) -> Any:
    """The id column as one Arrow array of the type that all chunks have."""
    import pyarrow as pa

    if not id:
        return None
    try:
        found = table[id].cast(kind).combine_chunks()
    except pa.ArrowException as error:
        raise InputError(f"the ids in {id!r} are of several types", got=str(error)[:200]) from None
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def type_of_ids(schema: pa.Schema | None, id: str) -> Any:
    """As :meth:`Table.id_type` gives it."""
    import pyarrow as pa

    if schema is None or not id:
        return pa.int64()
    found = schema.field(id).type
    return found.value_type if pa.types.is_dictionary(found) else found


class FrameTable:
    """A data frame in memory: a mapping of arrays, a pandas, polars or Arrow table."""

    def __init__(self, frame: object) -> None:
        import pyarrow as pa

        self.name = "a data frame"
        self._table = _arrow(frame)
        if not isinstance(self._table, pa.Table):
            raise InputError("not a data frame", got=type(frame).__name__, hint="pass pandas, polars or Arrow")
        self.columns = list(self._table.column_names)
        self.rows: int | None = self._table.num_rows
        total = hashlib.sha256()
        sink = _Hashing(total)
        with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), self._table.schema) as stream:
            stream.write_table(self._table.combine_chunks(), max_chunksize=1 << 16)
        self.identity = total.hexdigest()

    def chunks(self, size: int, kinds: Mapping[str, str], *, id: str, skip: Collection[int] = ()) -> Iterator[Chunk]:
        """See :class:`Table`."""
        for number, first in enumerate(range(0, self._table.num_rows, size)):
            if number not in skip:
                part = self._table.slice(first, size).to_batches()
                yield make_chunk(part, number, size, kinds, id=id, id_type=self.id_type(id))

    def id_type(self, id: str) -> Any:
        """See :class:`Table`."""
        return type_of_ids(self._table.schema, id)

    def same(self) -> bool:
        """It cannot change: it was taken over as it was."""
        return True


class _Hashing:
    """A file that keeps nothing but the digest of what is written to it."""

    closed = False

    def __init__(self, digest: Any) -> None:
        self._digest = digest

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


def _arrow(frame: object) -> Any:  # noqa: PLR0911 - one line per make
    import pyarrow as pa

    try:
        if isinstance(frame, pa.Table):
            return frame
        if isinstance(frame, pa.RecordBatch):
            return pa.Table.from_batches([frame])
        if hasattr(frame, "to_arrow"):  # polars
            return frame.to_arrow()
        if type(frame).__module__.partition(".")[0] == "pandas":
            return pa.Table.from_pandas(frame, preserve_index=False)
        if isinstance(frame, Mapping):
            return pa.table({str(name): pa.array(values) for name, values in frame.items()})
        if hasattr(frame, "__arrow_c_stream__"):
            return pa.table(frame)
    except (pa.ArrowException, ValueError) as error:  # pandas refuses repeated names so
        raise InputError(
            "the data frame cannot be read", got=str(error).splitlines()[0][:200], hint="give each column one type"
        ) from None
    return None


def unreadable(path: Path, error: Exception) -> InputError:
    text = (str(error).splitlines() or [""])[0][:200]
    return InputError(f"{path.name} cannot be read", got=text, hint="write the file again, or name another")
