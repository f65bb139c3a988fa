"""One body that waits for its answer, and how friendly answers are written."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from trimtab.errors import InputError, TrimtabError
from trimtab.serving.answers import Answers
from trimtab.serving.codec import RequestCodec
from trimtab.serving.recording import NOT_FINITE, usual_status

Resolve = Callable[[Any], None]
"""Takes what ``encode`` made of the answer (bytes for a friendly request), or the ``TrimtabError`` that says why there
is none; called exactly once."""


class Lane(NamedTuple):
    """Requests that can be answered in one batch."""

    model: str
    version: str
    """Empty unless the caller named one."""
    codec: RequestCodec | None
    """None when the callers bring the features."""
    width: int


LONGEST_MS = 600_000
"""The longest that a caller may say that he waits."""


class Steer(NamedTuple):
    """What a caller says about who should answer."""

    version: str = ""
    """Digest of a version that takes part in the route."""
    unit: str = ""
    """What stays with one arm; the id of each request when empty."""
    arm: str = ""
    """An arm of the route; its version then answers, as pinned."""
    within_ns: int = 0
    """How long he waits; 0 for as long as the server's own deadline."""


NO_STEER = Steer()


class Told(NamedTuple):
    """What was said about one row."""

    answers: Answers
    row: int
    """Its place among the answers."""
    value: Any
    """A float, or a list of them."""


class Part(NamedTuple):
    """What was said of some rows of a body before all of it was."""

    answers: Answers
    records: list[bytes]


class Ask:
    """The rows of one caller.

    ``rows`` are what the lane's codec decoded; without a codec a matrix of shape (n, features), or for one row its
    bytes as float32.
    """

    __slots__ = (
        "came",
        "decode_ns",
        "dropped",
        "encode",
        "expires",
        "ids",
        "lane",
        "left",
        "parts",
        "resolve",
        "rows",
        "size",
        "times",
        "told",
        "units",
    )

    def __init__(
        self,
        lane: Lane,
        ids: list[str],
        rows: Any,
        *,
        encode: Callable[[Ask], Any],
        resolve: Resolve,
        decode_ns: int,
        came: int,
    ) -> None:
        self.lane, self.ids, self.rows, self.encode, self.resolve = lane, ids, rows, encode, resolve
        self.decode_ns, self.came = decode_ns, came
        self.expires = 0
        """When nobody waits any more, by the dispatcher's timer; 0 for never."""
        self.size = self.left = len(ids)
        self.units = ids
        """What stays with one arm, per row."""
        self.told: list[Told] = []
        self.parts: list[Part] = []
        """What is recorded when the last row is answered, and not before."""
        self.times = 0
        """How often it was begun again."""
        self.dropped = False

    def tell(self, told: list[Told], first: int) -> None:
        """Take what was said about the rows from ``first`` on."""
        if len(told) == self.size:
            self.told = told
        else:
            if not self.told:
                self.told = [told[0]] * self.size
            self.told[first : first + len(told)] = told
        self.left -= len(told)

    def again(self) -> None:
        """Forget what was said: all its rows wait once more."""
        self.left, self.told, self.parts = self.size, [], []
        self.times += 1

    def fail(self, error: TrimtabError) -> None:
        """End the waiting with an error; a second end is ignored."""
        if not self.dropped:
            self.dropped = True
            self.resolve(error)

    def failure(self) -> TrimtabError | None:
        """Why there is no answer, once every row was told about; None when there is one."""
        for told in self.told:
            if told.answers.error:
                return TrimtabError(
                    "the model could not answer",
                    got=told.answers.error,
                    hint=f"version {told.answers.version[:12]}, arm {told.answers.arm}",
                )
        return None


class _Prediction(msgspec.Struct, omit_defaults=True):
    id: str
    prediction: float | list[float] | None
    version: str
    arm: str
    status: str
    model: str = ""


class _Predictions(msgspec.Struct):
    model: str
    predictions: list[_Prediction]


_encoder = msgspec.json.Encoder()


def encode_one(ask: Ask) -> bytes:
    """The answer to a body of one request."""
    return _encoder.encode(_prediction(ask, 0, ask.lane.model))


def encode_many(ask: Ask) -> bytes:
    """The answer to a body of several."""
    return _encoder.encode(_Predictions(ask.lane.model, [_prediction(ask, row) for row in range(ask.size)]))


def _prediction(ask: Ask, row: int, model: str = "") -> _Prediction:
    if ask.left:
        raise InputError("a row was encoded before it was answered", got=str(row))
    answers, _, value = ask.told[row]
    return _Prediction(ask.ids[row], value, answers.version, answers.arm, row_status(answers, value), model)


def row_status(answers: Answers, value: Any) -> str:
    """As :func:`trimtab.serving.recording.statuses` says it, for one row."""
    if not (math.isfinite(value) if type(value) is float else all(map(math.isfinite, value))):
        return NOT_FINITE
    return usual_status(answers)
