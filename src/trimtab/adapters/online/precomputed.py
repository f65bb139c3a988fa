"""Answers computed ahead, in LMDB: read in microseconds by every worker."""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.core.clock import Clock, Micros
from trimtab.errors import InputError, TrimtabError

_UNTIL = struct.Struct("<q")
_OWNER = 8
_LOOK_NS = 1_000_000_000
_log = logging.getLogger("trimtab.serving")


class LmdbPrecomputed:
    """:class:`trimtab.serving.ports.Precomputed` in an LMDB directory.

    A row is the time until which it is good and the outputs, all little endian: 8 bytes each.

    Parameters
    ----------
    path
        The directory; created when missing, unless ``readonly``.
    clock
        Says which answers are still good.
    readonly
        For a serving worker.

    Raises
    ------
    Unavailable
        When a reader finds no store there, or the file system refuses.
    """

    def __init__(self, path: Path, *, clock: Clock, readonly: bool = False) -> None:
        self._rows = LmdbRows(path, readonly=readonly, durable=False)
        self._clock = clock

    def get(self, model: str, version: str, key: bytes) -> tuple[float, ...] | None:
        """The outputs of one answer, None when there is none or its time is over."""
        row = self._rows.get_many([_stored(model, version, key)])[0]
        if row is None or _UNTIL.unpack_from(row)[0] <= self._clock.now():
            return None
        return struct.unpack_from(f"<{len(row) // 8 - 1}d", row, _UNTIL.size)

    def put_many(self, model: str, version: str, answers: Mapping[bytes, Sequence[float]], *, until: Micros) -> None:
        """Keep answers, by key, that are good until a time (not included)."""
        if b"" in answers:
            raise InputError("an answer needs a key", got="an empty key")
        rows = {
            _stored(model, version, key): struct.pack(f"<q{len(outputs)}d", until, *outputs)
            for key, outputs in answers.items()
        }
        if rows:
            self._rows.put_many(rows)

    def drop(self, *, before: Micros) -> int:
        """Delete the answers that were good until ``before`` at most; how many. Later ones are never touched."""
        return self._rows.prune(lambda row: bool(_UNTIL.unpack_from(row)[0] <= before))

    def close(self) -> None:
        """Free the files; the object is not used again."""
        self._rows.close()


class OpenedWhenThere:
    """The answers computed ahead, for a worker: opened when the first are written, which may be days after its start.

    Parameters
    ----------
    path
        The directory of :class:`LmdbPrecomputed`.
    timer
        Monotonic nanoseconds: it is looked for once a second, also whether it was deleted or made anew since.
    """

    def __init__(self, path: Path, *, clock: Clock, timer: Callable[[], int]) -> None:
        self._path, self._clock, self._timer = path, clock, timer
        self._store: LmdbPrecomputed | None = None
        self._file = 0
        self._next = timer()
        self._problem = ""

    def __call__(self) -> LmdbPrecomputed | None:
        """The store, None while there is none."""
        now = self._timer()
        if now >= self._next:
            self._next = now + _LOOK_NS
            self._look()
        return self._store

    def _look(self) -> None:
        try:
            file = (self._path / "data.mdb").stat().st_ino
        except OSError:
            file = 0
        if file == self._file:
            return
        if self._store is not None:
            self._store.close()
            self._store, self._file = None, 0
        if file:
            try:
                self._store = LmdbPrecomputed(self._path, clock=self._clock, readonly=True)
            except TrimtabError as error:  # its writer may be making it just now: it is tried again
                if str(error) != self._problem:
                    self._problem = str(error)
                    _log.warning("answers computed ahead cannot be read: %s", error)
            else:
                self._file = file


def _stored(model: str, version: str, key: bytes) -> bytes:
    owner = hashlib.blake2b(f"{model}\x1f{version}".encode(), digest_size=_OWNER).digest()
    return owner + key
