"""Data frames of any make: whatever has named columns. No data frame library is needed, and none is imported."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trimtab.errors import InputError, UnknownName


def column_names(frame: object) -> list[str]:
    """The names of the columns of a mapping of arrays, or of a pandas, polars or Arrow table.

    Raises
    ------
    InputError
        When it is none of these.

    Examples
    --------
    >>> column_names({"age": [40, 47], "plan": ["a", "b"]})
    ['age', 'plan']
    """
    for attribute in ("column_names", "columns", "keys"):
        found = getattr(frame, attribute, None)
        if found is not None:
            return [str(name) for name in (found() if callable(found) else found)]
    raise InputError(
        "not a data frame", got=type(frame).__name__, hint="pass a mapping of arrays, a pandas, polars or Arrow table"
    )


def column_values(frame: object, name: str) -> NDArray[np.generic]:
    """One column as an array of shape (n,).

    Raises
    ------
    UnknownName
        When the frame has no such column.
    InputError
        When the column has more than one dimension.
    """
    if name not in (names := column_names(frame)):
        raise UnknownName("no such column", got=repr(name), hint=f"the columns are {', '.join(names)}")
    values = np.asarray(frame[name])  # type: ignore[index]
    if values.ndim != 1:
        raise InputError(f"column {name!r} is not one-dimensional", got=f"shape {values.shape}")
    return values
