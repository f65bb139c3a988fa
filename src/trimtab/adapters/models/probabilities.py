"""Whether what a model says are probabilities, where its task says that they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import InputError
from trimtab.training.export import TOLERANCE
from trimtab.training.task import Task

_SUM_TOLERANCE = 1e-3
_HINT = "end the net with Sigmoid or Softmax(dim=1)"


def check_probabilities(said: NDArray[Any], task: Task, *, rows: str = "", hint: str = _HINT) -> None:
    """Refuse answers of a binary or multiclass task that are no probabilities; what is not finite is passed over.

    Parameters
    ----------
    said
        Shape (n,), (n, 1) or (n, classes).
    rows
        Which rows were asked, for the message, as in ``300 generated rows``.
    hint
        What to do about answers outside of 0 and 1.

    Raises
    ------
    InputError
        When one is below 0 or above 1, or those of a row do not add up to 1.

    Examples
    --------
    >>> from trimtab.training.task import binary
    >>> check_probabilities(np.array([0.2, 1.0]), binary(positive="late"))
    """
    if task.kind == "regression":
        return
    on = f" on {rows}" if rows else ""
    numbers = said[np.isfinite(said)]
    if len(numbers) and not (numbers.min() >= -TOLERANCE and numbers.max() <= 1 + TOLERANCE):
        raise InputError(
            f"the model of a {task.kind} task gives no probabilities",
            got=f"{numbers.min():.3g} to {numbers.max():.3g}{on}",
            hint=hint,
        )
    if said.ndim == 1 or said.shape[1] == 1:
        return
    sums = said.sum(axis=1)
    wrong = sums[np.isfinite(sums) & ~np.isclose(sums, 1.0, atol=_SUM_TOLERANCE)]
    if len(wrong):
        raise InputError(
            "the class probabilities of a row do not add up to 1",
            got=f"{float(wrong[0]):.4g}{on}",
            hint="use a softmax, not one sigmoid for each class",
        )
