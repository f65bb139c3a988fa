"""From answers to prediction records: columns in, rows out.

The rows are what :func:`trimtab.serving.record.encode_record` makes of a
:class:`~trimtab.serving.record.PredictionRecord`, without the last fields where they say nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.core.ports import Columns
from trimtab.serving.answers import Answers
from trimtab.serving.record import CONSTANT, PRECOMPUTED

_encode = msgspec.msgpack.Encoder().encode
_FLOAT32 = np.dtype("<f4")
_NOTHING: Mapping[str, Any] = {}
_isfinite = math.isfinite
_FEW = 64
"""Numbers up to which a sum in Python is quicker than a look at the array."""

OK = "ok"
NOT_FINITE = "error:not_finite"
"""The status of a row whose answer is NaN or infinite: the caller gets null, and it counts as a failure."""


def all_finite(outputs: NDArray[np.float64]) -> bool:
    """Whether every number is finite.

    Examples
    --------
    >>> all_finite(np.array([0.5, 1.0])), all_finite(np.array([[0.5, np.nan]]))
    (True, False)
    """
    if outputs.size <= _FEW:
        values = outputs.tolist() if outputs.ndim == 1 else outputs.ravel().tolist()
        if math.isfinite(sum(values)):
            return True
    return bool(np.isfinite(outputs).all())


def not_finite(given: Answers) -> int:
    """How many rows have the status :data:`NOT_FINITE`."""
    outputs = given.outputs
    if outputs.size == 1 and _isfinite(outputs.item()):  # the usual batch is seen to before anything else
        return 0
    return 0 if given.error or all_finite(outputs) else statuses(given).count(NOT_FINITE)


def statuses(given: Answers) -> list[str]:
    """The status of each row: ``ok``, ``stale:<sources>``, ``precomputed`` or ``error:<kind>``."""
    if given.error:
        return [f"error:{given.error}"] * len(given.requests)
    usual = usual_status(given)
    finite: NDArray[np.bool_] = np.isfinite(given.outputs)
    if finite.all():
        return [usual] * len(given.requests)
    rows: list[bool] = (finite if finite.ndim == 1 else np.all(finite, axis=1)).tolist()
    return [usual if fine else NOT_FINITE for fine in rows]


def usual_status(given: Answers) -> str:
    """The status of the rows with a finite answer."""
    if given.arm == CONSTANT:
        return CONSTANT
    if given.precomputed:
        return PRECOMPUTED
    return f"stale:{','.join(given.features.stale)}" if given.features.stale else OK


def encode_records(given: Answers, model: str) -> list[bytes]:
    """One encoded record per row, in the order of the rows.

    Parameters
    ----------
    model
        Name of the model that answered.
    """
    requests, features = given.requests, given.features
    if len(requests.ids) == 1:
        return [_encode_one(given, model)]
    version, arm, rollout, marks, times = given.version, given.arm, given.rollout, features.watermarks, given.timings
    suffix = f"\x1f{version}\x1f{arm}".encode()
    outputs = given.outputs.tolist()
    rows = zip(
        requests.ids,
        requests.at.tolist(),
        _maps(requests.keys),
        _blocks(features.values),
        _blocks(features.ages),
        outputs if given.outputs.ndim == 2 else [(value,) for value in outputs],
        _states(given, outputs),
        _maps(requests.inputs),
        strict=False,
    )
    records, ends = [], bool(given.units or given.together)
    for at_row, (name, at, keys, values, ages, said, status, inputs) in enumerate(rows):
        # The prediction's id, as `derived_id` makes it.
        own = sha256(name.encode() + suffix).hexdigest()[:20]
        record = (name, own, at, model, version, arm, rollout, keys, values, ages, marks, said, times, status, inputs)
        records.append(_encode((*record, *_ending(given, at_row)) if ends else record))
    return records


def _encode_one(given: Answers, model: str) -> bytes:
    """The same for a lone row: what it takes to walk over columns costs more than the row."""
    requests, features, version, arm = given.requests, given.features, given.version, given.arm
    (said,) = given.outputs.tolist()
    if type(said) is not list:
        said = (said,)
    name, (at,) = requests.ids[0], requests.at.tolist()
    status = usual_status(given) if not given.error and _isfinite(sum(said)) else statuses(given)[0]
    own = sha256(f"{name}\x1f{version}\x1f{arm}".encode()).hexdigest()[:20]
    record = (
        name, own, at, model, version, arm, given.rollout, _lone(requests.keys), _bytes(features.values),
        _bytes(features.ages), features.watermarks, said, given.timings, status, _lone(requests.inputs),
    )  # fmt: skip
    return _encode((*record, *_ending(given, 0)) if given.units or given.together else record)


def _ending(given: Answers, row: int) -> tuple[Any, ...]:
    """The last fields of a row, as far as they say something."""
    unit = given.units[row] if given.units else ""
    if given.together and given.together[row]:
        return unit, True
    return (unit,) if unit else ()


def _lone(columns: Columns) -> Mapping[str, Any]:
    return {name: values.tolist()[0] for name, values in columns.items()} if columns else _NOTHING


def _bytes(matrix: NDArray[np.float32]) -> bytes:
    return (matrix if matrix.dtype is _FLOAT32 else matrix.astype(_FLOAT32)).tobytes()


def _states(given: Answers, outputs: list[Any]) -> Iterable[str]:
    """The status of each row; the usual case is cheap to see."""
    if not given.error and given.outputs.ndim == 1 and math.isfinite(sum(outputs)):
        return repeat(usual_status(given))
    return statuses(given)


def _maps(columns: Columns) -> Iterable[Mapping[str, Any]]:
    """For each row a map from column names to its values; without columns, the empty one for ever."""
    if not columns:
        return repeat(_NOTHING)
    names = list(columns)
    cells = zip(*(values.tolist() for values in columns.values()), strict=True)
    return (dict(zip(names, row, strict=True)) for row in cells)


def _blocks(matrix: NDArray[np.float32]) -> Iterable[bytes]:
    """Each row of a matrix as bytes, float32 and little endian."""
    width = matrix.shape[1]
    if not width:
        return repeat(b"")
    data = _bytes(matrix)
    return [data[at : at + 4 * width] for at in range(0, len(data), 4 * width)]
