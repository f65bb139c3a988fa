"""What the pipeline returns for a batch: columnar, so that a batch of one and a batch of a thousand cost alike."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.features.batch import FeatureBatch, RequestBatch


class Answers(msgspec.Struct, frozen=True, eq=False):
    """What one version says about n requests."""

    requests: RequestBatch
    features: FeatureBatch
    version: str
    arm: str
    """``champion`` or ``canary`` (given to the caller), ``shadow`` (only recorded), or ``pinned`` (given to a caller
    who named the version: no fair sample of anything); see :class:`trimtab.serving.record.PredictionRecord`."""
    rollout: str
    outputs: NDArray[np.float64]
    """Shape (n,): the probability of the positive class, or the predicted number; (n, k) for k > 1 outputs."""
    timings: Sequence[int]
    """Microseconds per stage for the whole batch, in the order of :data:`trimtab.serving.record.STAGES`."""
    error: str = ""
    """Why there is no answer (the outputs are NaN then): the kind of error; empty when there is one."""
    units: Sequence[str] = ()
    """Per row what stays with one arm: in an A/B test of every row; in a canary of rows that fell to their arm together
    with others, "" of those that did not. Empty where neither is so."""
    model: str = ""
    """Of an answer that no version gave; empty where the version says it."""
    precomputed: bool = False
    """Whether the version said it ahead of time: there are no features then."""
    together: Sequence[bool] = ()
    """Per row whether it fell to its arm together with others (see
    :class:`trimtab.serving.record.PredictionRecord`); empty where every row was drawn for itself."""

    def timed(self, *, decode_us: int, encode_us: int) -> Answers:
        """The same with what was measured around the pipeline."""
        timings = (decode_us, *self.timings[1:-1], encode_us)
        given = (self.requests, self.features, self.version, self.arm, self.rollout, self.outputs)
        return Answers(*given, timings, self.error, self.units, self.model, self.precomputed, self.together)
