"""A lock that is a file: one process holds it until it lets go or dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class LockFile:
    """An advisory lock on a file that goes away with the lock, so that nothing is left lying about.

    A file that a killed process left is no lock: the next one takes it over.

    Parameters
    ----------
    path
        The file; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._descriptor = path, -1

    def take(self) -> bool:
        """Hold it without waiting; False while another does.

        Raises
        ------
        OSError
            When there can be no such file: ``FileNotFoundError`` where its directory is not there, or not any more.
        """
        if not self.held:
            self.release(remove=False)  # somebody took the file away: it is no lock any more
        while self._descriptor < 0:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._stands(descriptor):
                    self._descriptor = descriptor
            except BlockingIOError:
                return False
            finally:
                if self._descriptor != descriptor:
                    os.close(descriptor)
        return True

    @property
    def held(self) -> bool:
        """Whether it is ours, and nobody took the file away under us."""
        return self._descriptor >= 0 and self._stands(self._descriptor)

    def release(self, *, remove: bool) -> None:
        """Let the next one in; ``remove`` takes the file away. Nothing happens where it is not held."""
        if self._descriptor < 0:
            return
        if remove and self.held:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1

    def _stands(self, descriptor: int) -> bool:
        """Whether it is the file of that name: one who let go may have taken that away since we opened it."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False
