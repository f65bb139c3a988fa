"""Answers computed ahead, before the pipeline: found rows are answered from there, the others live.

The hybrid of batch and live: what can be foreseen is scored at night by ``trimtab batch --precompute``, and a request
that nobody foresaw goes through the pipeline as always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

import numpy as np

from trimtab.errors import TrimtabError
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.serving.allotment import rows_of
from trimtab.serving.answers import Answers
from trimtab.serving.cache import HIT, MISS, Counts
from trimtab.serving.cache_key import row_key
from trimtab.serving.pipeline import Timer
from trimtab.serving.ports import Precomputed
from trimtab.serving.routing import Arm

Parts = list[tuple[Arm, list[int]]]
"""Arms and the rows of a batch that they answer, as :func:`trimtab.serving.routing.split` gives them."""
Given = list[tuple[Answers, Sequence[int]]]


class Ahead:
    """Looks rows up before they are computed.

    Parameters
    ----------
    find
        The answers that there are now; None while there are none, which costs a call for a batch.
    count
        Makes the counter of a model and a result, ``hit`` or ``miss``.
    timer
        Monotonic nanoseconds.
    """

    def __init__(
        self, find: Callable[[], Precomputed | None], *, count: Callable[[str, str], Counts], timer: Timer
    ) -> None:
        self._find, self._count, self._timer = find, count, timer
        self._lock = Lock()
        """Batches for models in other processes come here from threads of their own."""

    def take(self, model: str, batch: RequestBatch, parts: Parts, *, rollout: str) -> tuple[Given, Parts]:
        """Answer what is there; also the parts that are left to compute.

        A store that cannot be read, or an answer that does not fit the others, is no answer: the row is computed.
        """
        store = self._find()
        if store is None:
            return [], parts
        given: Given = []
        rest: Parts = []
        for arm, rows in parts:
            start = self._timer()
            found = _found(store, model, arm.version, batch, rows)
            if found:
                answers = _answers(batch, found, arm, rollout, took_us=(self._timer() - start) // 1000)
                given.append((answers, list(found)))
                self._add(model, HIT, len(found))
            if len(found) < len(rows):
                rest.append((arm, [row for row in rows if row not in found] if found else rows))
                self._add(model, MISS, len(rows) - len(found))
        return given, rest

    def _add(self, model: str, result: str, rows: int) -> None:
        with self._lock:
            self._count(model, result).add(rows)


def _found(
    store: Precomputed, model: str, version: str, batch: RequestBatch, rows: Sequence[int]
) -> dict[int, tuple[float, ...]]:
    """Outputs by row, all of one length."""
    found: dict[int, tuple[float, ...]] = {}
    width = 0
    try:
        for row in rows:
            outputs = store.get(model, version, row_key(version, batch, row))
            width = width or len(outputs or ())
            if outputs and len(outputs) == width:
                found[row] = outputs
    except TrimtabError:  # what was read is good; the rest is computed
        return found
    return found


def _answers(
    batch: RequestBatch, found: dict[int, tuple[float, ...]], arm: Arm, rollout: str, *, took_us: int
) -> Answers:
    """The answers of an arm that no model was asked for now: without features, because none were read."""
    asked = batch if len(found) == len(batch) else rows_of(batch, list(found))
    outputs = np.array(list(found.values()), dtype=np.float64)
    nothing = np.empty((len(found), 0), dtype=np.float32)
    return Answers(
        asked,
        FeatureBatch(nothing, nothing, {}, ()),
        arm.version,
        arm.name,
        rollout,
        outputs.reshape(-1) if outputs.shape[1] == 1 else outputs,
        (0, took_us, 0, 0, 0, 0),
        precomputed=True,
    )
