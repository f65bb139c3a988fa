"""From answers to prediction records: columns in, rows out.

What a batch has in common is encoded once. The rows are what :func:`trimtab.serving.record.encode_record` makes of a
:class:`~trimtab.serving.record.PredictionRecord`, without the unit where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha256
from itertools import repeat

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.core.ports import Columns
from trimtab.serving.answers import Answers
from trimtab.serving.record import CONSTANT, PRECOMPUTED

_encode = msgspec.msgpack.Encoder().encode
_FIFTEEN = b"\x9f"
"""A MessagePack array of fifteen: the fields of a record, without a unit."""
_SIXTEEN = b"\xdc\x00\x10"
"""One of sixteen: with it."""
_ONE_FLOAT = b"\x91\xcb"
"""An array of one float64, which follows."""
_TWENTY = b"\xb4"
"""A text of twenty bytes, which follow."""
_NOTHING = b"\x80"
"""An empty map."""
_NO_BYTES = _encode(b"")


def statuses(given: Answers) -> list[str]:
    """The status of each row: ``ok``, ``stale:<sources>``, ``precomputed`` or ``error:<kind>``."""
    if given.error:
        return [f"error:{given.error}"] * len(given.requests)
    usual = usual_status(given)
    finite: NDArray[np.bool_] = np.isfinite(given.outputs)
    if finite.all():
        return [usual] * len(given.requests)
    rows: list[bool] = (finite if finite.ndim == 1 else np.all(finite, axis=1)).tolist()
    return [usual if fine else "error:not_finite" for fine in rows]


def usual_status(given: Answers) -> str:
    """The status of the rows with a finite answer."""
    if given.arm == CONSTANT:
        return CONSTANT
    if given.precomputed:
        return PRECOMPUTED
    return f"stale:{','.join(given.features.stale)}" if given.features.stale else "ok"


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
    outputs = given.outputs.tolist()
    if not given.error and given.outputs.ndim == 1 and math.isfinite(sum(outputs)):  # the usual case, and cheap to see
        states: Iterable[bytes] = repeat(_encode(usual_status(given)))
    else:
        states = map(_encode, statuses(given))
    rows = zip(
        requests.ids,
        _times(requests.at.tolist()),
        _maps(requests.keys),
        _blocks(features.values),
        _blocks(features.ages),
        _outputs(given.outputs) if given.outputs.ndim == 1 else map(_encode, outputs),
        states,
        _maps(requests.inputs),
        map(_encode, given.units) if given.units else repeat(b""),
        strict=False,
    )
    head = _SIXTEEN if given.units else _FIFTEEN
    records = []
    for name, at, keys, values, ages, said, status, inputs, unit in rows:
        # The prediction's id, as `derived_id` makes it.
        own = sha256(name.encode() + suffix).hexdigest()[:20].encode()
        parts = (
            head,
            _encode(name),
            _TWENTY,
            own,
            at,
            route,
            keys,
            values,
            ages,
            marks,
            said,
            times,
            status,
            inputs,
            unit,
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


def _times(at: list[int]) -> Iterator[bytes]:
    """The times of asking; requests that came over the wire share the one of their batch."""
    if at and at[0] == at[-1] and at.count(at[0]) == len(at):
        return repeat(_encode(at[0]))
    return map(_encode, at)


def _blocks(matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """Each row of a matrix as bytes, float32 and little endian."""
    size = 4 * matrix.shape[1]
    if not size:
        return repeat(_NO_BYTES)
    head = _bytes_head(size)
    data = matrix.astype("<f4", copy=False).tobytes()
    return (head + data[at : at + size] for at in range(0, len(data), size))


@lru_cache(maxsize=64)
def _bytes_head(size: int) -> bytes:
    """What stands before so many bytes."""
    return _encode(bytes(size))[:-size]


def _outputs(outputs: NDArray[np.float64]) -> Iterator[bytes]:
    """One number for each row."""
    data = outputs.astype(">f8").tobytes()
    return (_ONE_FLOAT + data[at : at + 8] for at in range(0, len(data), 8))
