"""Rows erased for good, wherever they stand: in a spool, in Parquet, in both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from trimtab.adapters.files import sync_directory
from trimtab.adapters.records.segments import Segment, read_mark, write_mark
from trimtab.adapters.records.spoolfile import end_of, erase_rows
from trimtab.adapters.records.tail import SpoolFile, spools
from trimtab.errors import InputError

if TYPE_CHECKING:
    from trimtab.adapters.records.spool import SpoolRecords


def erase(records: SpoolRecords, table: str, named: Mapping[str, set[int]]) -> int:
    """Erase the named rows (writer → offsets), and finish what a crash has cut short; how many were erased now.

    Raises
    ------
    InputError
        When an offset is not the end of a row, or a writer has no rows.
    """
    chains, index = spools(records.directory(table)), records.index(table)
    compacted = index.by_writer(fresh=True)
    if unknown := named.keys() - chains.keys() - compacted.keys():
        raise InputError(f"table {table} has no such writer", got=", ".join(sorted(unknown)))
    count = 0
    for writer in sorted({*chains, *compacted}):
        offsets = named.get(writer, set())
        erased, spooled = _in_spools(chains.get(writer, []), offsets)
        count += erased
        left = offsets - spooled
        for segment in compacted.get(writer, ()):
            own = {offset for offset in offsets if segment.start < offset <= segment.end}
            count += _in_segment(records, table, segment, own, spooled)
            left -= own
        if left:
            raise InputError("not the end of a row", got=f"{writer}: offset {min(left)}", hint="pass what scan gave")
    return count


def _in_spools(files: list[SpoolFile], offsets: set[int]) -> tuple[int, set[int]]:
    """How many were erased now, and which offsets are in spools at all."""
    count, found = 0, set()
    for file in files:
        end = file.base + end_of(file.path)
        own = {offset for offset in offsets if file.base < offset <= end}
        count += erase_rows(file.path, {offset - file.base for offset in own})
        found |= own
    return count, found


def _in_segment(records: SpoolRecords, table: str, segment: Segment, offsets: set[int], spooled: set[int]) -> int:
    from trimtab.adapters.records.parquet import part_file, read_part

    directory = records.index(table).directory
    mark = read_mark(directory, segment)
    if mark is None or not (offsets or mark.erased):
        return 0
    if not mark.whole:  # written by an old version, whose files do not say which row is which: made again
        _make_again(records, table, segment)
        return 0
    held = {
        part: set(column["offset"].to_pylist())
        for part in mark.parts
        if (column := read_part(directory, part, segment, columns=["offset"])) is not None
    }
    present: set[int] = set().union(*held.values())
    fresh = offsets - set(mark.erased)
    unknown = fresh - present - spooled
    if unknown and not mark.expired:
        raise InputError("not the end of a row", got=f"{segment.writer}: offset {min(unknown)}")
    erased = sorted({*mark.erased, *offsets})
    if fresh:
        # The mark goes first: from then on no reader takes the rows, however far the files have come.
        mark = msgspec.structs.replace(mark, erased=erased)
        write_mark(directory, segment, mark)
    touched = {part: offsets for part, offsets in held.items() if not offsets.isdisjoint(erased)}
    empty = [part for part, offsets in touched.items() if offsets <= set(erased)]
    for part in touched.keys() - set(empty):
        _rewrite(directory, part, segment, erased)
    if touched:
        gone = sum(len(offsets & set(erased)) for offsets in touched.values())
        left = [part for part in mark.parts if part not in empty]
        write_mark(directory, segment, msgspec.structs.replace(mark, parts=left, rows=mark.rows - gone))
    for part in empty:
        path = part_file(directory, part, segment)
        path.unlink(missing_ok=True)
        sync_directory(path.parent)
    return len((fresh & present) - spooled)


def _rewrite(directory: Path, part: str, segment: Segment, erased: list[int]) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    from trimtab.adapters.records.parquet import part_file, read_part, write_file

    table = read_part(directory, part, segment)
    gone = pc.is_in(table["offset"], value_set=pa.array(erased, pa.int64()))
    write_file(part_file(directory, part, segment), table.filter(pc.invert(gone)))


def _make_again(records: SpoolRecords, table: str, segment: Segment) -> None:
    from trimtab.adapters.records.compaction import rows_between
    from trimtab.adapters.records.layouts import PREDICTION
    from trimtab.adapters.records.parquet import write_segment

    write_segment(records.index(table).directory, segment, rows_between(records, table, segment), PREDICTION)
