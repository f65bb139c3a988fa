"""Feature rows in LMDB: read in microseconds, from any process."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import lmdb

from trimtab.adapters.files import make_directory
from trimtab.errors import ConflictError, InputError, IntegrityError, TrimtabError, Unavailable

_MAP_SIZE = 256 << 20
_PENDING_BYTES = 64 << 20
_LONGEST = 480
"""Keys of this length and more are stored under a digest: LMDB takes 511 bytes at most."""
_DAMAGED = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.VersionMismatchError)


class LmdbRows:
    """:class:`trimtab.features.ports.OnlineRows` in an LMDB directory.

    Parameters
    ----------
    path
        The directory; created when missing, unless ``readonly``.
    readonly
        For a process that only reads; the writer may be another process and go on writing.
    durable
        True: ``put_many`` is on disk when it returns. False: it survives ``kill -9``, and the system decides when
        it reaches the disk; after a power cut such a store must be rebuilt.
    write_back
        Keep what was put in memory, read through it, and write it at ``sync``, ``close`` or past 64 MiB. For a store
        that one process has for itself, as in a replay: other processes see rows only after ``sync``.
    map_size
        Bytes of address space to begin with; it grows when it is full.

    Raises
    ------
    Unavailable
        When a reader finds no store there, or the file system refuses.
    ConflictError
        When this process has the same directory open already, which LMDB does not allow.
    IntegrityError
        When the file is damaged: delete the directory and rebuild it from the event log.

    Notes
    -----
    Any number of threads may use one object. It must not be carried over a ``fork``.
    """

    def __init__(
        self,
        path: Path,
        *,
        readonly: bool = False,
        durable: bool = True,
        write_back: bool = False,
        map_size: int = _MAP_SIZE,
    ) -> None:
        self._path, self._readonly, self._write_back = Path(path), readonly, write_back
        # Growing the map moves it under every open transaction, so nothing may run meanwhile; the lock costs 0.1 µs.
        self._lock = threading.RLock()
        self._pending: dict[bytes, bytes] = {}
        self._pending_bytes = 0
        if not readonly:
            make_directory(self._path)
        with self._translated():
            self._env = lmdb.open(
                str(self._path),
                map_size=map_size,
                readonly=readonly,
                create=not readonly,
                sync=durable,
                metasync=durable,
                max_readers=512,
                max_spare_txns=4,
            )
            self._env.reader_check()  # frees the slots of readers that were killed

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The rows under these keys, ``None`` where there is none, all from one snapshot."""
        with self._lock:
            try:
                return self._get(keys)
            except lmdb.MapResizedError:  # another process has grown the map
                self._env.set_mapsize(0)
                return self._get(keys)
            except lmdb.Error as error:
                raise self._ours(error) from error

    def _get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        if not self._pending:
            with self._env.begin() as transaction:  # renews a spare one
                get = transaction.get
                return [get(key if len(key) < _LONGEST else _shortened(key)) for key in keys]
        stored = [key if len(key) < _LONGEST else _shortened(key) for key in keys]
        rows = [self._pending.get(key) for key in stored]
        if None in rows:
            with self._env.begin() as transaction:
                return [transaction.get(key) if row is None else row for key, row in zip(stored, rows, strict=True)]
        return rows

    def put_many(self, rows: Mapping[bytes, bytes]) -> None:
        """Write these rows in one atomic step."""
        self._refuse_reader()
        stored = {key if len(key) < _LONGEST else _shortened(key): row for key, row in rows.items()}
        if b"" in stored:
            raise InputError("a row needs a key", got="an empty key")
        with self._lock, self._translated():
            if not self._write_back:
                self._write(stored)
                return
            self._pending.update(stored)
            self._pending_bytes += sum(map(len, stored)) + sum(map(len, stored.values()))
            if self._pending_bytes > _PENDING_BYTES:
                self._flush()

    def sync(self) -> None:
        """Force what was put to disk."""
        self._refuse_reader()
        with self._lock, self._translated():
            self._flush()
            self._env.sync(True)

    def clear(self) -> None:
        """Drop every row, before a rebuild."""
        self._refuse_reader()
        with self._lock, self._translated():
            self._pending.clear()
            self._pending_bytes = 0
            database = self._env.open_db()
            with self._env.begin(write=True) as transaction:
                transaction.drop(database, delete=False)

    def prune(self, over: Callable[[bytes], bool]) -> int:
        """Delete the rows of which that is so, in one atomic step; how many."""
        self._refuse_reader()
        dropped = 0
        with self._lock, self._translated():
            self._flush()
            with self._env.begin(write=True) as transaction, transaction.cursor() as cursor:
                more = cursor.first()
                while more:
                    if over(cursor.value()):
                        cursor.delete()
                        more = bool(cursor.key())  # it stands on the next row now, or behind the last
                        dropped += 1
                    else:
                        more = cursor.next()
        return dropped

    def close(self) -> None:
        """Write what is kept back and free the files; the object is not used again."""
        with self._lock, self._translated():
            if self._pending:
                self._flush()
            self._env.close()

    def _flush(self) -> None:
        if self._pending:
            self._write(self._pending)
            self._pending = {}
            self._pending_bytes = 0

    def _write(self, rows: Mapping[bytes, bytes]) -> None:
        items = sorted(rows.items())  # neighbours on one page are written together
        while True:
            try:
                with self._env.begin(write=True) as transaction:
                    for key, row in items:
                        transaction.put(key, row)
            except lmdb.MapFullError:
                self._grow()
            except lmdb.MapResizedError:
                self._env.set_mapsize(0)
            else:
                return

    def _grow(self) -> None:
        # Pages that a killed reader pins come free first; growing is the second remedy.
        if self._env.reader_check() == 0:
            self._env.set_mapsize(self._env.info()["map_size"] * 2)

    def _refuse_reader(self) -> None:
        if self._readonly:
            raise InputError("the online store was opened for reading", got=str(self._path))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise self._ours(error) from error

    def _ours(self, error: lmdb.Error) -> TrimtabError:
        if isinstance(error, _DAMAGED):
            return IntegrityError(
                "the online store is damaged",
                got=f"{self._path}: {error}",
                hint="delete it; it is rebuilt from the events",
            )
        if isinstance(error, lmdb.BadValsizeError):
            return InputError("a key or a row has a length that cannot be stored", got=str(error))
        if "already open" in str(error):
            return ConflictError(
                "this process has the online store open already", got=str(self._path), hint="share one object"
            )
        return Unavailable(
            "the online store cannot be used now", got=f"{self._path}: {error}", hint="is its writer up, the disk full?"
        )


def _shortened(key: bytes) -> bytes:
    # Exactly _LONGEST bytes, so it never equals a key that is stored as it is.
    return key[: _LONGEST - 32] + hashlib.sha256(key).digest()
