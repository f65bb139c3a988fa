"""Blobs as files named by their content."""

from __future__ import annotations

import re
from pathlib import Path

from trimtab.adapters.files import make_directory, sync_directory, write_atomic
from trimtab.core.ids import sha256
from trimtab.errors import IntegrityError, Unavailable, UnknownName

_NAME = re.compile(r"[0-9a-f]{64}")


class DirectoryBlobs:
    """:class:`trimtab.core.ports.Blobs` in a directory, spread over 256 subdirectories.

    Parameters
    ----------
    root
        The directory; created when missing.

    Notes
    -----
    Storing bytes whose file was damaged mends it. A crash may leave a ``.tmp-`` file, which nothing reads.

    Examples
    --------
    >>> import tempfile
    >>> blobs = DirectoryBlobs(Path(tempfile.mkdtemp()))
    >>> blobs.open(blobs.put(b"abc"))
    b'abc'
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(root)
        make_directory(self._root)

    def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256."""
        name = sha256(data)
        path = self._path(name)
        if self._holds(path, data):
            sync_directory(path.parent)  # whoever wrote it may not have come so far
            return name
        make_directory(path.parent)
        write_atomic(path, data)
        return name

    def open(self, name: str) -> bytes:
        """The bytes with that SHA-256."""
        if _NAME.fullmatch(name) is None:
            raise UnknownName("not the name of a blob", got=repr(name[:80]), hint="a name is 64 hexadecimal digits")
        path = self._path(name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise UnknownName("no such blob", got=name) from None
        except OSError as error:
            raise Unavailable("cannot read a blob", got=f"{path}: {error.strerror}") from error
        if sha256(data) != name:
            raise IntegrityError(
                "a blob is not what was stored",
                got=f"{path} with SHA-256 {sha256(data)}",
                hint="restore it from a backup",
            )
        return data

    def exists(self, name: str) -> bool:
        """Whether the blob is stored."""
        return _NAME.fullmatch(name) is not None and self._path(name).is_file()

    def _path(self, name: str) -> Path:
        return self._root / name[:2] / name[2:]

    @staticmethod
    def _holds(path: Path, data: bytes) -> bool:
        try:
            return path.stat().st_size == len(data) and path.read_bytes() == data
        except OSError:
            return False
