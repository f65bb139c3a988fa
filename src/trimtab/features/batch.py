"""What a feature read returns, on both paths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.core.ports import Columns


class Watermark(NamedTuple):
    """How far a source had been applied: rows with position below ``seq``, the last known at ``known``."""

    seq: int
    known: Micros


class RequestBatch(msgspec.Struct, frozen=True, eq=False):
    """Requests that are answered together: n of them, all asked at or after every delivered event.

    ``keys`` and ``inputs`` are arrays of shape (n,), by name, as the request shape of the plan declares them.
    """

    ids: Sequence[str]
    at: NDArray[np.int64]
    """Time of asking in microseconds, shape (n,)."""
    keys: Columns
    inputs: Columns

    def __len__(self) -> int:
        return len(self.ids)


class FeatureBatch(msgspec.Struct, frozen=True, eq=False):
    """Feature values for n requests, and what they were made of."""

    values: NDArray[np.float32]
    """Shape (n, features), columns in plan order; NaN where a value is missing or past its TTL."""
    ages: NDArray[np.float32]
    """Shape (n, sources): seconds from each source's watermark to the time of asking, sources sorted by name."""
    watermarks: dict[str, Watermark]
    """By source; one per batch, because a batch reads one snapshot."""
    stale: tuple[str, ...]
    """Sources whose watermark is older than the freshness the plan expects."""
