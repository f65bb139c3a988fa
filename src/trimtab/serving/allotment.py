"""What stays with one arm of a split, and the answer that no model gives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from trimtab.core.ports import Columns
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.registry.manifest import Tensor
from trimtab.serving.answers import Answers
from trimtab.serving.record import CONSTANT, STAGES
from trimtab.serving.routing import Route

REQUEST_ID = "request"
"""The unit of an A/B test in which every request stands for itself."""


def units_of(
    route: Route, batch: RequestBatch, units: Sequence[str] | None, rows: Sequence[int] | None = None
) -> Sequence[str]:
    """What stays with one arm, per row: what the caller says, else the field that the route names, else the request id.

    A caller who says the request id has said nothing: it is the unit of who does not care.

    Examples
    --------
    >>> batch = RequestBatch(["r1", "r2"], np.zeros(2, np.int64), {"user": np.array(["ann", "bob"])}, {})
    >>> units_of(Route("m", (), unit="user"), batch, ["", "carl"])
    ['ann', 'carl']
    """
    ids = batch.ids
    if rows is None and not route.unit:
        return ids if units is None else units
    wanted = range(len(ids)) if rows is None else rows
    column = None
    if route.unit not in ("", REQUEST_ID):
        column = batch.keys.get(route.unit)
        column = batch.inputs.get(route.unit) if column is None else column
    if column is None:
        return [ids[row] if units is None else units[row] or ids[row] for row in wanted]
    said = [""] * len(ids) if units is None else units
    return [said[row] if said[row] not in ("", ids[row]) else str(column[row]) for row in wanted]


def drawn_together(route: Route, batch: RequestBatch, units: Sequence[str] | None) -> Sequence[str] | None:
    """Per row what drew its arm where that is not its own id, else ""; empty where it is so of none, None without arms
    to draw from.

    Examples
    --------
    >>> batch = RequestBatch(["r/0", "r/1"], np.zeros(2, np.int64), {}, {})
    >>> from trimtab.serving.routing import Arm
    >>> halves = Route("m", (Arm("champion", "a", 0.5), Arm("canary", "b", 0.5)))
    >>> drawn_together(halves, batch, ["r/0", "r/0"]), drawn_together(halves, batch, ["r/0", "r/1"])
    (['', 'r/0'], ())
    """
    if sum(arm.share > 0 for arm in route.arms) < 2:
        return None
    if units is None or units is batch.ids:
        return ()
    found = ["" if unit == name else unit for unit, name in zip(units, batch.ids, strict=True)]
    return found if any(found) else ()


def with_units(answers: Answers, shared: Sequence[str] | None, batch: RequestBatch, rows: Sequence[int]) -> Answers:
    """Answers to some rows of a batch that say what drew their arm, as :func:`drawn_together` found it.

    Rows that were drawn each by itself, but fail as one, are one event: their unit is the first of the batch, in both
    arms. Where both fail, whoever counts takes it for the champion's, which is told of first. So the canary has it with
    the chance of its share if one row is at fault, and with a smaller one if several are.
    """
    if shared is None:
        return answers
    if shared:
        units = [shared[row] for row in rows]
    elif answers.error and len(batch) > 1:
        units = [batch.ids[0]] * len(rows)
    else:
        return answers
    return replace(answers, units=units, together=[unit != "" for unit in units])


def constant_answers(batch: RequestBatch, model: str, constant: Sequence[float], outputs: Sequence[Tensor]) -> Answers:
    """The answers of the kill switch: no features are read, and no version has said anything.

    Parameters
    ----------
    constant
        One number for every output, or one for each.
    outputs
        Of the model whose place it takes.

    Examples
    --------
    >>> batch = RequestBatch(["r1"], np.zeros(1, np.int64), {}, {})
    >>> constant_answers(batch, "m", [0.2], [Tensor("p", "float32", (-1, 1))]).outputs
    array([0.2])
    """
    n, width = len(batch), sum(math.prod(tensor.shape[1:]) for tensor in outputs)
    values = np.resize(np.asarray(constant, dtype=np.float64), width)
    said = np.full(n, values[0]) if width == 1 else np.tile(values, (n, 1))
    nothing = np.empty((n, 0), dtype=np.float32)
    features = FeatureBatch(nothing, nothing, {}, ())
    return Answers(batch, features, CONSTANT, CONSTANT, "", said, (0,) * len(STAGES), model=model)


def failed_answers(batch: RequestBatch, version: str, *, arm: str, rollout: str, error: str) -> Answers:
    """The answers of a version that could not answer, and why."""
    rows = len(batch)
    nothing = np.empty((rows, 0), dtype=np.float32)
    outputs = np.full(rows, np.nan)
    return Answers(batch, FeatureBatch(nothing, nothing, {}, ()), version, arm, rollout, outputs, (0,) * 6, error)


def rows_of(batch: RequestBatch, rows: Sequence[int]) -> RequestBatch:
    """Some rows of a batch."""

    def take(columns: Columns) -> Columns:
        return {name: values[rows] for name, values in columns.items()}

    return RequestBatch([batch.ids[row] for row in rows], batch.at[rows], take(batch.keys), take(batch.inputs))


def features_of(features: FeatureBatch, rows: Sequence[int]) -> FeatureBatch:
    """The features of some rows."""
    return FeatureBatch(features.values[rows], features.ages[rows], features.watermarks, features.stale)
