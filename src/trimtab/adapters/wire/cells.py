"""Counts in a file that is mapped into memory: one per worker, read by all, added up over the living and the dead.

::

    <folder>/<layout>/<worker>-<pid>-<started>.cells     of one worker, locked as long as it lives
    <folder>/<layout>/past.msgpack                       of workers that have ended, and which files it covers

Adding to a cell is a store to memory: a worker that is killed loses none of its counts, and any process (another worker
that is scraped, the command line) can add up all files. The file of a dead worker counts on until a starting worker
takes it over into ``past.msgpack``. Totals therefore never fall, whoever dies when. An arm that loses its name is taken
from the past and added to what has none, in one step; its cells there may then be below zero, for a worker that lives
still has them in its file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from threading import Lock

import msgspec

from trimtab.adapters.wire.routefile import replace_file
from trimtab.core.clock import Micros
from trimtab.errors import Unavailable
from trimtab.serving import meter
from trimtab.serving.counted import Blocks, Counted, Key, added, counted, nameless, renamed, whole
from trimtab.serving.meter import Row

METRICS = "metrics"
"""Name of the folder, below ``run`` of a home."""
_MAGIC, _NAMES_END, _CELLS_END = 0, 1, 2
_NAMES_AT, _CELLS_AT = 4096, 262_144
"""Where names begin (a line of JSON per block) and where cells begin."""
_SIZE = 32 << 20
"""Of the mapping; the file is sparse, what is not used takes neither memory nor disk."""
_GROW = 65_536
_PAST = "past.msgpack"
_TRIES = 20
_PARTIAL_S = 60.0
"""A file that is not made in so long is nobody's."""


class _Past(msgspec.Struct):
    covers: list[str]
    """Files whose counts are in here, and which may still be there."""
    blocks: list[tuple[str, tuple[str, ...], list[int]]]


class CellFile:
    """The cells of one worker.

    Space on disk is taken before cells are given out, because a store to a mapped page that the disk has no room for
    would kill the process. Where there is none, counts are kept in memory and nobody else sees them.

    Parameters
    ----------
    folder
        Of all workers of a home.
    name
        This worker's, and no other's at any time: ``worker-1-<pid>-<started>``.

    Raises
    ------
    Unavailable
        When the file cannot be made.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        path = _place(folder) / f"{name}.cells"
        partial = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._file, _SIZE)
            _reserve(self._file, 0, _CELLS_AT)
            self._map = mmap.mmap(self._file, _SIZE)
        except OSError as error:
            raise Unavailable("cannot make a file for metrics", got=f"{path}: {error.strerror}") from error
        self._cells = memoryview(self._map).cast("Q")
        self._cells[_NAMES_END], self._cells[_CELLS_END] = _NAMES_AT, _CELLS_AT
        self._cells[_MAGIC] = meter.LAYOUT
        self._taken = _CELLS_AT
        self._making = Lock()
        self.unshared = 0
        """Blocks that nobody else sees, for want of space."""
        partial.replace(path)
        _take_over(folder)

    def block(self, kind: str, labels: tuple[str, ...], size: int) -> Row:
        """Cells of its own for one thing that is counted; any thread may ask."""
        # Taking space leaves the interpreter to other threads: without a lock, two would be given the same cells.
        with self._making:
            line = msgspec.json.encode([kind, labels, self._cells[_CELLS_END], size]) + b"\n"
            names_end, start = self._cells[_NAMES_END], self._cells[_CELLS_END]
            stop = start + 8 * size
            if names_end + len(line) > _CELLS_AT or stop > _SIZE or not self._room(stop):
                self.unshared += 1
                return [0] * size
            self._map[names_end : names_end + len(line)] = line
            # The order matters: who reads between these two sees cells without a name, never a name without cells.
            self._cells[_CELLS_END] = stop
            self._cells[_NAMES_END] = names_end + len(line)
            return self._cells[start // 8 : stop // 8]

    def _room(self, stop: int) -> bool:
        while self._taken < stop:
            try:
                _reserve(self._file, self._taken, _GROW)
            except OSError:
                return False
            self._taken += _GROW
        return True


def _reserve(file: int, at: int, length: int) -> None:
    """Take space on disk for bytes that nobody has used yet."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, at, length)
    elif os.pwrite(file, bytes(length), at) < length:  # macOS
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_counts(folder: Path) -> Counted:
    """Everything that was counted in a home, over all workers that live or have ever lived.

    Raises
    ------
    Unavailable
        When the files change faster than they can be read.
    """
    place = _place(folder)
    for _ in range(_TRIES):
        before = _stamp(place)
        past = _past(place)
        dead: list[Blocks] = []
        living: dict[str, Blocks] = {}
        try:
            for path in _files(place, past):
                blocks, lives = _read(path)
                if lives:
                    living[path.stem] = blocks
                else:
                    dead.append(blocks)
        except FileNotFoundError:
            continue  # it was taken over meanwhile: the past has changed
        if _stamp(place) == before:
            parts = [_blocks(past), *dead, *(living[name] for name in sorted(living))]
            return counted(whole(added(parts)), living)
    raise Unavailable("the counts of the workers change too fast", hint="try again")


