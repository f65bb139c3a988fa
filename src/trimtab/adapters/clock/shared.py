"""A clock that one process moves and others read, through eight bytes of shared memory."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from trimtab.core.clock import Micros
from trimtab.errors import InputError, Unavailable

_SIZE = 8


class SharedClock:
    """A virtual clock in a file: what the driver advances, every process that opened it sees at once.

    Parameters
    ----------
    path
        The file; the writer creates it when missing, at time 0.
    writable
        True for the one process that moves the clock.

    Raises
    ------
    Unavailable
        When a reader finds no clock there.

    Notes
    -----
    The counter is one aligned native 64-bit word, which is read and written in one step; so a reader sees the old
    time or the new one. All processes are on one machine.
    """

    def __init__(self, path: Path, *, writable: bool = False) -> None:
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        try:
            descriptor = os.open(path, flags, 0o644)
            try:
                if writable and os.fstat(descriptor).st_size < _SIZE:
                    os.ftruncate(descriptor, _SIZE)
                access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
                self._memory = mmap.mmap(descriptor, _SIZE, access=access)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:  # ValueError: the file is shorter than the counter
            raise Unavailable(
                "there is no shared clock", got=f"{path}: {error}", hint="start its driver first"
            ) from error
        self._path, self._writable = path, writable
        self._words = memoryview(self._memory).cast("q")

    def now(self) -> Micros:
        """The time it was last advanced to, in microseconds since the epoch."""
        return self._words[0]

    def advance_to(self, when: Micros) -> None:
        """Move to ``when``; a time already passed is ignored, because a clock never goes backwards.

        Raises
        ------
        InputError
            When this object was opened for reading.
        """
        if not self._writable:
            raise InputError("a shared clock opened for reading cannot be moved", got=str(self._path))
        self._words[0] = max(self._words[0], when)

    def close(self) -> None:
        """Let go of the file; the object is not used again."""
        self._words.release()
        self._memory.close()
