"""The end of a spool, held by its writer, and the names of its files.

::

    <directory>/<writer>.spool                the first file
    <directory>/<writer>@<base>.spool         one that begins at offset <base> of the spool

An offset counts on over the files of a spool, and is never used twice: a place says where a row is for good, whatever
files have been begun or deleted since. So a batch that a reader may have seen is never cut off. One that is refused
although it stands there whole, because it could not be forced to disk, is withdrawn: its rows are marked as erased.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from trimtab.adapters.files import sync_directory
from trimtab.adapters.records import frames
from trimtab.adapters.records.segments import PARQUET, reached, segments
from trimtab.adapters.records.spoolfile import mended, overwrite, write_at
from trimtab.errors import ConflictError, Unavailable

SUFFIX = ".spool"
SEGMENT_BYTES = 64_000_000
"""A file that has grown to this is followed by a new one."""
_MOST_HELD = 8
_FILE = re.compile(r"([^@]+?)(?:@(\d+))?" + re.escape(SUFFIX))


class SpoolFile(NamedTuple):
    """A file of a spool: where it begins, where the next one does (None for the last), and its path."""

    base: int
    following: int | None
    path: Path


def file_of(directory: Path, writer: str, base: int) -> Path:
    """The path of the file that begins at ``base``."""
    return directory / (f"{writer}@{base:012d}{SUFFIX}" if base else f"{writer}{SUFFIX}")


def spools(directory: Path) -> dict[str, list[SpoolFile]]:
    """The files of every writer, in order; the writers are sorted.

    A listing may lack a file that was begun while it was made, and have a later one. So it is made twice, and what was
    begun since the first one is left out: all that stands before it is in the second, unless it was deleted.
    """
    first, found = _listed(directory), _listed(directory)
    chains = {}
    for writer in sorted(first.keys() & found.keys()):
        last = max(first[writer])
        files = sorted(file for file in found[writer] if file <= last)
        if not files:
            continue
        nexts = [base for base, _ in files[1:]]
        chains[writer] = [
            SpoolFile(base, following, path) for (base, path), following in zip(files, [*nexts, None], strict=True)
        ]
    return chains


def _listed(directory: Path) -> dict[str, list[tuple[int, Path]]]:
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in directory.glob(f"*{SUFFIX}"):
        if (match := _FILE.fullmatch(path.name)) is not None:
            found.setdefault(match[1], []).append((int(match[2] or 0), path))
    return found


@contextmanager
def ends_held(directory: Path) -> Iterator[None]:
    """Meanwhile no file of a table is begun, opened for writing, or deleted as the last one of its spool."""
    descriptor = os.open(directory / ".ends", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a living process writes to this file; call it under :func:`ends_held`."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Tail:
    """The last file of a spool, opened for writing.

    Parameters
    ----------
    directory, writer
        Whose spool.
    limit
        Bytes after which a new file is begun.
    """

    def __init__(self, directory: Path, writer: str, *, limit: int) -> None:
        self._directory, self._writer, self._limit = directory, writer, limit
        self._held: list[int] = []
        """Descriptors: the last one is written to, those before await to be forced to disk."""
        self._closing = weakref.finalize(self, _close, self._held)
        self._forcing = threading.Lock()
        self._torn = False
        """Whether something may stand behind the end that a failed write left."""
        self._refused: tuple[frames.Batch, bytes] | None = None
        """The batch before the end, while it is to be withdrawn."""
        try:
            with ends_held(directory):
                self._open()
        except BlockingIOError as error:
            self._closing()
            raise ConflictError(
                "another process writes records under this name",
                got=str(directory / writer),
                hint="give each writer its own name",
            ) from error
        except OSError as error:
            self._closing()
            raise Unavailable(
                "cannot open records for writing", got=f"{directory / writer}: {error.strerror}"
            ) from error
        except BaseException:
            self._closing()
            raise

    def _open(self) -> None:
        files = spools(self._directory).get(self._writer, [])
        least = reached(segments(self._directory / PARQUET, writer=self._writer)).get(self._writer, 0)
        self._base = files[-1].base if files else least
        path = file_of(self._directory, self._writer, self._base)
        self._held.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))
        fcntl.flock(self._held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._size = mended(path, self._held[-1])
        if least > self.end:
            # A power cut took rows that are in Parquet: their offsets are used.
            self._begin(least)
        if self._size == 0:
            sync_directory(self._directory)

    @property
    def end(self) -> int:
        """Where the spool ends."""
        return self._base + self._size

    def append(self, rows: Sequence[bytes], *, sync: bool) -> int:
        """Write one batch; its end. After an ``OSError`` the file is to be restored; the next batch sees to it too."""
        if self._torn:
            self.restore()
        if self._size >= self._limit:
            self._rotate()
        start, batch = self._size, frames.pack(rows, offset=self._size)
        self._torn = True
        write_at(self._held[-1], batch, start)
        self._torn, self._size = False, self._size + len(batch)  # a reader may see it from here on
        if sync:
            try:
                self._force()
            except OSError:
                self._torn, self._refused = True, (frames.Batch(start, self._size, len(rows)), batch)
                raise
        return self.end

    def _rotate(self) -> None:
        # Where no file can be begun now, this one goes on, and it is tried again with the next batch.
        with contextlib.suppress(OSError):
            if len(self._held) > _MOST_HELD:  # of a writer that never asks for it
                self._force()
            with ends_held(self._directory):
                self._begin(self.end)

    def _begin(self, base: int) -> None:
        path = file_of(self._directory, self._writer, base)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held.append(descriptor)
        self._base, self._size = base, 0

    def settled(self) -> int:
        """Force to disk what was appended, and up to where that is. It changes nothing: rows may come meanwhile."""
        end = self.end
        try:
            self._force()
        except OSError as error:
            raise Unavailable(
                "records cannot be forced to disk", got=f"{self._directory / self._writer}: {error.strerror}"
            ) from error
        return end

    def _force(self) -> None:
        with self._forcing:
            held = list(self._held)
            for descriptor in held:
                os.fdatasync(descriptor)
            if len(held) > 1:
                sync_directory(self._directory)
            for descriptor in held[:-1]:
                self._held.remove(descriptor)
                os.close(descriptor)

    def try_room(self, size: int) -> None:
        """Write so many zeros behind the end and cut them off; ``OSError``, after which to restore, without room.

        A reader takes them for a tail that was cut short.
        """
        if self._torn:
            self.restore()
        self._torn = True
        write_at(self._held[-1], bytes(size), self._size)
        self.restore()

    @property
    def owes(self) -> bool:
        """Whether a batch that was refused still stands there for all to read."""
        return self._refused is not None

    def restore(self) -> None:
        """Cut off, or withdraw, what a failed ``append`` left."""
        descriptor, self._torn = self._held[-1], True
        if self._refused is not None:
            batch, data = self._refused
            write_at(descriptor, data[: frames.HEADER_SIZE], batch.start)  # the system may have forgotten it by now
            overwrite(descriptor, frames.rows_in(batch, data[frames.HEADER_SIZE :]) or ())
            self._refused = None
        os.ftruncate(descriptor, self._size)
        self._torn = False

    def close(self) -> None:
        """Give the files free; dropping the object does so too."""
        if self._refused is not None:
            with contextlib.suppress(OSError):
                self.restore()
        with self._forcing:
            self._closing()


def _close(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())
