"""Records in Parquet files by model and day: written, read, given back as the rows they were.

::

    <directory>/segments/<writer>-<from>-<to>.json       what a segment covers: written last, so it marks it done
    <directory>/model=<model>/day=<day>/<writer>-<from>-<to>.parquet

A segment is the rows of one writer between two offsets. Its files are a function of those rows, so writing them
again changes nothing. Files without a mark are left-overs of a crash: readers pass them over, and the next compaction,
erasure or expiry removes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from trimtab.adapters.files import TEMPORARY, make_directory, settle, sync_directory
from trimtab.adapters.records.layouts import Layout, layout_named, public_schema
from trimtab.adapters.records.segments import Mark, Segment, read_mark, remove_stale_marks, segments, write_mark
from trimtab.core.clock import DAY, Micros, iso
from trimtab.errors import IntegrityError

_PIECE = 10_000
"""Rows that are turned back at a time."""


class Written(NamedTuple):
    """A row to be compacted: its offset, and its bytes; None when it is erased."""

    offset: int
    payload: bytes | None


def write_segment(directory: Path, segment: Segment, rows: Sequence[Written], layout: Layout) -> int:
    """Write the files of a segment, then its mark; how many rows it holds.

    Raises
    ------
    OSError
        When the disk takes no more; nothing counts that was written then.
    """
    days: dict[tuple[str, int], list[tuple[Written, Any]]] = {}
    for row in rows:
        if row.payload is not None:
            model, when, columns = layout.row(row.payload)
            days.setdefault((model, when // DAY), []).append((row, columns))
    parts = {f"{partition(model)}/day={_day(day * DAY)}": found for (model, day), found in days.items()}
    before = read_mark(directory, segment)
    for part, found in sorted(parts.items()):
        write_file(part_file(directory, part, segment), _table(found, layout))
    erased = [row.offset for row in rows if row.payload is None]
    count = len(rows) - len(erased)
    write_mark(directory, segment, Mark(sorted(parts), count, layout.name, erased))
    for part in set(before.parts if before else ()) - parts.keys():  # every row of it was erased
        remove_file(part_file(directory, part, segment))
    return count


def remove_file(path: Path) -> None:
    """Remove one file for good, and its folders when nothing is left in them."""
    if not path.parent.is_dir():
        return
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
    for folder in (path.parent, path.parent.parent):
        if not any(folder.iterdir()):
            folder.rmdir()


def remove_left_overs(directory: Path) -> None:
    """Remove what a crash has left: files that no mark names, folders that hold none, marks of what is in another.

    A file without a mark may hold rows that were erased, or kept long enough. Call it under
    :func:`~trimtab.adapters.records.segments.alone`.
    """
    marked = {part_file(directory, part, segment) for segment, part in marked_parts(directory, segments(directory))}
    for path in directory.glob("model=*/day=*/*"):
        if path not in marked:
            remove_file(path)
    for folder in (*directory.glob("model=*/day=*"), *directory.glob("model=*")):
        if not any(folder.iterdir()):
            folder.rmdir()
    remove_stale_marks(directory)


def write_file(path: Path, table: Any) -> None:
    """Write one file, durably."""
    import pyarrow.parquet as pq

    make_directory(path.parent)
    temporary = path.with_name(TEMPORARY + path.name)
    try:
        pq.write_table(table, temporary, compression="zstd")
        settle(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
        raise


def _table(found: Sequence[tuple[Written, Any]], layout: Layout) -> Any:
    import pyarrow as pa

    schema = layout.schema()
    payloads = [row.payload for row, _ in found]
    columns = {name: pa.array([each[name] for _, each in found], schema.field(name).type) for name in schema.names}
    columns["offset"] = pa.array([row.offset for row, _ in found], pa.int64())
    kept = payloads
    if layout.rows is not None:
        back = layout.rows(pa.table(columns))
        kept = [None if again == payload else payload for again, payload in zip(back, payloads, strict=True)]
    return pa.table(columns | {"raw": pa.array(kept, pa.binary())})


def rows_of(directory: Path, segment: Segment, *, after: int) -> Iterator[tuple[int, bytes]]:
    """The rows of a segment past an offset, in the order in which they were written.

    Rows whose files were kept long enough and deleted are not there; nor is anything of a segment that an old version
    wrote, which kept no more than some columns and never deleted a spool.

    Raises
    ------
    IntegrityError
        When a file is missing or damaged.
    """
    import pyarrow as pa

    mark = read_mark(directory, segment)
    if mark is None or not mark.whole or not mark.parts:
        return
    layout, erased = layout_named(mark.whole), set(mark.erased)
    tables = [table for part in mark.parts if (table := read_part(directory, part, segment)) is not None]
    if not tables:
        return
    whole = pa.concat_tables(tables).sort_by("offset") if len(tables) > 1 else tables[0]
    for start in range(0, whole.num_rows, _PIECE):
        piece = whole.slice(start, _PIECE)
        offsets = piece["offset"].to_pylist()
        if offsets[-1] <= after:
            continue
        raw = piece["raw"].to_pylist()
        back = layout.rows(pa.concat_tables([piece]).combine_chunks()) if layout.rows is not None else iter(raw)
        for offset, kept, made in zip(offsets, raw, back, strict=True):
            if offset > after and offset not in erased:
                yield offset, made if kept is None else kept


def read_part(directory: Path, part: str, segment: Segment, *, columns: Sequence[str] | None = None) -> Any:
    """One file of a segment as an Arrow table; None when it was deleted meanwhile, as its mark says by now.

    Raises
    ------
    IntegrityError
        When it is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = part_file(directory, part, segment)
    try:
        return pq.ParquetFile(path).read(columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        if not path.exists():
            now = read_mark(directory, segment)
            if now is None or part not in now.parts:
                return None
        raise IntegrityError("a file of compacted records is damaged", got=f"{path}: {error}") from error


def read_predictions(
    directory: Path, *, model: str | None = None, start: Micros | None = None, end: Micros | None = None
) -> Any:
    """Read compacted predictions.

    Parameters
    ----------
    directory
        Where they were compacted to.
    model
        Only this model; all when None.
    start, end
        Only rows asked at ``start <= asked_at < end``, in microseconds.

    Returns
    -------
    pyarrow.Table
        With the columns of :func:`public_schema`; empty when nothing is there.

    Raises
    ------
    IntegrityError
        When a file of a finished segment is missing or is not Parquet.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    directory, tables, schema = Path(directory), [], public_schema()
    for segment, part in marked_parts(directory, segments(directory)):
        name, _, day = part.partition("/day=")
        if model is not None and name != partition(model):
            continue
        if (start is not None and day < _day(start)) or (end is not None and day > _day(end)):
            continue
        if (table := _kept_of(directory, part, segment, schema.names)) is not None:
            tables.append(table)
    found = pa.concat_tables(tables) if tables else schema.empty_table()
    asked = found["asked_at"].cast(pa.int64())
    if start is not None:
        found = found.filter(pc.greater_equal(asked, start))
        asked = found["asked_at"].cast(pa.int64())
    return found if end is None else found.filter(pc.less(asked, end))


def _kept_of(directory: Path, part: str, segment: Segment, columns: list[str]) -> Any | None:
    """Columns of one file, without rows that are erased but for the file."""
    mark = read_mark(directory, segment)
    if mark is None or not mark.erased:
        return read_part(directory, part, segment, columns=columns)
    table = read_part(directory, part, segment, columns=[*columns, "offset"])
    return table if table is None else without(table, mark.erased).select(columns)


def without(table: Any, erased: Iterable[int]) -> Any:
    """An Arrow table of rows without the erased ones."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return table.filter(pc.invert(pc.is_in(table["offset"], value_set=pa.array(erased, pa.int64()))))


def marked_parts(directory: Path, done: Iterable[Segment]) -> Iterator[tuple[Segment, str]]:
    """Every part of finished segments."""
    for segment in done:
        mark = read_mark(directory, segment)
        for part in mark.parts if mark is not None else ():
            yield segment, part


def part_file(directory: Path, part: str, segment: Segment) -> Path:
    """The path of one file of a segment."""
    return directory / part / f"{segment.name}.parquet"


def partition(model: str) -> str:
    """The name of a model's directory."""
    return f"model={quote(model, safe='')}"


def _day(when: Micros) -> str:
    return iso(when - when % DAY)[:10]
