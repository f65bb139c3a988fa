"""The route table as a file: replaced as a whole by the control process, watched by every worker."""

from __future__ import annotations

import os
from pathlib import Path

from trimtab.errors import Unavailable
from trimtab.serving.routing import RouteTable, encode_table

Stamp = tuple[int, int, int]


def replace_file(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Write a file so that a reader sees the old content or the new, never a mixture.

    Raises
    ------
    Unavailable
        When the disk refuses.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise Unavailable(f"cannot write {path.name}", got=str(error), hint="check the disk of the project") from error


def write_routes(path: Path, table: RouteTable) -> None:
    """Put a route table in force: every worker that watches ``path`` obeys it within 100 ms."""
    replace_file(path, encode_table(table), sync=True)


class RouteFile:
    """Watches a route file; looking is one ``stat``."""

    def __init__(self, path: Path) -> None:
        self._path, self._name = path, str(path)
        self._seen: Stamp | None = None

    def moved(self) -> bool:
        """Whether :meth:`changed` may have something; asked 50 times a second."""
        try:
            found = os.stat(self._name)  # noqa: PTH116 - a third of what Path.stat costs
        except OSError:  # said by `changed`, unless there is no file
            return True
        return self._seen is None or (found.st_mtime_ns, found.st_ino, found.st_size) != self._seen

    def changed(self) -> bytes | None:
        """The content when it is not what was seen last, else None; also None while there is no file."""
        try:
            if not self.moved():
                return None
            with self._path.open("rb") as file:
                stamp = _stamp(os.fstat(file.fileno()))
                data = file.read()
        except FileNotFoundError:
            return None
        self._seen = stamp
        return data

    def forget(self) -> None:
        """See the content as new again, to retry what could not be loaded."""
        self._seen = None


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_mtime_ns, found.st_ino, found.st_size
