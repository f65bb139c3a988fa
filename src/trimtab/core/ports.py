"""Ports that more than one subject needs. Each has one conformance suite in :mod:`trimtab.testing`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros

Columns = Mapping[str, NDArray[np.generic]]
"""A table in memory: equally long arrays by name. Times are int64 microseconds, strings are numpy ``str``,
booleans are ``bool``, integers int64, floats float64 with NaN for a missing value."""


class Blobs(Protocol):
    """Content-addressed bytes.

    Contract: ``put`` is idempotent and atomic (no reader ever sees half a blob) and durable when it returns;
    the name of a blob is the SHA-256 of its content. ``open`` checks the content against the name and raises
    ``IntegrityError`` when a byte has changed, ``UnknownName`` when there is no such blob. Any thread or process.
    """

    def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256 as 64 hexadecimal digits."""
        ...

    def open(self, name: str) -> bytes:
        """The bytes with that SHA-256."""
        ...

    def exists(self, name: str) -> bool:
        """Whether the blob is stored."""
        ...


class Place(NamedTuple):
    """Where a row stands in a table of records: which writer wrote it, and the offset just after it.

    It holds for good: an adapter may move rows to other files and formats, but an offset is never used twice.
    """

    writer: str
    offset: int


class Records(Protocol):
    """Append-only tables of opaque rows, written by several processes, each with its own writer name.

    Contract: when ``write`` returns, the rows survive ``kill -9`` of this process (they are with the operating
    system); with ``sync=True`` they also survive a power cut. A batch is seen whole or not at all. Rows of one
    writer keep their order. A torn tail left by a crash is cut off, never returned. ``write`` is called from one
    thread at a time; ``scan`` may run anywhere at any time. A full disk raises ``Unavailable`` and leaves
    the rows written before readable. A scan may have given rows of a ``write`` that raises; they are gone from the next
    one, and it goes on behind them: an offset is never used twice.
    """

    def write(self, table: str, rows: Sequence[bytes], *, sync: bool = False) -> Place:
        """Append rows as one batch and return the place after the last of them."""
        ...

    def make_sure(self, table: str, size: int) -> None:
        """Raise ``Unavailable`` when a batch of so many bytes could not be written now; no row comes of it."""
        ...

    def scan(self, table: str, *, after: Mapping[str, int] | None = None) -> Iterator[tuple[Place, bytes]]:
        """Yield every row past the given offset of each writer (all rows of a writer that is not named)."""
        ...

    def tables(self) -> list[str]:
        """The names of the tables that hold rows, sorted."""
        ...

    def erase(self, table: str, rows: Mapping[str, Sequence[int]]) -> int:
        """Overwrite the named rows (writer → offsets as given by ``scan``) for good; how many were erased."""
        ...


class Series(Protocol):
    """Mergeable aggregates over time: count vectors and sums that add up, by name and bucket.

    Contract: ``add`` is atomic and idempotent by ``batch`` (a batch id seen before changes nothing); vectors
    under one name and bucket are added elementwise and must agree in length, else ``InputError``. Everything here
    can be rebuilt from records. Any thread.
    """

    def add(self, batch: str, cells: Mapping[tuple[str, Micros], NDArray[np.float64]]) -> bool:
        """Add vectors to ``(name, bucket start)`` cells; False when this batch was added before."""
        ...

    def read(
        self, prefix: str, *, start: Micros = 0, end: Micros = 2**62
    ) -> dict[tuple[str, Micros], NDArray[np.float64]]:
        """The cells whose name begins with ``prefix`` and whose bucket lies in ``[start, end)``."""
        ...

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        ...
