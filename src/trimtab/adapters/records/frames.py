"""The format of a spool: batches of rows, each batch whole or not there.

::

    file    batch batch batch ...
    batch   magic (4 bytes)  offset of this batch in the file (u64)  length of its rows (u32)
            number of rows (u32)  CRC-32 of the 20 bytes before (u32)  rows
    row     length (u32, its top bit set when the row is erased)  CRC-32 of the payload (u32)  payload

All numbers are little endian. A header carries its own offset, so that nothing inside a payload can be taken for
one. An erased row keeps its length, so that every offset stays what it was; its payload is zeros.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from trimtab.errors import IntegrityError, TooLarge

MAGIC = b"\xffTTB"
_HEAD = struct.Struct("<4sQII")
_HEADER = struct.Struct("<4sQIII")
_CHECK = struct.Struct("<I").pack
ROW = struct.Struct("<II")
HEADER_SIZE = _HEADER.size
ROW_SIZE = ROW.size
ERASED = 1 << 31
_LARGEST = 1 << 30


class Batch(NamedTuple):
    """A batch header: where the batch begins, where its rows begin and end."""

    start: int
    end: int
    rows: int

    @property
    def first(self) -> int:
        return self.start + HEADER_SIZE


class Row(NamedTuple):
    """A row in a batch: where its frame begins and ends, whether it is erased, and its payload."""

    start: int
    end: int
    erased: bool
    payload: bytes
    intact: bool


def pack(rows: Sequence[bytes], *, offset: int) -> bytes:
    """The bytes of a batch that is to stand at ``offset``.

    Raises
    ------
    TooLarge
        When the batch is past 1 GiB.
    """
    parts, size = [b""], ROW_SIZE * len(rows)
    for row in rows:
        size += len(row)
        parts.append(ROW.pack(len(row) & (ERASED - 1), zlib.crc32(row)))
        parts.append(row)
    if size > _LARGEST:
        raise TooLarge("a batch of records is too large", got=f"{size} bytes", hint="write it in parts below 1 GiB")
    head = _HEAD.pack(MAGIC, offset, size, len(rows))
    parts[0] = head + _CHECK(zlib.crc32(head))
    return b"".join(parts)


def header_at(data: bytes, offset: int) -> Batch | None:
    """The batch whose header stands at the beginning of ``data``, read at ``offset``; None when none does."""
    if len(data) < HEADER_SIZE:
        return None
    magic, where, size, rows, check = _HEADER.unpack_from(data)
    if magic != MAGIC or where != offset or check != zlib.crc32(data[: _HEAD.size]):
        return None
    return Batch(offset, offset + HEADER_SIZE + size, rows)


def rows_in(batch: Batch, body: bytes) -> list[Row] | None:
    """The rows of a batch; None when its frames do not fill it exactly."""
    found, position = [], 0
    for _ in range(batch.rows):
        if position + ROW_SIZE > len(body):
            return None
        length, check = ROW.unpack_from(body, position)
        begin = position + ROW_SIZE
        end = begin + (length & ~ERASED)
        if end > len(body):
            return None
        payload = body[begin:end]
        erased = bool(length & ERASED)
        intact = erased or zlib.crc32(payload) == check
        found.append(Row(batch.first + position, batch.first + end, erased, payload, intact))
        position = end
    return found if position == len(body) else None


def headers(file: IO[bytes], *, start: int, size: int) -> Iterator[Batch]:
    """The whole batches from ``start`` on, as far as their headers chain within the first ``size`` bytes."""
    while True:
        file.seek(start)
        batch = header_at(file.read(HEADER_SIZE), start)
        if batch is None or batch.end > size:
            return
        yield batch
        start = batch.end


def body_of(file: IO[bytes], batch: Batch) -> bytes:
    """The bytes of the rows of a batch."""
    file.seek(batch.first)
    return file.read(batch.end - batch.first)


def intact(file: IO[bytes], batch: Batch) -> bool:
    """Whether every row of a batch is what was written."""
    rows = rows_in(batch, body_of(file, batch))
    return rows is not None and all(row.intact for row in rows)


def batch_after(file: IO[bytes], *, start: int, size: int) -> Batch | None:
    """The first whole batch somewhere past ``start``, looked for byte by byte: is a break a torn tail or damage?"""
    position, overlap = start + 1, len(MAGIC) - 1
    while position < size:
        file.seek(position)
        window = file.read(io.DEFAULT_BUFFER_SIZE * 16)
        at = window.find(MAGIC)
        while at >= 0:
            file.seek(position + at)
            batch = header_at(file.read(HEADER_SIZE), position + at)
            if batch is not None and batch.end <= size:
                return batch
            at = window.find(MAGIC, at + 1)
        if len(window) <= overlap:
            return None
        position += len(window) - overlap
    return None


def refuse_damage(file: IO[bytes], *, name: str, start: int, size: int) -> None:
    """Raise when what follows a break at ``start`` shows that it is damage, not a torn tail.

    Raises
    ------
    IntegrityError
        When a whole batch stands after the break: cutting there would lose rows that were acknowledged.
    """
    later = batch_after(file, start=start, size=size)
    # A tail may have been cut off, and written over, since the break was seen: then it is none.
    if later is not None and header_at(os.pread(file.fileno(), HEADER_SIZE, start), start) is None:
        raise IntegrityError(
            "a spool of records is damaged",
            got=f"{name}: bytes {start} to {later.start} are not a batch",
            hint="move the file away and restore it from a backup; the batches after the damage are whole",
        )
