"""Columns of a table as the matrix that a model takes, and whether every value of it can be believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1024


def believed(values: NDArray[np.float32], may_lack: NDArray[np.bool_] | None) -> bool:
    """Whether every value is finite, or missing where it may be."""
    with np.errstate(over="ignore", invalid="ignore"):
        # One look at the sum is cheaper than at every value, and no sum is finite when a value is not.
        if np.isfinite(values.sum()):
            return True
    odd = ~np.isfinite(values).all(axis=0)
    return bool((may_lack is not None and not (odd & ~may_lack).any()) and not np.isinf(values[:, odd]).any())


def side_by_side(columns: Sequence[NDArray[np.float32]], rows: int) -> NDArray[np.float32]:
    """Columns as a matrix, shape (n, columns); turned a block at a time, which stays in the cache of a core."""
    values = np.empty((rows, len(columns)), np.float32)
    block = np.empty((len(columns), min(rows, _BLOCK)), np.float32)
    for start in range(0, rows, _BLOCK):
        stop = min(start + _BLOCK, rows)
        for place, column in enumerate(columns):
            block[place, : stop - start] = column[start:stop]
        values[start:stop] = block[:, : stop - start].T
    return values
