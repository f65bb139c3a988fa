"""The ports of serving: a model runtime, a reader of features, and answers computed ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
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

    @property
    def note(self) -> str:
        """What it runs on, and why not on what was wanted: ``cpu``, ``cpu (cuda is not in this onnxruntime)``."""
        ...

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of shape (n, outputs) for inputs of shape (n, features), both side by side in the manifest's order.

        A binary model has one output, the probability of the positive class; a multiclass one a probability per class.
        """
        ...

    def close(self) -> None:
        """Free its memory; it is not used again."""
        ...


class Precomputed(Protocol):
    """Answers computed ahead, by version and exact request (:func:`trimtab.serving.cache_key.row_key`).

    Contract: ``get`` returns the outputs exactly as they were put, for that version and key alone, and ``None`` when
    there are none or their time is over; it never blocks on a writer and may be called from any thread and process.
    ``put_many`` is one atomic step; putting a key again replaces its answer. One writer at a time. A store that cannot
    be reached raises ``Unavailable``: the caller then answers live.
    """

    def get(self, model: str, version: str, key: bytes) -> tuple[float, ...] | None:
        """The outputs of one answer, None when it must be computed."""
        ...

    def put_many(self, model: str, version: str, answers: Mapping[bytes, Sequence[float]], *, until: Micros) -> None:
        """Keep answers, by key, that are good until a time (not included)."""
        ...

    def drop(self, *, before: Micros) -> int:
        """Delete the answers that were good until ``before`` at most; how many."""
        ...
