"""The key under which an answer may be kept: the version, and exactly what was asked.

Two requests share a key only when the same version is asked with the same entity keys and the same inputs, value for
value and type for type. The time of asking and the request id are no part of it: whoever keeps an answer says how long
it is good for. A prediction cache and answers computed ahead (:class:`trimtab.serving.ports.Precomputed`) use the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.features.batch import RequestBatch

KEY_BYTES = 16
"""128 bits of BLAKE2b: two of a thousand million keys agree by chance with a probability below 1e-20."""

_encode = msgspec.msgpack.Encoder().encode


def row_key(version: str, batch: RequestBatch, row: int) -> bytes:
    """The key of one row of a batch; 2 to 4 µs.

    Columns are taken in the order in which the batch has them, which is that of the plan's request shape on every path.
    A missing number is one value, whatever its NaN; 0.0 and -0.0 are two.

    Examples
    --------
    >>> one = RequestBatch(["r1"], np.array([7]), {"shop": np.array(["a"])}, {"basket": np.array([3.0])})
    >>> same = RequestBatch(["r2"], np.array([9]), {"shop": np.array(["a"])}, {"basket": np.array([3.0])})
    >>> row_key("v", one, 0) == row_key("v", same, 0) != row_key("w", one, 0)
    True
    """
    values = [column[row].item() for column in (*batch.keys.values(), *batch.inputs.values())]
    return _key(version.encode(), values)


def row_keys(version: str, batch: RequestBatch) -> list[bytes]:
    """The keys of all rows of a batch, as :func:`row_key` gives them."""
    columns = [column.tolist() for column in (*batch.keys.values(), *batch.inputs.values())]
    if not columns:
        return [_key(version.encode(), [])] * len(batch)
    named = version.encode()
    return [_key(named, row) for row in zip(*columns, strict=True)]


def values_key(version: str, values: NDArray[np.float32]) -> bytes:
    """The key of one row of a tensor request: the version and the bits of the model's inputs, shape (features,).

    Examples
    --------
    >>> len(values_key("v", np.zeros(3, np.float32)))
    16
    """
    plain = np.ascontiguousarray(values, dtype="<f4")
    return hashlib.blake2b(b"\x01" + version.encode() + plain.tobytes(), digest_size=KEY_BYTES).digest()


def _key(version: bytes, values: Sequence[Any]) -> bytes:
    exact = [None if value != value else value for value in values]  # noqa: PLR0124 - only NaN is unlike itself
    return hashlib.blake2b(b"\x00" + version + _encode(exact), digest_size=KEY_BYTES).digest()
