"""What training does with stages: prepares the rows that are fitted, and refuses code that would skew serving."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.datasets.frozen import Dataset, FrozenSplit
from trimtab.errors import ProjectError
from trimtab.training.export import TOLERANCE, relative_difference
from trimtab.training.stages import Stages, Values, finished, prepared
from trimtab.training.task import Task

_ALONE = 64
"""Rows that are asked one by one, to see that a stage looks at no other row."""


def prepared_split(stages: Stages, data: FrozenSplit) -> FrozenSplit:
    """The rows that an estimator is fitted and its export is compared on; the same object when nothing runs before.

    The columns keep their names when ``preprocess`` gives as many as it takes, else they are ``prepared_0`` and so on.

    Raises
    ------
    ProjectError
        When ``preprocess`` gives no matrix of as many rows, or looks at more than one row at a time.
    """
    if stages.before is None:
        return data
    _check_alone("preprocess", lambda rows: prepared(stages.before, rows), _some(data))
    train = _prepared_part(stages, data.train)
    return FrozenSplit(train, _prepared_part(stages, data.holdout, like=train), data.trained_until, data.cutoff)


def _prepared_part(stages: Stages, part: Dataset, *, like: Dataset | None = None) -> Dataset:
    values = prepared(stages.before, part.X) if len(part) or like is None else like.X[:0]
    if values.ndim != 2 or len(values) != len(part) or not values.shape[1]:
        raise ProjectError(
            "preprocess does not give a row of columns for each row",
            got=f"shape {values.shape} for {part.X.shape}",
            hint="return a matrix of shape (n, columns)",
        )
    values = values.view()
    values.flags.writeable = False
    width = values.shape[1]
    names = part.names if width == part.X.shape[1] else tuple(f"prepared_{place}" for place in range(width))
    return Dataset(values, part.y, part.at, names, part.ids_digest)


def check_after(stages: Stages, run: Callable[[Values], Values], data: FrozenSplit, *, task: Task) -> None:
    """Make sure that ``postprocess`` makes answers of the task of what the model says, each row for itself.

    Parameters
    ----------
    run
        The model: from prepared rows to outputs of shape (n, k).

    Raises
    ------
    ProjectError
        When it gives another number of outputs than the task has, or looks at more than one row at a time.
    """
    if stages.after is None:
        return
    outputs = run(prepared(stages.before, _some(data)))
    said = finished(stages.after, outputs)
    wanted = (len(outputs),) if task.outputs == 1 else (len(outputs), task.outputs)
    if said.shape != wanted:
        raise ProjectError(
            "postprocess gives another number of outputs than the task has",
            got=f"shape {said.shape} for {len(outputs)} rows",
            hint=f"return an array of shape {wanted}, for the (n, {task.outputs}) it gets",
        )
    _check_alone("postprocess", lambda rows: finished(stages.after, rows), outputs)


def check_probabilities(stages: Stages, said: NDArray[np.float64], task: Task) -> None:
    """Make sure that what ``postprocess`` makes are probabilities, where the task has them.

    Raises
    ------
    ProjectError
        When one is below 0 or above 1, or those of a row do not add up to 1.
    """
    numbers = said[np.isfinite(said)]
    if stages.after is None or task.kind == "regression" or not len(numbers):
        return
    low, high = float(numbers.min()), float(numbers.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ProjectError(
            "postprocess gives no probabilities", got=f"{low:.3g} to {high:.3g}", hint="keep them between 0 and 1"
        )
    if said.ndim == 2:
        sums = said.sum(axis=1)
        wrong = sums[np.isfinite(sums) & (np.abs(sums - 1) > 1e-3)]
        if len(wrong):
            raise ProjectError(
                "postprocess gives class probabilities that do not add up to 1",
                got=f"{float(wrong[0]):.4g}",
                hint="divide each row by its sum",
            )


def _some(data: FrozenSplit) -> Values:
    """Rows that the checks look at, from the whole of the training part."""
    part = data.train
    picked = np.linspace(0, len(part) - 1, num=min(_ALONE, len(part))).astype(np.int64)
    return part.X[picked]


def _check_alone(stage: str, run: Callable[[Values], NDArray[Any]], rows: Values) -> None:
    """Whether each row gets by itself what it gets among others."""
    together = np.asarray(run(rows), np.float64)
    if len(together) != len(rows):
        raise ProjectError(
            f"{stage} gives another number of rows",
            got=f"{len(together)} for {len(rows)}",
            hint="return one row for each",
        )
    alone = np.concatenate([np.asarray(run(rows[place : place + 1]), np.float64) for place in range(len(rows))])
    if alone.shape != together.shape or (relative_difference(together, alone) > TOLERANCE).any():
        raise ProjectError(
            f"{stage} says something else of a row when other rows are beside it",
            got=f"rows differ when asked one by one, of {len(rows)}",
            hint="use numbers that are written into the module, not a mean or a range of the rows it is given",
        )
