"""Which output of an estimator is which outcome of its task: by number, or by the text that it was fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import InputError
from trimtab.training.task import Task

Order = tuple[int, ...]
"""Where the outcomes of the task stand among the classes of the estimator; of a binary one where the other one stands,
and then the positive one."""


def order_of(estimator: Any, task: Task) -> Order | None:
    """The order that its outputs have to be brought in; None where they are in that of the task.

    Classes that are numbers are the positions in the task. Classes that are text are its ``classes``, or hold its
    ``positive``.

    Raises
    ------
    InputError
        When they are neither, or a classifier stands for a regression.
    """
    classes = getattr(estimator, "classes_", None)
    if classes is None or len(classes) == 0:  # CatBoost's regressors have an empty list
        return None
    if task.kind == "regression":
        raise InputError("the estimator of a regression task is a classifier", got=type(estimator).__name__)
    found = _named(list(classes), task)
    if found is None and _numbers(classes) != [float(place) for place in range(max(2, task.outputs))]:
        raise _refused(classes, task)
    return None if found == tuple(range(len(classes))) else found


def in_order(said: NDArray[np.float64], order: Order | None) -> NDArray[np.float64]:
    """Probabilities of shape (n,), or (n, k), as the task has them."""
    if order is None:
        return said
    return 1.0 - said if said.ndim == 1 else said[:, list(order)]


def bring_in_order(data: bytes, order: Order | None) -> bytes:
    """The same of an ONNX file with output ``output``; equal files give equal bytes."""
    if order is None:
        return data
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_model_from_string(data)
    for node in model.graph.node:
        node.output[:] = ["as_fitted" if name == "output" else name for name in node.output]
    if model.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 1:
        constant = helper.make_tensor("certain", TensorProto.FLOAT, [1], [1.0])
        node = helper.make_node("Sub", ["certain", "as_fitted"], ["output"], name="positive_class_of_text")
    else:
        constant = helper.make_tensor("order_of_classes", TensorProto.INT64, [len(order)], list(order))
        node = helper.make_node("Gather", ["as_fitted", "order_of_classes"], ["output"], name="in_order", axis=1)
    model.graph.initializer.append(constant)
    model.graph.node.append(node)
    ordered: bytes = model.SerializeToString(deterministic=True)
    return ordered


def _named(classes: list[Any], task: Task) -> Order | None:
    """The order of classes that are text, where it is the text of the task."""
    if not all(isinstance(one, str) for one in classes):
        return None
    if task.kind == "binary":
        at = classes.index(task.target) if len(classes) == 2 and task.target in classes else -1
        return None if at < 0 else (1 - at, at)
    return tuple(map(classes.index, task.names)) if sorted(classes) == sorted(task.names) else None


def _numbers(classes: Any) -> list[float] | None:
    try:
        return [float(one) for one in classes]
    except (TypeError, ValueError):  # text, or the classes of several labels at once
        return None


def _refused(classes: Any, task: Task) -> InputError:
    text = all(isinstance(one, str) for one in classes)
    if task.kind == "binary":
        what = "the estimator of a binary task has other classes than 0 and 1"
        if text and len(classes) == 2:
            what += f", and {task.target!r} is none of them"
            hint = f"say which one is asked for, as in binary(positive={str(classes[-1])!r}), or fit it on 0 and 1"
        else:
            hint = "fit it on data.y as it is"
    else:
        what = "the estimator has not seen every class of the task"
        hint = f"fit it on data.y as it is, with rows of every class of {', '.join(task.names)}"
    return InputError(what, got=", ".join(map(str, classes))[:200], hint=hint)
