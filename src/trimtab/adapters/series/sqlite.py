"""Mergeable aggregates in one SQLite file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.sqlite import Database
from trimtab.core.clock import Micros
from trimtab.errors import InputError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY) WITHOUT ROWID;;
CREATE TABLE IF NOT EXISTS cells (
    name TEXT NOT NULL, bucket INTEGER NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (name, bucket)
) WITHOUT ROWID
"""
_LAST = "\U0010ffff"
"""Sorts after every character that a name holds."""


class SqliteSeries:
    """:class:`trimtab.core.ports.Series` in SQLite.

    Parameters
    ----------
    path
        The file; created when missing.
    durable
        True puts each batch on disk before ``add`` returns. The default leaves that to the system, because
        everything here can be rebuilt from records.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self._database = Database(path, schema=_SCHEMA, version=1, durable=durable)

    def add(self, batch: str, cells: Mapping[tuple[str, Micros], NDArray[np.float64]]) -> bool:
        """Add vectors to ``(name, bucket start)`` cells; False when this batch was added before."""
        vectors = {place: np.ascontiguousarray(vector, dtype="<f8") for place, vector in cells.items()}
        for (name, _), vector in vectors.items():
            if vector.ndim != 1:
                raise InputError("a cell holds one vector", got=f"{name} of shape {vector.shape}")
        with self._database.writing() as connection:
            if connection.execute("INSERT OR IGNORE INTO batches VALUES (?)", (batch,)).rowcount == 0:
                return False
            for (name, bucket), vector in vectors.items():
                place = (name, int(bucket))
                row = connection.execute("SELECT vector FROM cells WHERE name = ? AND bucket = ?", place).fetchone()
                total = vector if row is None else _added(name, np.frombuffer(row[0], "<f8"), vector)
                connection.execute("INSERT OR REPLACE INTO cells VALUES (?, ?, ?)", (*place, total.tobytes()))
        return True

    def read(
        self, prefix: str, *, start: Micros = 0, end: Micros = 2**62
    ) -> dict[tuple[str, Micros], NDArray[np.float64]]:
        """The cells whose name begins with ``prefix`` and whose bucket lies in ``[start, end)``."""
        sql = (
            "SELECT name, bucket, vector FROM cells"
            " WHERE name >= ? AND name <= ? AND bucket >= ? AND bucket < ? ORDER BY name, bucket"
        )
        rows = self._database.rows(sql, (prefix, prefix + _LAST, start, end))
        return {(name, bucket): np.frombuffer(vector, "<f8").astype(np.float64) for name, bucket, vector in rows}

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM cells")
            connection.execute("DELETE FROM batches")

    def close(self) -> None:
        """Free the file; the object is not used again."""
        self._database.close()


def _added(name: str, old: NDArray[np.float64], new: NDArray[np.float64]) -> NDArray[np.float64]:
    if old.shape != new.shape:
        raise InputError(
            f"the vectors of {name} differ in length", got=f"{len(new)}, stored {len(old)}", hint="use another name"
        )
    return old + new
