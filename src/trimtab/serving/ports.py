"""The ports of serving: a model runtime, and a reader of features."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.features.batch import FeatureBatch, RequestBatch


class FeatureReader(Protocol):
    """What the feature stage asks of the features room.

    Contract: ``read`` takes one consistent snapshot for the whole batch, changes nothing, and may be called from any
    thread. A request that no features can be computed for raises ``InputError``; a store that cannot be reached,
    ``Unavailable``.
    """

    def read(self, batch: RequestBatch) -> FeatureBatch:
        """The features of n requests, and what they were made of."""
        ...


class ModelRuntime(Protocol):
    """A loaded model.

    Contract: ``run`` is pure (same rows, same outputs), thread-safe, and takes any number of rows from 1. It raises
    ``InputError`` for rows that do not fit, ``Unavailable`` when it cannot answer now, and ``ModelFailed`` when the
    model's own code failed.
    """

    @property
    def blocking(self) -> bool:
        """Whether ``run`` may wait, for another process or for the disk: an event loop must call it from a thread.

        A class attribute where it is always the same; a model that is loaded on demand says it anew each time.
        """
        ...

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of shape (n, outputs) for inputs of shape (n, features).

        A binary model has one output, the probability of the positive class.
        """
        ...

    def close(self) -> None:
        """Free its memory; it is not used again."""
        ...
