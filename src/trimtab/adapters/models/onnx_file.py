"""Whether an ONNX file from elsewhere can answer rows of columns, and answers what its task says; before it is kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.onnx_runtime import OnnxModel, first_line, runtime_errors
from trimtab.adapters.models.probabilities import check_probabilities
from trimtab.errors import InputError, ModelFailed
from trimtab.training.task import Task

Rows = NDArray[np.float32]
_GENERATED, _SEED = 300, 0
_ELSEWHERE = re.compile(rb"\x0a\x08location\x12(.)", re.DOTALL)
"""An entry of a tensor whose values lie in another file: key (field 1, 8 bytes), and the length of the file's name."""


def check_whole(data: bytes) -> None:
    """Refuse a file whose weights lie beside it: they would not travel with the version.

    Raises
    ------
    InputError
        When they do.
    """
    found = _ELSEWHERE.search(data)
    if found is not None:
        start = found.end()
        raise InputError(
            "the weights of this ONNX model lie in another file",
            got=repr(data[start : start + found[1][0]].decode(errors="replace")),
            hint='save it as one file: onnx.save_model(onnx.load("model.onnx"), "one.onnx", '
            "save_as_external_data=False)",
        )


def check_columns(
    data: bytes,
    task: Task,
    *,
    columns: int,
    rows: Rows | None,
    before: Callable[[Any], Any],
    after: Callable[[Any], Any],
) -> None:
    """Run a file on rows of its columns, and refuse it where the answers are not those of its task.

    Parameters
    ----------
    rows
        Real rows, shape (n, columns). Without any, a row of zeros and 300 generated ones of very different sizes, the
        same at every call; where the model cannot take those, zeros alone.
    before, after
        What runs around the model; the answers are judged after it.

    Raises
    ------
    InputError
        When it cannot be run on such rows, gives another number of outputs, or no probabilities where they are due.
    ModelFailed
        When the code around it fails.
    """
    check_whole(data)
    # A regression is given everything that the file says: of two numbers, none may be dropped unseen.
    runtime = OnnxModel(data, outputs=2 if task.kind == "regression" else task.outputs)
    try:
        _check_signature(runtime, task)

        def answered(sent: Rows) -> NDArray[Any]:
            said = np.asarray(after(_run(runtime, before(sent), columns=columns)))

            return _counted(said, len(sent), task)

        said, which = _on_generated(answered, columns) if rows is None else _on_given(answered, rows, columns)
    finally:
        runtime.close()
    check_probabilities(
        said,
        task,
        rows=which,
        hint="end the net with a sigmoid or a softmax, or register it with --task regression; where real rows have "
        "other sizes, register_model(rows=…) checks it on them",
    )


def _on_given(answered: Callable[[Rows], NDArray[Any]], rows: Rows, columns: int) -> tuple[NDArray[Any], str]:
    sent = np.ascontiguousarray(rows, np.float32)
    if sent.ndim != 2 or sent.shape[1] != columns or not len(sent):
        raise InputError("the rows do not fit the columns", got=f"shape {sent.shape}", hint=f"shape (n, {columns})")
    return answered(sent), f"{len(sent)} given rows"


def _on_generated(answered: Callable[[Rows], NDArray[Any]], columns: int) -> tuple[NDArray[Any], str]:
    zeros = np.zeros((2, columns), np.float32)
    said = answered(zeros)
    try:
        return answered(_generated(columns)), f"{_GENERATED} generated rows"
    except (InputError, ModelFailed):  # as where a column is a place in a table, and no place is negative
        return said, "rows of zeros"


def _generated(columns: int) -> Rows:
    """Rows of every size from a tenth to a million: it is not known in which unit the columns are."""
    random = np.random.default_rng(_SEED)
    rows = random.normal(size=(_GENERATED, columns)) * 10 ** random.uniform(-1, 6, size=(_GENERATED, 1))
    rows[0] = 0
    return np.ascontiguousarray(rows, np.float32)


def _run(runtime: OnnxModel, sent: Any, *, columns: int) -> Rows:
    values = np.ascontiguousarray(sent, np.float32)
    if values.ndim != 2 or runtime.features not in (None, values.shape[1]):
        raise InputError(
            "the ONNX model takes another number of columns",
            got=str(runtime.features),
            hint=f"{columns} feature names were given",
        )
    try:
        return runtime.run(values)
    except InputError:  # a ValueError too
        raise
    except runtime_errors() as error:
        raise InputError(
            "ONNX Runtime cannot run the model on rows of its columns",
            got=first_line(error),
            hint=f"it must take a float32 matrix of shape (n, {values.shape[1]}) for any n",
        ) from None


def _check_signature(runtime: OnnxModel, task: Task) -> None:
    if runtime.rows is not None:
        raise InputError(
            "the ONNX model takes a fixed number of rows, so requests cannot be answered together",
            got=f"{runtime.input_name}: [{runtime.rows}, {runtime.features}]",
            hint="export it with a dynamic batch axis, as in "
            f"torch.onnx.export(…, dynamic_axes={{{runtime.input_name!r}: {{0: 'n'}}}})",
        )
    if task.kind == "regression" and runtime.labels:
        raise InputError(
            "the ONNX model of a regression task is a classifier: it gives labels too",
            got=", ".join(runtime.labels),
            hint="--task binary or multiclass; or leave that output out of the file",
        )


def _counted(said: NDArray[Any], rows: int, task: Task) -> NDArray[Any]:
    """The answers, shape (rows, outputs), when there are as many for each row as the task has outputs."""
    if said.shape[:1] != (rows,) or said.size != rows * task.outputs:
        one = task.outputs == 1
        raise InputError(
            f"the ONNX model does not give {'one number' if one else f'{task.outputs} numbers'} per row",
            got=f"shape {said.shape} for {rows} rows",
            hint="a binary model gives (n, 2) class probabilities or (n, 1); a regression (n, 1) or (n,), or its "
            "numbers are named; several classes or numbers (n, k)",
        )
    return said.reshape(rows, task.outputs)
