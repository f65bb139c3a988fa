"""What is deleted: spools that are in Parquet, and Parquet that was kept long enough.

Nobody needs to be asked before a spool goes. A reader's place is an offset that is never used twice, and the rows that
follow it come from Parquet where the spool is gone; a reader that has the file open reads on in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

from trimtab.adapters.files import sync_directory
from trimtab.adapters.records.erasing import finish
from trimtab.adapters.records.parquet import part_file, remove_file, remove_left_overs
from trimtab.adapters.records.segments import (
    PARQUET,
    Mark,
    Segment,
    alone,
    mark_path,
    read_mark,
    segments,
    write_mark,
)
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.records.spoolfile import end_of
from trimtab.adapters.records.tail import SpoolFile, ends_held, is_held, spools
from trimtab.core.clock import Micros, iso


class Deleted(NamedTuple):
    """What a deletion has taken away: files, their bytes, and, of Parquet, their rows."""

    files: int
    bytes: int
    rows: int = 0


class Usage(NamedTuple):
    """Bytes of a table on disk: spools, and Parquet."""

    spools: int
    parquet: int
    files: int


def ended_writers(records: SpoolRecords, table: str) -> set[str]:
    """The writers whose last file no living process holds."""
    directory = records.directory(table)
    if not directory.is_dir():
        return set()
    with ends_held(directory):
        return {writer for writer, files in spools(directory).items() if not is_held(files[-1].path)}


def delete_compacted(records: SpoolRecords, table: str) -> Deleted:
    """Delete each file of a spool whose rows are all in Parquet, unless a living process writes to it.

    Raises
    ------
    ConflictError
        When another process compacts or deletes here.
    IntegrityError
        When a Parquet file that should hold the rows does not; then the spool stays.
    """
    directory = records.directory(table)
    taken = []
    if not (directory / PARQUET).is_dir():
        return Deleted(0, 0)
    with alone(directory / PARQUET):
        done = {writer: list(own) for writer, own in groupby(segments(directory / PARQUET), attrgetter("writer"))}
        for writer, files in spools(directory).items():
            own = done.get(writer, [])
            safe = _Safe(directory / PARQUET, own)
            for file in files:
                size = file.path.stat().st_size  # before anything else: one that grows from here on stays
                if not safe.covers(file.base, _end(file)) or _goes_on(directory, file):
                    continue
                finish(records, table, file, own)
                if _delete(directory, file, size):
                    taken.append(size)
        if taken:
            sync_directory(directory)
    return Deleted(len(taken), sum(taken))


def _delete(directory: Path, file: SpoolFile, size: int) -> bool:
    if file.following is not None:
        file.path.unlink()
        return True
    with ends_held(directory):
        chain = next((own for own in spools(directory).values() if any(each.path == file.path for each in own)), [])
        grown = not chain or chain[-1].path != file.path or file.path.stat().st_size != size
        if grown or is_held(file.path):
            return False
        file.path.unlink()
    return True


def _end(file: SpoolFile) -> int:
    return file.base + end_of(file.path) if file.following is None else file.following


def _goes_on(directory: Path, file: SpoolFile) -> bool:
    if file.following is not None:
        return False
    with ends_held(directory):
        return is_held(file.path)


class _Safe:
    """Which rows of one writer are surely in Parquet. Each segment is looked at once, before the first deletion."""

    def __init__(self, directory: Path, own: Sequence[Segment]) -> None:
        self._directory, self._own = directory, own
        self._checked: dict[Segment, bool] = {}

    def covers(self, start: int, end: int) -> bool:
        """Whether everything between two offsets is; an empty range is, where what stands before it is."""
        position = start
        for segment in self._own:
            if segment.start <= position < segment.end and position < end:
                if not self._whole(segment):
                    return False
                position = segment.end
        return position >= end and (start < end or start == 0 or any(each.end >= start for each in self._own))

    def _whole(self, segment: Segment) -> bool:
        if segment not in self._checked:
            self._checked[segment] = _is_whole(self._directory, segment)
        return self._checked[segment]


def _is_whole(directory: Path, segment: Segment) -> bool:
    import pyarrow as pa
    import pyarrow.parquet as pq

    mark = read_mark(directory, segment)
    if mark is None or not (mark.whole or not mark.rows):
        return False
    try:
        rows = sum(pq.ParquetFile(part_file(directory, part, segment)).metadata.num_rows for part in mark.parts)
    except (OSError, pa.ArrowInvalid):
        return False
    return bool(mark.rows - len(mark.erased) <= rows <= mark.rows)


def expire(directory: Path, *, before: Micros) -> Deleted:
    """Delete the Parquet files of days that ended by ``before``.

    The marks stay, and say that the rows are gone: places stay valid, and what follows them is found. Rows that still
    stand in a spool are not touched.

    Raises
    ------
    ConflictError
        When another process compacts or deletes here.
    """
    directory = Path(directory)
    if not directory.is_dir():
        return Deleted(0, 0)
    last = iso(before)[:10]
    with alone(directory):
        remove_left_overs(directory)
        taken = [_expire(directory, segment, last) for segment in segments(directory)]
        _join_expired(directory)
    return Deleted(*map(sum, zip(*taken, strict=True))) if taken else Deleted(0, 0)


def _expire(directory: Path, segment: Segment, last: str) -> Deleted:
    import pyarrow.parquet as pq

    mark = read_mark(directory, segment)
    gone = [part for part in mark.parts if part.partition("/day=")[2] < last] if mark is not None else []
    if mark is None or not gone:
        return Deleted(0, 0)
    paths = [path for part in gone if (path := part_file(directory, part, segment)).exists()]
    rows, size = sum(pq.read_metadata(path).num_rows for path in paths), sum(path.stat().st_size for path in paths)
    left = [part for part in mark.parts if part not in gone]
    held = mark.rows - rows if left else 0  # an erasure that was cut short may not have counted down
    changed = msgspec.structs.replace(mark, parts=left, rows=held, expired=mark.expired + rows)
    write_mark(directory, segment, changed)  # a file without a mark is a left-over, see remove_left_overs
    for path in paths:
        remove_file(path)
    return Deleted(len(paths), size, rows)


def _join_expired(directory: Path) -> None:
    """One mark for what a writer's first segments held, when nothing of it is left."""
    for writer, own in groupby(segments(directory), attrgetter("writer")):
        marks = [(segment, read_mark(directory, segment)) for segment in own]
        empty: list[tuple[Segment, Mark]] = []
        for segment, mark in marks:
            if mark is None or mark.parts or (empty and empty[-1][0].end != segment.start):
                break
            empty.append((segment, mark))
        if len(empty) < 2:
            continue
        whole = Segment(writer, empty[0][0].start, empty[-1][0].end)
        gone = sum(mark.expired for _, mark in empty)
        erased = [offset for _, mark in empty for offset in mark.erased]  # or a second erasure would not know them
        write_mark(directory, whole, Mark([], 0, empty[-1][1].whole, erased, gone))
        for segment, _ in empty:
            mark_path(directory, segment).unlink()
        sync_directory(mark_path(directory, whole).parent)


def usage(directory: Path) -> Usage:
    """What the files of a table take up; nothing where there is no such table."""
    held = _sizes(path for files in spools(directory).values() for _, _, path in files)
    found = _sizes((directory / PARQUET).glob("model=*/day=*/*.parquet"))
    return Usage(sum(held), sum(found), len(held) + len(found))


def _sizes(paths: Iterable[Path]) -> list[int]:
    sizes = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # deleted since the directory was listed
            sizes.append(path.stat().st_size)
    return sizes
