"""The port of a model runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class ModelRuntime(Protocol):
    """A loaded model.

    Contract: ``run`` is pure (same rows, same outputs), thread-safe, and takes any number of rows from 1.
    """

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of shape (n, outputs) for inputs of shape (n, features).

        A binary model has one output, the probability of the positive class.
        """
        ...

    def close(self) -> None:
        """Free its memory; it is not used again."""
        ...
