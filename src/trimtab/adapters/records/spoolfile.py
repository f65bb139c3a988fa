"""One file of a spool: mended, read, erased from. Offsets here are those in the file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO

from trimtab.adapters.records import frames
from trimtab.errors import InputError, IntegrityError


def mended(path: Path, descriptor: int) -> int:
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


def holds_rows(path: Path) -> bool:
    """Whether a whole batch stands in the file."""
    with path.open("rb") as file:
        return next(frames.headers(file, start=0, size=os.fstat(file.fileno()).st_size), None) is not None


def rows_past(path: Path, *, after: int) -> Generator[frames.Row, None, int]:
    """Every row past an offset, erased ones too; returns where the whole batches end.

    Raises
    ------
    FileNotFoundError
        When the file is gone; then none of its rows was given.
    IntegrityError
        When it is damaged, or shorter than ``after``.
    InputError
        When ``after`` is not the end of a row.
    """
    with path.open("rb", buffering=1 << 20) as file:
        size = os.fstat(file.fileno()).st_size
        end = start = _batch_with(file, path, offset=after, size=size)
        for batch in frames.headers(file, start=start, size=size):
            rows = _rows_of(file, batch)
            if rows is None:
                # A tail may have been cut off, and written over, since the size was asked for.
                grown = batch.end < os.fstat(file.fileno()).st_size
                rows = _rows_of(file, batch)
            if rows is None:
                if grown:
                    raise IntegrityError("a spool of records is damaged", got=f"{path}: the batch at {batch.start}")
                return end
            end = batch.end
            yield from (row for row in rows if row.end > after)
        if end < size:
            frames.refuse_damage(file, name=str(path), start=end, size=size)
        return end


def end_of(path: Path) -> int:
    """Where the whole batches of a file end, by their headers."""
    end = 0
    with path.open("rb") as file:
        for batch in frames.headers(file, start=0, size=os.fstat(file.fileno()).st_size):
            end = batch.end
    return end


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


def rows_to_erase(path: Path, offsets: set[int]) -> tuple[list[frames.Row], int]:
    """The rows that end at these offsets, or are erased, and where the whole batches end.

    Those that are erased to the end come without the zeros that they hold.
    """
    found, end = [], 0
    with path.open("rb") as file:
        for batch in frames.headers(file, start=0, size=os.fstat(file.fileno()).st_size):
            end = batch.end
            for row in frames.rows_in(batch, frames.body_of(file, batch)) or ():
                if row.erased and not any(row.payload):
                    found.append(row._replace(payload=b""))
                elif row.erased or row.end in offsets:
                    found.append(row)
    return found, end


def erase_rows(path: Path, rows: Sequence[frames.Row]) -> None:
    """Overwrite rows for good, those that a crash has left half overwritten too."""
    if dirty := [row for row in rows if row.payload or not row.erased]:
        with path.open("r+b", buffering=0) as file:
            overwrite(file.fileno(), dirty)
            os.fdatasync(file.fileno())


def write_at(descriptor: int, data: bytes, start: int) -> None:
    """Write all of it, or raise ``OSError``: then a part of it may stand there, never all."""
    if (written := os.pwrite(descriptor, data, start)) < len(data):
        # The disk or the file is full, most likely; the system tells the reason only to the next write.
        written += os.pwrite(descriptor, data[written:], start + written)
        if written < len(data):
            raise OSError(0, f"only {written} of {len(data)} bytes were taken")


def overwrite(descriptor: int, rows: Sequence[frames.Row]) -> None:
    """Mark rows as erased, then put zeros in their place."""
    # The marks go first: from then on no reader takes a row, however far the zeros have come.
    for row in rows:
        length = len(row.payload)
        write_at(descriptor, frames.ROW.pack(length | frames.ERASED, zlib.crc32(bytes(length))), row.start)
    os.fdatasync(descriptor)  # zeros that reach the disk before their mark would be damage after a power cut
    for row in rows:
        write_at(descriptor, bytes(len(row.payload)), row.start + frames.ROW_SIZE)
