"""Which rows of a writer are in Parquet: one small file, a mark, for each finished segment.

::

    <directory>/segments/<writer>-<from>-<to>.json

A mark is written after the files it names, whole and durably, and so is what says that a segment is there.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import msgspec

from trimtab.adapters.files import TEMPORARY, make_directory, write_atomic
from trimtab.core.ids import canonical
from trimtab.errors import ConflictError, IntegrityError

PARQUET = "parquet"
"""The directory of a table's compacted rows, beside its spools."""
_FOLDER = "segments"
_SETTLED_NS = 100_000_000
_SEGMENT = re.compile(r"(.+)-(\d+)-(\d+)")


class Segment(NamedTuple):
    """The rows of a writer past offset ``start`` up to ``end``."""

    writer: str
    start: int
    end: int

    @property
    def name(self) -> str:
        return f"{self.writer}-{self.start:012d}-{self.end:012d}"

    def holds(self, offset: int) -> bool:
        """Whether the row that ends at an offset is of this segment."""
        return self.start < offset <= self.end


class Mark(msgspec.Struct, frozen=True, omit_defaults=False):
    """What is known about a segment."""

    parts: list[str]
    """Directories that hold a file of it, as ``model=<model>/day=<day>``."""
    rows: int
    """How many rows these files hold."""
    whole: str = ""
    """The layout that gives the rows back byte by byte; empty in marks of old, whose files lack columns."""
    erased: list[int] = []
    """Offsets of rows that were erased; a reader passes them over, also while a file still has them."""
    expired: int = 0
    """Rows that were kept long enough, and are gone."""


def segments(directory: Path, *, writer: str | None = None) -> list[Segment]:
    """The segments that are done, by writer and offset; one that lies within another is left out."""
    found: list[Segment] = []
    pattern = "*.json" if writer is None else f"{writer}-*.json"
    matches = (_SEGMENT.fullmatch(path.stem) for path in (Path(directory) / _FOLDER).glob(pattern))
    named = (
        Segment(match[1], int(match[2]), int(match[3]))
        for match in matches
        if match is not None and writer in (None, match[1])
    )
    for segment in sorted(named, key=lambda each: (each.writer, each.start, -each.end)):
        within = found and found[-1].writer == segment.writer and segment.end <= found[-1].end
        if not within:
            found.append(segment)
    return found


def reached(done: Iterable[Segment]) -> dict[str, int]:
    """How far the rows of each writer are in segments."""
    ends: dict[str, int] = {}
    for segment in done:
        ends[segment.writer] = max(ends.get(segment.writer, 0), segment.end)
    return ends


def mark_path(directory: Path, segment: Segment) -> Path:
    """Where the mark of a segment is."""
    return directory / _FOLDER / f"{segment.name}.json"


def read_mark(directory: Path, segment: Segment) -> Mark | None:
    """The mark of a segment; None when it is gone, which is when a longer segment has taken its place.

    Raises
    ------
    IntegrityError
        When it is damaged.
    """
    path = mark_path(directory, segment)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Mark)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise IntegrityError("the mark of a segment is damaged", got=f"{path}: {error}") from error


def write_mark(directory: Path, segment: Segment, mark: Mark) -> None:
    """Write the mark of a segment, durably."""
    make_directory(directory / _FOLDER)
    write_atomic(mark_path(directory, segment), canonical(msgspec.to_builtins(mark)))


def remove_stale_marks(directory: Path) -> None:
    """Remove what a crash has left among the marks: those that lie within another, and files half written.

    Call it under :func:`alone`.
    """
    counted = {mark_path(directory, segment) for segment in segments(directory)}
    for path in (directory / _FOLDER).glob("*"):
        stale = path.suffix == ".json" and _SEGMENT.fullmatch(path.stem) is not None and path not in counted
        if stale or path.name.startswith(TEMPORARY):
            path.unlink()


class SegmentIndex:
    """The segments of one directory, listed again only when their directory has changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stamp: tuple[int, int] | None = None
        self._found: dict[str, list[Segment]] = {}

    def by_writer(self, *, fresh: bool = False) -> dict[str, list[Segment]]:
        """The segments of each writer; ``fresh`` looks whatever the directory's time says."""
        try:
            state = (self.directory / _FOLDER).stat()
        except (FileNotFoundError, NotADirectoryError):
            return {}
        stamp = (state.st_mtime_ns, state.st_ino)
        if fresh or stamp != self._stamp:
            # A change right after the last one may bear the same time: what is that young is looked at again.
            settled = time.time_ns() - state.st_mtime_ns > _SETTLED_NS
            done = segments(self.directory)
            self._found = {writer: list(own) for writer, own in groupby(done, key=attrgetter("writer"))}
            self._stamp = stamp if settled else None
        return self._found

    def covering(self, writer: str, position: int, *, fresh: bool = False) -> Segment | None:
        """The segment that holds what follows a position, or the next one when there is none; None at the end."""
        found = self._next(writer, position, fresh=False)
        if (found is None and fresh) or (found is not None and found.start > position):
            # A listing may lack a mark that was written while it was made, and have a later one: the next has both.
            found = self._next(writer, position, fresh=True)
        return found

    def _next(self, writer: str, position: int, *, fresh: bool) -> Segment | None:
        return next((each for each in self.by_writer(fresh=fresh).get(writer, ()) if each.end > position), None)

    def holds(self, writer: str, position: int) -> bool:
        """Whether the row that ends at a position is in a segment."""
        return any(each.start < position <= each.end for each in self.by_writer(fresh=True).get(writer, ()))


@contextmanager
def alone(directory: Path, *, wait: bool = False) -> Iterator[None]:
    """Nobody else changes what is compacted here.

    Raises
    ------
    ConflictError
        When another process does, and this one is not to wait.
    """
    make_directory(directory)
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise ConflictError("another process compacts these records", got=str(directory)) from error
        yield
    finally:
        os.close(descriptor)