def rename_silent(folder: Path, *, now: Micros, keep: Collection[tuple[str, str, str]]) -> None:
    """Put the arms that were silent longest under one name, where a model has too many; see :func:`nameless`."""
    place = _place(folder)
    with contextlib.suppress(Unavailable), _alone(place) as ours:
        if not ours:
            return  # another worker does it
        past = _past(place)
        parts = [_blocks(past), *(_read(path)[0] for path in _files(place, past))]
        gone = nameless(counted(whole(added(parts))).arms, now=now, keep=keep)
        if gone:
            _keep(place, past.covers, added([_blocks(past), renamed(gone)]))


def _take_over(folder: Path) -> None:
    """Add the counts of dead workers to the past, and remove their files. One at a time; if killed, nothing is lost."""
    place = _place(folder)
    with contextlib.suppress(Unavailable), _alone(place) as ours:
        if not ours:
            return  # another worker does it: the files count on as they are, as on a full disk
        past = _past(place)
        read = [(path, *_read(path)) for path in _files(place, past)]
        dead = [(path, blocks) for path, blocks, lives in read if not lives]
        if dead:
            living = {key for _, blocks, lives in read if lives for key in blocks}
            total = added([_blocks(past), *(blocks for _, blocks in dead)])
            total = whole({key: cells for key, cells in total.items() if key not in living}) | {
                key: cells for key, cells in total.items() if key in living
            }
            covers = [name for name in past.covers if (place / name).exists()] + [path.name for path, _ in dead]
            _keep(place, covers, total)
            past = _Past(covers, [])
        for name in past.covers:
            (place / name).unlink(missing_ok=True)
        _clear(place)


def _clear(place: Path) -> None:
    """Remove what workers left that were killed while they made their file: what is much older than the newest one."""
    newest = max((path.stat().st_mtime for path in place.glob("*.cells")), default=0.0)
    for partial in place.glob("*.new"):
        with contextlib.suppress(FileNotFoundError):
            if partial.stat().st_mtime < newest - _PARTIAL_S:
                partial.unlink()


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[bool]:
    """Whether nobody else changes the past meanwhile."""
    lock = os.open(place / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _locked(lock, fcntl.LOCK_EX)
    finally:
        os.close(lock)


def _locked(file: int, how: int) -> bool:
    """Whether a lock could be had without waiting for it; it ends with the descriptor."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _keep(place: Path, covers: list[str], total: dict[Key, list[int]]) -> None:
    left = {labels for (kind, labels), cells in total.items() if kind == meter.ARM and any(cells)}
    rows = [
        (kind, labels, cells)
        for (kind, labels), cells in total.items()
        if kind not in (meter.ARM, meter.LAST) or labels in left
    ]
    replace_file(place / _PAST, msgspec.msgpack.encode(_Past(covers, rows)), sync=True)


def _place(folder: Path) -> Path:
    return folder / str(meter.LAYOUT)


def _files(place: Path, past: _Past) -> Iterator[Path]:
    covered = set(past.covers)
    return (path for path in sorted(place.glob("*.cells")) if path.name not in covered)


def _past(place: Path) -> _Past:
    try:
        return msgspec.msgpack.decode((place / _PAST).read_bytes(), type=_Past)
    except (FileNotFoundError, msgspec.DecodeError):
        return _Past([], [])


def _blocks(past: _Past) -> dict[Key, list[int]]:
    return {(kind, labels): cells for kind, labels, cells in past.blocks}


def _stamp(place: Path) -> tuple[int, int]:
    try:
        found = (place / _PAST).stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_ino


def _read(path: Path) -> tuple[dict[Key, list[int]], bool]:
    """The blocks of a file, and whether its worker lives."""
    file = os.open(path, os.O_RDONLY)
    try:
        lives = not _locked(file, fcntl.LOCK_SH)
        if os.fstat(file).st_size != _SIZE:  # cut off by a power failure, or none of ours
            return {}, False
        with mmap.mmap(file, 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as raw, raw.cast("Q") as cells:
            blocks: dict[Key, list[int]] = {}
            for line in mapped[_NAMES_AT : cells[_NAMES_END]].splitlines():
                kind, labels, start, size = msgspec.json.decode(line, type=tuple[str, tuple[str, ...], int, int])
                own = cells[start // 8 : start // 8 + size].tolist()
                before = blocks.get((kind, labels))
                blocks[kind, labels] = own if before is None else [a + b for a, b in zip(before, own, strict=True)]
            rows = sum(sum(cells[:2]) for (kind, _), cells in blocks.items() if kind == meter.ARM)
            # Workers of earlier versions did not count their records: they answered nothing without one.
            blocks.setdefault((meter.COUNT, ("trimtab_records_written_total",)), [rows])
            return blocks, lives
    except (ValueError, msgspec.DecodeError):  # zeros or noise where names should be: there is nothing to count
        return {}, False
    finally:
        with contextlib.suppress(OSError):
            os.close(file)
