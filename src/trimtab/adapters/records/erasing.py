"""Rows erased for good, wherever they stand: in a spool, in Parquet, in both.

A row that is erased in one place is erased in all of them. So whoever erases after a crash finishes what was begun,
also without being told which rows those were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from trimtab.adapters.records import frames
from trimtab.adapters.records.compaction import rows_between
from trimtab.adapters.records.layouts import PREDICTION
from trimtab.adapters.records.parquet import (
    part_file,
    read_part,
    remove_file,
    remove_left_overs,
    without,
    write_file,
    write_segment,
)
from trimtab.adapters.records.segments import Mark, Segment, read_mark, write_mark
from trimtab.adapters.records.spoolfile import erase_rows, rows_to_erase
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
    index = records.index(table)
    remove_left_overs(index.directory)
    chains, compacted = spools(records.directory(table)), index.by_writer(fresh=True)
    if unknown := named.keys() - chains.keys() - compacted.keys():
        raise InputError(f"table {table} has no such writer", got=", ".join(sorted(unknown)))
    count = 0
    for writer in sorted({*chains, *compacted}):
        files, own = chains.get(writer, []), compacted.get(writer, [])
        count += _of_writer(records, table, files, own, offsets=named.get(writer, set()))
    return count


def finish(records: SpoolRecords, table: str, file: SpoolFile, own: list[Segment]) -> None:
    """Erase from Parquet what is erased in a file of a spool, which is to be deleted; nothing is to come back by that.

    That is so after an erasure of an old version was cut short, and of rows that were withdrawn right after they had
    been compacted.
    """
    rows, _ = rows_to_erase(file.path, set())
    if rows:
        _of_writer(records, table, [file], own, offsets=set())


def _of_writer(
    records: SpoolRecords, table: str, files: list[SpoolFile], own: list[Segment], *, offsets: set[int]
) -> int:
    directory = records.index(table).directory
    marks = {segment: mark for segment in own if (mark := read_mark(directory, segment)) is not None}
    spooled = _look_in(files, offsets, {each for mark in marks.values() for each in mark.erased})
    kept = [
        _Kept.read(directory, segment, mark, offsets | spooled.erased) for segment, mark in marks.items() if mark.whole
    ]
    of_old = [segment for segment, mark in marks.items() if not mark.whole]
    for offset in sorted(offsets - spooled.ends):
        if not any(each.knows(offset) for each in kept) and not any(each.holds(offset) for each in of_old):
            raise _unknown(files[0].path if files else own[0].writer, offset)
    count = len((offsets & spooled.ends) - spooled.erased)
    # Parquet goes first: a row that a scan no longer finds in its spool must not come back when the spool is deleted.
    for each in kept:
        count += len((offsets & each.present) - each.erased - spooled.ends)
        _erase_kept(directory, each, {*filter(each.segment.holds, offsets), *(spooled.erased & each.present)})
    for path, rows in spooled.rows:
        erase_rows(path, rows)
    for segment in of_old:
        named = any(map(segment.holds, offsets))
        if named or any(map(segment.holds, spooled.erased)):
            _make_again(records, table, segment, enough=0 if named else marks[segment].rows)
    return count


class _Spooled(NamedTuple):
    """What in the spools of a writer is to be erased, or is."""

    rows: list[tuple[Path, list[frames.Row]]]
    ends: set[int]
    """The offsets of these rows."""
    erased: set[int]
    """Of them, those that were erased before."""


def _look_in(files: Sequence[SpoolFile], offsets: set[int], begun: set[int]) -> _Spooled:
    """The rows at the named offsets, at those where an erasure has begun elsewhere, and those that are erased."""
    found = _Spooled([], set(), set())
    for base, _, path in files:
        rows, end = rows_to_erase(path, {offset - base for offset in offsets | begun})
        found.rows.append((path, rows))
        found.ends.update(base + row.end for row in rows)
        found.erased.update(base + row.end for row in rows if row.erased)
        for offset in sorted(offsets - found.ends):
            if base < offset <= base + end:
                raise _unknown(path, offset - base)
    return found


class _Kept(NamedTuple):
    """A segment, and which rows its files hold; they are looked at only where something is to be erased."""

    segment: Segment
    mark: Mark
    held: dict[str, set[int]]
    present: set[int]
    erased: set[int]

    @classmethod
    def read(cls, directory: Path, segment: Segment, mark: Mark, offsets: set[int]) -> _Kept:
        wanted = mark.erased or any(map(segment.holds, offsets))
        held = {
            part: set(column["offset"].to_pylist())
            for part in (mark.parts if wanted else ())
            if (column := read_part(directory, part, segment, columns=["offset"])) is not None
        }
        return cls(segment, mark, held, set().union(*held.values()), set(mark.erased))

    def knows(self, offset: int) -> bool:
        """Whether a row ends there, or may have before it was kept long enough."""
        within = self.segment.holds(offset)
        return within and (offset in self.present or offset in self.erased or bool(self.mark.expired))


def _erase_kept(directory: Path, kept: _Kept, offsets: set[int]) -> None:
    erased, mark = kept.erased | offsets, kept.mark
    if not erased:
        return
    if offsets - kept.erased:
        # The mark goes first: from then on no reader takes the rows, however far the files have come.
        mark = msgspec.structs.replace(mark, erased=sorted(erased))
        write_mark(directory, kept.segment, mark)
    left = {part: held - erased for part, held in kept.held.items()}
    for part, rows in left.items():
        if rows and rows != kept.held[part]:
            path = part_file(directory, part, kept.segment)
            write_file(path, without(read_part(directory, part, kept.segment), erased))
    parts = [part for part in mark.parts if left.get(part)]
    after = msgspec.structs.replace(mark, parts=parts, rows=sum(map(len, left.values())))
    if after != mark:
        write_mark(directory, kept.segment, after)
    for part in left.keys() - set(parts):
        remove_file(part_file(directory, part, kept.segment))


def _make_again(records: SpoolRecords, table: str, segment: Segment, *, enough: int) -> None:
    """Write the files of a segment anew that an old version wrote: they do not say which row is which."""
    rows = rows_between(records, table, segment)
    if len(rows) >= enough:  # or a power cut took rows from the spool that only these files hold
        write_segment(records.index(table).directory, segment, rows, PREDICTION)


def _unknown(where: Path | str, offset: int) -> InputError:
    return InputError("not the end of a row", got=f"{where}: offset {offset}", hint="pass what scan gave")
