"""A dataset that cannot change any more: read-only arrays and a digest over their content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.core.ids import canonical, digest
from trimtab.datasets.splits import Split
from trimtab.errors import SchemaError
from trimtab.features.batch import RequestBatch

Compute = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Features of the requests at n positions, as known when each was asked: float32, shape (n, features)."""


@dataclass(frozen=True)
class Dataset:
    """Labelled rows, frozen.

    Attributes
    ----------
    X
        float32, shape (n, features), read-only.
    y
        float64, shape (n,), read-only.
    at
        int64 microseconds, shape (n,), ascending: when each row was asked.
    names
        Feature names, the columns of ``X``.
    ids_digest
        SHA-256 over the request ids in row order. The ids themselves are not kept.

    Examples
    --------
    >>> one = freeze(np.ones((1, 1)), np.array([1.0]), np.array([7]), names=["f"], ids=["r1"])
    >>> one.digest == freeze(np.ones((1, 1)), np.array([1.0]), np.array([7]), names=["f"], ids=["r1"]).digest
    True
    """

    X: NDArray[np.float32]
    y: NDArray[np.float64]
    at: NDArray[np.int64]
    names: tuple[str, ...]
    ids_digest: str

    def __len__(self) -> int:
        return len(self.y)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over names, ids, and the bytes of ``X``, ``y`` and ``at`` (little endian, every NaN alike)."""
        content = hashlib.sha256(canonical([list(self.names), self.ids_digest, list(self.X.shape)]))
        for array, kind in ((self.X, "<f4"), (self.y, "<f8"), (self.at, "<i8")):
            content.update(_plain(array, kind))
        return content.hexdigest()


def _plain(array: NDArray[np.generic], kind: str) -> bytes | memoryview:
    plain = np.ascontiguousarray(array, dtype=kind)
    if plain.dtype.kind == "f":
        # A missing value has many bit patterns; which one depends on how it was computed.
        missing = np.isnan(plain)
        if missing.any():
            plain = np.where(missing, np.array(np.nan, kind), plain)
    return plain.data.cast("B") if plain.size else b""


def freeze(
    values: NDArray[np.floating],
    y: NDArray[np.floating],
    at: NDArray[np.integer],
    *,
    names: Sequence[str],
    ids: Sequence[str],
) -> Dataset:
    """Make a dataset of arrays: checked, cast and made read-only.

    Raises
    ------
    SchemaError
        When shapes do not fit together, or times do not ascend.
    """
    if values.ndim != 2 or values.shape != (len(y), len(names)) or not (len(y) == len(at) == len(ids)):
        raise SchemaError(
            "the parts of a dataset do not fit together",
            got=f"values {values.shape}, y {len(y)}, at {len(at)}, names {len(names)}, ids {len(ids)}",
            hint="values need one row per label and one column per name",
        )
    if np.any(np.diff(at) < 0):
        raise SchemaError("the rows of a dataset are not ordered by time of asking", hint="sort them by it, stably")
    # Views, so that freezing neither copies the matrix nor locks the caller's own arrays.
    frozen = (np.asarray(values, np.float32).view(), np.asarray(y, np.float64).view(), np.asarray(at, np.int64).view())
    for array in frozen:
        array.flags.writeable = False
    return Dataset(*frozen, tuple(names), digest([str(one) for one in ids]))


@dataclass(frozen=True)
class FrozenSplit:
    """The two parts of a training run, frozen."""

    train: Dataset
    holdout: Dataset
    trained_until: Micros
    cutoff: Micros

    @cached_property
    def digest(self) -> str:
        """Of what was learned from *and* what it was judged on: the dataset that a version names."""
        return digest([self.train.digest, self.holdout.digest, self.trained_until, self.cutoff])


def freeze_split(requests: RequestBatch, split: Split, *, names: Sequence[str], compute: Compute) -> FrozenSplit:
    """Compute the features of a split and freeze both parts.

    Parameters
    ----------
    requests
        The batch that the split's positions refer to.
    names
        Feature names, in the column order of ``compute``.
    compute
        Features as known when each request was asked; called once, for both parts together.
    """
    rows = np.concatenate([split.train, split.holdout])
    values = compute(rows)
    asked, ids = np.asarray(requests.at)[rows], requests.ids
    chosen = [ids[row] for row in rows.tolist()]
    if values.shape != (len(rows), len(names)):
        raise SchemaError(
            "the features have the wrong shape", got=repr(values.shape), hint=f"expected {(len(rows), len(names))}"
        )
    edge = len(split.train)
    parts = [
        freeze(values[part], y, asked[part], names=names, ids=chosen[part])
        for part, y in ((slice(0, edge), split.train_y), (slice(edge, None), split.holdout_y))
    ]
    return FrozenSplit(parts[0], parts[1], split.trained_until, split.cutoff)
