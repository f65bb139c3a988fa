"""From the columns of a label to the numbers that a model learns from and is judged by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trimtab.core.ports import Columns
from trimtab.training.task import Label, Task


def label_values(task: Task, label: Label, columns: Columns) -> NDArray[np.float64]:
    """The labels of n rows, float64.

    Shape (n,): 0/1, a number, or the position of the class; a text that is no class is NaN, which is no label.
    Shape (n, k) for a regression of k numbers; a row that lacks one of them is NaN in all.

    Examples
    --------
    >>> from trimtab.training.task import multiclass
    >>> label = Label(None, "paid", "id", 1)
    >>> label_values(multiclass(classes=["cash", "card"]), label, {"paid": np.array(["card", "gold", "cash"])})
    array([ 1., nan,  0.])
    """
    if task.kind == "multiclass":
        return _positions(task.names, columns[label.column])
    if len(label.columns) == 1:
        return columns[label.column].astype(np.float64)
    found = np.stack([columns[name].astype(np.float64) for name in label.columns], axis=1)
    found[np.isnan(found).any(axis=1)] = np.nan
    return found


def _positions(classes: tuple[str, ...], values: NDArray[np.generic]) -> NDArray[np.float64]:
    if values.dtype.kind != "U":
        found = values.astype(np.float64)
        found[~np.isin(found, np.arange(len(classes)))] = np.nan
        return found
    order = np.argsort(np.array(classes))
    sorted_classes = np.array(classes)[order]
    place = np.minimum(np.searchsorted(sorted_classes, values), len(classes) - 1)
    return np.where(sorted_classes[place] == values, order[place].astype(np.float64), np.nan)
