"""Files that are there whole or not at all, also after a crash."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from trimtab.errors import Unavailable

TEMPORARY = ".tmp-"
"""How the name of a file begins that is not whole yet; a crash may leave one."""


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a start after a crash, sees the old content or the new one.

    The bytes are on disk when the call returns. The directory must exist.

    Raises
    ------
    Unavailable
        When the file cannot be written (disk full, no permission); the old content stays.
    """
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            settle(Path(temporary), path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Unavailable(
            "cannot write a file", got=f"{path}: {error.strerror}", hint="check space and rights"
        ) from error


def write_shared(path: Path, data: bytes, *, through: Path) -> None:
    """As :func:`write_atomic`, for a file that others read too: its mode follows the umask.

    Parameters
    ----------
    through
        Where it is written first, in the same file system, by one writer at a time. What a crash leaves there is
        written over by the next one, and no more than that is ever left.

    Raises
    ------
    Unavailable
        When the file cannot be written (disk full, no permission); the old content stays.
    """
    try:
        try:
            through.write_bytes(data)
            settle(through, path)
        except BaseException:
            through.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Unavailable(
            "cannot write a file", got=f"{path}: {error.strerror}", hint="check space and rights"
        ) from error


def settle(temporary: Path, path: Path) -> None:
    """Give a finished temporary file its name: its bytes first, then the name, then the directory."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Force the names in a directory to disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Create a directory and the missing ones above it, durably."""
    missing = [step for step in (directory, *directory.parents) if not step.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for step in missing:
            sync_directory(step.parent)
    except OSError as error:
        raise Unavailable("cannot create a directory", got=f"{directory}: {error.strerror}") from error
