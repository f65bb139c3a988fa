"""From answers to prediction records: columns in, rows out.

What a batch has in common is encoded once. The rows are, byte for byte, what
:func:`trimtab.serving.record.encode_record` makes of a :class:`~trimtab.serving.record.PredictionRecord`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha256
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.core.ports import Columns
from trimtab.serving.answers import Answers

_encode = msgspec.msgpack.Encoder().encode
_FIFTEEN = b"\x9f"
"""A MessagePack array of fifteen: the fields of a record."""
_ONE_FLOAT = b"\x91\xcb"
"""An array of one float64, which follows."""
_TWENTY = b"\xb4"
"""A text of twenty bytes, which follow."""
_NOTHING = b"\x80"
"""An empty map."""


def statuses(given: Answers) -> list[str]:
    """The status of each row: ``ok``, ``stale:<sources>`` or ``error:<kind>``."""
    if given.error:
        return [f"error:{given.error}"] * len(given.requests)
    usual = f"stale:{','.join(given.features.stale)}" if given.features.stale else "ok"
    finite: NDArray[np.bool_] = np.isfinite(given.outputs)
    if finite.all():
        return [usual] * len(given.requests)
    rows: list[bool] = (finite if finite.ndim == 1 else np.all(finite, axis=1)).tolist()
    return [usual if fine else "error:not_finite" for fine in rows]


def encode_records(given: Answers, model: str) -> list[bytes]:
    """One encoded record per row, in the order of the rows.

    Parameters
    ----------
    model
        Name of the model that answered.
    """
    requests, features = given.requests, given.features
    route = b"".join(map(_encode, (model, given.version, given.arm, given.rollout)))
    marks = _encode(features.watermarks)
    times = _encode(tuple(given.timings))
    suffix = f"\x1f{given.version}\x1f{given.arm}".encode()
    found = statuses(given)
    states: Iterable[bytes] = (
        repeat(_encode(found[0])) if found and found.count(found[0]) == len(found) else map(_encode, found)
    )
    rows = zip(
        requests.ids,
        map(_encode, requests.at.tolist()),
        _maps(requests.keys),
        _blocks(features.values),
        _blocks(features.ages),
        _outputs(given.outputs),
        states,
        _maps(requests.inputs),
        strict=False,
    )
    records = []
    for name, at, keys, values, ages, outputs, status, inputs in rows:
        # The prediction's id, as `derived_id` makes it.
        own = sha256(name.encode() + suffix).hexdigest()[:20].encode()
        parts = (
            _FIFTEEN,
            _encode(name),
            _TWENTY,
            own,
            at,
            route,
            keys,
            values,
            ages,
            marks,
            outputs,
            times,
            status,
            inputs,
        )
        records.append(b"".join(parts))
    return records


def _maps(columns: Columns) -> Iterator[bytes]:
    """For each row a map from column names to its values; without columns, the empty one for ever."""
    if not columns:
        return repeat(_NOTHING)
    names = list(columns)
    cells = zip(*(values.tolist() for values in columns.values()), strict=True)
    return (_encode(dict(zip(names, row, strict=True))) for row in cells)


def _blocks(matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """Each row of a matrix as bytes, float32 and little endian."""
    size = 4 * matrix.shape[1]
    if not size:
        return repeat(_encode(b""))
    head = _encode(bytes(size))[:-size]
    data = matrix.astype("<f4", copy=False).tobytes()
    return (head + data[at : at + size] for at in range(0, len(data), size))


def _outputs(outputs: NDArray[np.float64]) -> Iterator[bytes]:
    if outputs.ndim == 1:
        data = outputs.astype(">f8").tobytes()
        return (_ONE_FLOAT + data[at : at + 8] for at in range(0, len(data), 8))
    rows: list[Any] = outputs.tolist()
    return map(_encode, rows)
