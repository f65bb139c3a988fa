"""From answers to prediction records: columns in, rows out."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.core.ids import derived_id
from trimtab.serving.answers import Answers
from trimtab.serving.record import CONSTANT, PredictionRecord, encode_record


def statuses(given: Answers) -> list[str]:
    """The status of each row: ``ok``, ``stale:<sources>`` or ``error:<kind>``."""
    if given.error:
        return [f"error:{given.error}"] * len(given.requests)
    if given.arm == CONSTANT:
        return [CONSTANT] * len(given.requests)
    usual = f"stale:{','.join(given.features.stale)}" if given.features.stale else "ok"
    finite: NDArray[np.bool_] = np.isfinite(given.outputs)
    if finite.all():
        return [usual] * len(given.requests)
    rows: list[bool] = (finite if finite.ndim == 1 else np.all(finite, axis=1)).tolist()
    return [usual if fine else "error:not_finite" for fine in rows]


def status_of(given: Answers, row: int) -> str:
    """The status of one row, as :func:`statuses` gives it."""
    if given.error:
        return f"error:{given.error}"
    if given.arm == CONSTANT:
        return CONSTANT
    if not np.isfinite(given.outputs[row]).all():
        return "error:not_finite"
    return f"stale:{','.join(given.features.stale)}" if given.features.stale else "ok"


def encode_records(given: Answers, model: str) -> list[bytes]:
    """One encoded record per row, in the order of the rows.

    Parameters
    ----------
    model
        Name of the model that answered.
    """
    return [encode_record(record) for record in _records(given, model)]


def _records(given: Answers, model: str) -> Iterator[PredictionRecord]:
    requests, features = given.requests, given.features
    names = list(requests.keys)
    columns = [values.tolist() for values in requests.keys.values()]
    keyed: list[dict[str, str | int]] = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    keys = keyed or [{}] * len(requests)
    sent = list(requests.inputs)
    given_inputs = zip(*(requests.inputs[name].tolist() for name in sent), strict=True)
    inputs = [dict(zip(sent, row, strict=True)) for row in given_inputs] or [{}] * len(requests)
    outputs: list[Any] = given.outputs.tolist()
    single = given.outputs.ndim == 1
    at = requests.at.tolist()
    values, ages = features.values.astype("<f4", copy=False), features.ages.astype("<f4", copy=False)
    watermarks: dict[str, tuple[int, int]] = dict(features.watermarks)
    timings = tuple(given.timings)
    for row, request_id, status in zip(count(), requests.ids, statuses(given), strict=False):
        yield PredictionRecord(
            request_id=request_id,
            prediction_id=derived_id(request_id, given.version, given.arm),
            asked_at=at[row],
            model=model,
            version=given.version,
            arm=given.arm,
            rollout=given.rollout,
            keys=keys[row],
            features=values[row].tobytes(),
            ages=ages[row].tobytes(),
            watermarks=watermarks,
            outputs=(outputs[row],) if single else tuple(outputs[row]),
            timings=timings,
            status=status,
            inputs=inputs[row],
            unit=given.units[row] if given.units else "",
        )
