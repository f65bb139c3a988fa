"""The prediction record: one row per answer, and one per answer that an arm gave in the shadow."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Micros

PREDICTIONS = "predictions"
"""The table of records (see :class:`trimtab.core.ports.Records`) that holds them."""


class PredictionRecord(msgspec.Struct, frozen=True, array_like=True):
    """Everything that is known about one answer.

    Fields are stored by position: add new ones at the end, with a default, and never reorder them.
    """

    request_id: str
    prediction_id: str
    """Derived from request id, version and arm: the same answer recorded twice is one prediction."""
    asked_at: Micros
    model: str
    version: str
    """Digest of the bundle."""
    arm: str
    """``champion``, ``canary``, ``previous`` or an arm of an A/B test for an answer that was given, ``shadow`` for one
    that was only recorded, ``pinned`` for one given to a caller who named the version or the arm, ``constant`` for one
    that no model gave."""
    rollout: str
    """Id of the rollout under way; empty when none is."""
    keys: dict[str, str | int]
    features: bytes
    """float32, little endian, in plan order; empty when recording is sampled and this row was not drawn,
    and for an answer that was computed ahead."""
    ages: bytes
    """float32 seconds per source, sources sorted by name."""
    watermarks: dict[str, tuple[int, Micros]]
    outputs: tuple[float, ...]
    timings: tuple[int, ...]
    """Microseconds per stage, in the order of :data:`STAGES`; measured, so never part of a decision."""
    status: str
    """``ok``, or why the answer is worth less: ``stale:<source>``, ``precomputed``, ``constant``, ``error:<kind>``."""
    inputs: dict[str, str | int | float | bool | None] = {}
    """What the caller sent besides the keys, times as microseconds: a later training recomputes features from it."""
    unit: str = ""
    """What stays with one arm: in an A/B test a user, a shop; in a canary of a row that fell to its arm together with
    others, what they fell by, or the first of them. Empty elsewhere, and in a canary in records of old."""
    together: bool = False
    """Outside of an A/B test, whether the row fell to its arm together with others: by what its caller says stays with
    one arm, or by the first row of its body; or failed together with the others of its body. It counts with its unit,
    which is one draw."""

    def feature_values(self) -> NDArray[np.float32]:
        return np.frombuffer(self.features, dtype="<f4")


STAGES = ("decode", "features", "preprocess", "infer", "postprocess", "encode")

PINNED, SHADOW, CONSTANT = "pinned", "shadow", "constant"
"""Arms that no request falls to by the route's shares."""
PRECOMPUTED = "precomputed"
"""Status of an answer that was computed ahead (``trimtab batch --precompute``)."""
UNCOUNTED = frozenset({PINNED, CONSTANT})
"""Arms whose answers are no fair sample of anything: they count in no comparison."""
ASIDE = UNCOUNTED | {SHADOW}
"""Arms whose answers were not given by the route's shares."""


def in_test(record: PredictionRecord) -> bool:
    """Whether it is of an A/B test."""
    return record.unit != "" and not record.together


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PredictionRecord)


def encode_record(record: PredictionRecord) -> bytes:
    """The record as msgpack."""
    return _encoder.encode(record)


def decode_record(row: bytes) -> PredictionRecord:
    """The record back from msgpack."""
    return _decoder.decode(row)
