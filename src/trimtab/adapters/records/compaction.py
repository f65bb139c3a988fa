"""From spools to Parquet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path

from trimtab.adapters.records.layouts import PREDICTION, Layout
from trimtab.adapters.records.parquet import Written, remove_left_overs, write_segment
from trimtab.adapters.records.segments import Segment, alone, reached, read_mark, segments
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.core.ports import Place, Records
from trimtab.errors import Unavailable
from trimtab.serving.record import PREDICTIONS


def compact(
    records: Records,
    directory: Path,
    *,
    table: str = PREDICTIONS,
    layout: Layout = PREDICTION,
    at_least: int = 1,
    at_most: int = 100_000,
    ended: Collection[str] = (),
    go_on: Callable[[], bool] = lambda: True,
) -> int:
    """Write the rows that are in no segment yet to Parquet, and return how many there were.

    Parameters
    ----------
    records, table
        Where the rows are. They stay there: see :func:`delete_compacted`.
    directory
        Where the files go; created when missing.
    layout
        How rows become columns, and columns rows again.
    at_least
        A writer with fewer new rows than this waits for the next compaction, which keeps files large.
    at_most
        Rows per segment; bounds memory.
    ended
        Writers that write no more: they wait for nothing.
    go_on
        Asked before each segment; once it says no, the rest waits for the next compaction.

    Raises
    ------
    ConflictError
        When another process compacts into this directory.
    Unavailable
        When the disk is full; what was compacted before stays.

    Notes
    -----
    A kill between any two steps leaves only files that open, and the next call goes on from there.
    """
    directory = Path(directory)
    with alone(directory), _room():
        ends, count = reached(_mended(records, directory, table, layout)), 0
        entries = _entries(records, table, dict(ends))
        for writer, own in groupby(entries, key=lambda entry: entry[0].writer):
            least = 1 if writer in ended else min(at_least, at_most)
            for rows in _pieces(own, at_most):
                if not go_on():
                    return count
                if len(rows) >= least:
                    segment = Segment(writer, ends.get(writer, 0), rows[-1].offset)
                    count += write_segment(directory, segment, rows, layout)
                    ends[writer] = segment.end
    return count


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = error.strerror or str(error)
        raise Unavailable("records cannot be compacted", got=what, hint="make room on the disk") from error


def _pieces(entries: Iterable[tuple[Place, bytes | None]], most: int) -> Iterator[list[Written]]:
    rows = (Written(place.offset, payload) for place, payload in entries)
    while piece := list(islice(rows, most)):
        yield piece


def _mended(records: Records, directory: Path, table: str, layout: Layout) -> list[Segment]:
    """What is done, after what a kill or an old version has left is put right."""
    remove_left_overs(directory)
    done = segments(directory)
    for segment in done:
        mark = read_mark(directory, segment)
        if mark is not None and not mark.whole and mark.rows:
            # An old version wrote it, and its files cannot give the rows back.
            rows = rows_between(records, table, segment)
            if sum(row.payload is not None for row in rows) == mark.rows:
                write_segment(directory, segment, rows, layout)
    return done


def rows_between(records: Records, table: str, segment: Segment) -> list[Written]:
    """The rows of a segment, from where it was made of."""
    rows = []
    for place, payload in _entries(records, table, {segment.writer: segment.start}, only=segment.writer):
        if place.offset > segment.end:
            break
        rows.append(Written(place.offset, payload))
    return rows


def _entries(
    records: Records, table: str, after: dict[str, int], *, only: str | None = None
) -> Iterator[tuple[Place, bytes | None]]:
    if isinstance(records, SpoolRecords):
        yield from records.entries(table, after=after, only=only)
        return
    for place, payload in records.scan(table, after=after):
        if only in (None, place.writer):
            yield place, payload
