"""Features that the caller sends: for a model that was trained elsewhere and takes its columns as they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trimtab.errors import InputError, SchemaError
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.features.plan import RequestShape


class SentReader:
    """Reads nothing: the inputs of the request are the features.

    Parameters
    ----------
    shape
        What a caller sends; its inputs are numbers.
    columns
        The inputs in the order in which the model takes them; empty for that of ``shape``, which is alphabetical once
        the plan has been written and read.

    Raises
    ------
    InputError
        When an input is no number, or the columns are not the inputs.

    Examples
    --------
    >>> reader = SentReader(RequestShape("buys", "id", "at", {}, {"age": "float"}, ("age",), {}))
    >>> reader.read(RequestBatch(["a"], np.array([0]), {}, {"age": np.array([40.0])})).values
    array([[40.]], dtype=float32)
    """

    def __init__(self, shape: RequestShape, columns: Sequence[str] = ()) -> None:
        self.columns = tuple(columns or shape.inputs)
        """The inputs in the order in which the model takes them."""
        if sorted(self.columns) != sorted(shape.inputs):
            raise InputError("the columns of the model are not its inputs", got=", ".join(self.columns)[:200])
        for name, kind in shape.inputs.items():
            if kind not in ("bool", "int", "float"):
                raise InputError("a model without features takes numbers", got=f"{name}: {kind}")

    def read(self, batch: RequestBatch) -> FeatureBatch:
        """The inputs side by side; a missing one is NaN.

        Raises
        ------
        SchemaError
            When a value is past the range of float32.
        """
        columns = [np.asarray(batch.inputs[name], np.float64) for name in self.columns]
        exact = np.stack(columns, axis=1) if columns else np.empty((len(batch), 0))
        if exact.shape[1] == 0 and len(batch):
            raise InputError(
                "this model takes tensors, and no named columns", hint="POST to /v2/models/<name>/infer instead"
            )
        with np.errstate(over="ignore"):
            values = exact.astype(np.float32)
        if bool(np.isinf(values).any()):
            name = self.columns[int(np.argwhere(np.isinf(values))[0, 1])]
            raise SchemaError(f"input {name!r} holds a value past the range of float32")
        return FeatureBatch(values, np.empty((len(batch), 0), np.float32), {}, ())
