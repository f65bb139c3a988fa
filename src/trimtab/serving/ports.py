"""The ports of serving: a model runtime, a reader of features, answers computed ahead, and whoever watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.serving.answers import Answers


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

    @property
    def trouble(self) -> str:
        """Why it cannot answer now, as while its process is started again; empty while it can."""
        ...

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of shape (n, outputs) for inputs of shape (n, features), both side by side in the manifest's order.

        A binary model has one output, the probability of the positive class; a multiclass one a probability per class.
        """
        ...

    def close(self) -> None:
        """Free its memory; it is not used again."""
        ...


class BatchWatcher(Protocol):
    """Told of everything that was answered or refused, from the thread that answers.

    Contract: never raises, never blocks, costs at most 3 µs a batch and 0.3 µs a body. An answer is told of before it
    is let go, so that no count is ever behind what callers have seen.
    """

    def answered(
        self,
        model: str,
        answers: Sequence[Answers],
        *,
        waited_ns: Sequence[int],
        total_ns: Sequence[int],
        waiting: int,
        arms: Sequence[int] = (),
        record_ns: int = 0,
    ) -> None:
        """A batch was answered and recorded, or (without bodies) scored in the shadow.

        Parameters
        ----------
        waited_ns, total_ns
            Per body that is complete now: how long it waited in the queue, and how long it took from its first byte
            understood to its answer. Equally long.
        waiting
            Bodies that still wait.
        arms
            Per body, which of ``answers`` holds its first row; may be left out where there is one.
        record_ns
            How long it took to write the records of the batch.
        """
        ...

    def refused(self, model: str, why: str) -> None:
        """A body was not answered; ``why`` is the name of the error, ``model`` empty when there is no such model."""
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
