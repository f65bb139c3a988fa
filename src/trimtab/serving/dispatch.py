"""From waiting requests to recorded answers, one batch at a time. Sans I/O: the wire calls ``submit`` and ``step``.

The order that matters: answer, encode, **record**, then let the answers go. A batch that cannot be recorded is not
answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.core.clock import Clock
from trimtab.core.ports import Records
from trimtab.errors import InputError, TrimtabError, Unavailable
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.serving.answers import Answers
from trimtab.serving.batching import BatchQueue, Piece
from trimtab.serving.codec import RequestCodec
from trimtab.serving.engine import Engine
from trimtab.serving.record import PREDICTIONS
from trimtab.serving.recording import status_of
from trimtab.serving.tensors import TensorAnswer, TensorRequest

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


class Ask:
    """One body that waits for its answer: the rows of one caller."""

    __slots__ = (
        "answers",
        "decode_ns",
        "dropped",
        "encode",
        "expires",
        "ids",
        "lane",
        "left",
        "resolve",
        "rows",
        "size",
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
        expires: int,
    ) -> None:
        self.lane, self.ids, self.rows, self.encode, self.resolve = lane, ids, rows, encode, resolve
        self.decode_ns, self.expires = decode_ns, expires
        self.size = self.left = len(ids)
        self.units = ids
        """What stays with one arm, per row."""
        self.answers: list[tuple[Answers, int] | None] = [None] * len(ids)
        """Per row, where its answer stands."""
        self.dropped = False

    def fail(self, error: TrimtabError) -> None:
        """End the waiting with an error; a second end is ignored."""
        if not self.dropped:
            self.dropped = True
            self.resolve(error)


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


class Dispatcher:
    """Takes decoded requests, answers them in batches, records them, and hands the bodies back.

    Parameters
    ----------
    records
        Where predictions are written, before they are answered.
    clock
        Says when a request was asked: the time at which its features are read.
    new_id
        Gives ids to requests that came without one.
    deadline_ms
        Longest wait in the queue; 0 for any. A request past it is refused, because nobody waits for its answer.
    """

    def __init__(
        self,
        engine: Engine,
        records: Records,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        max_batch: int = 32,
        max_queue: int = 1024,
        deadline_ms: int = 0,
    ) -> None:
        self.engine = engine
        self._records = records
        self._clock = clock
        self._new_id = new_id
        self._timer = engine.pipeline.timer
        self._deadline = deadline_ms * 1_000_000
        self.queue: BatchQueue[Ask] = BatchQueue(max_rows=max_batch, limit=max_queue)

    # -- in

    def submit(self, model: str, body: bytes, resolve: Resolve) -> None:
        """Decode a friendly request and let it wait.

        Raises
        ------
        InputError
            The body is not acceptable, or there is no such model.
        Unavailable
            The queue is full.
        """
        start = self._timer()
        live = self.engine.live
        width = live.answering(model).width
        codec = live.codecs[model]
        rows, ids, single = codec.decode(body, new_id=self._new_id)
        lane = Lane(model, "", codec, width)
        self._wait(Ask(lane, ids, rows, encode=_encode_one if single else _encode_many, resolve=resolve,
                       decode_ns=(now := self._timer()) - start, expires=now + self._deadline))  # fmt: skip

    def submit_tensors(
        self,
        model: str,
        asked: TensorRequest,
        encode: Callable[[TensorAnswer], Any],
        resolve: Resolve,
        *,
        version: str = "",
        unit: str = "",
        arm: str = "",
        decode_ns: int = 0,
    ) -> None:
        """Let a decoded tensor request wait; raises as :meth:`submit`.

        Parameters
        ----------
        encode
            Writes the answer down in the caller's protocol; its result goes to ``resolve``.
        version
            Given when the caller names one; it must take part in the route.
        unit
            What stays with one arm; the request's id when not given.
        arm
            Given when the caller names an arm; its version then answers, as pinned.
        decode_ns
            What decoding took.
        """
        live = self.engine.live
        pinned = version or (live.arm(model, arm) if arm else "")
        if pinned:
            live.pinned(model, pinned)
        lane = Lane(model, pinned, None, asked.values.shape[1])
        ids = asked.row_ids(self._new_id)
        ask = Ask(lane, ids, asked.values, encode=lambda ask: encode(_tensor_answer(ask, asked, self.engine)),
                  resolve=resolve, decode_ns=decode_ns, expires=self._timer() + self._deadline)  # fmt: skip
        ask.units = [unit or ids[0]] * len(ids)  # one body, one version
        self._wait(ask)

    def _wait(self, ask: Ask) -> None:
        self.queue.put(ask.lane, ask)

    # -- out

    def step(self) -> bool:
        """Answer one batch of what waits; whether more is waiting."""
        _, pieces = self.queue.take()
        if self._deadline:
            pieces = self._in_time(pieces)
        if pieces:
            try:
                self._answer(pieces)
            except Exception as error:
                for ask, _, _ in pieces:  # whatever went wrong, nobody may be left waiting
                    ask.fail(
                        TrimtabError("an internal error", got=type(error).__name__, hint="see the log of the worker")
                    )
                raise
        return len(self.queue) > 0

    def step_shadow(self, max_rows: int = 32) -> int:
        """Score and record a few rows of the shadow queue; how many rows still wait.

        Raises
        ------
        Unavailable
            The scores cannot be recorded; they are lost, the answers they belong to are not.
        """
        scored = self.engine.run_shadow(max_rows)
        if scored:
            self._records.write(PREDICTIONS, self.engine.records(scored))
        return self.engine.shadow_rows

    def _in_time(self, pieces: Sequence[Piece[Ask]]) -> list[Piece[Ask]]:
        now = self._timer()
        for piece in pieces:
            if piece.waiter.expires < now and piece.start == 0:
                piece.waiter.fail(Unavailable("the request waited past its deadline", hint="try again in a second"))
        return [piece for piece in pieces if not piece.waiter.dropped]

    def _answer(self, pieces: Sequence[Piece[Ask]]) -> None:
        lane = pieces[0].waiter.lane
        try:
            answered = self._predict(lane, pieces)
        except TrimtabError as error:
            if len(pieces) == 1:
                pieces[0].waiter.fail(error)
                return
            answered = []
        if len(pieces) > 1 and (not answered or any(answers.error for answers, _ in answered)):
            for piece in pieces:  # one caller's request must not fail another's
                self._answer([piece])
            return
        self._settle(lane, pieces, answered)

    def _predict(self, lane: Lane, pieces: Sequence[Piece[Ask]]) -> list[tuple[Answers, Sequence[int]]]:
        ids = [name for ask, start, stop in pieces for name in ask.ids[start:stop]]
        at = self._clock.now()
        if lane.codec is not None:
            if self.engine.live.codecs.get(lane.model, lane.codec).shape != lane.codec.shape:
                raise Unavailable("the model now takes other requests", hint="read its description and send again")
            rows = [row for ask, start, stop in pieces for row in ask.rows[start:stop]]
            return self.engine.answer(lane.model, lane.codec.batch(rows, ids, at=at))
        blocks = [ask.rows[start:stop] for ask, start, stop in pieces]
        values: NDArray[np.float32] = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        features = FeatureBatch(values, np.empty((len(ids), 0), dtype=np.float32), {}, ())
        batch = RequestBatch(ids, np.full(len(ids), at, dtype=np.int64), {}, {})
        units = [unit for ask, start, stop in pieces for unit in ask.units[start:stop]]
        return self.engine.answer(lane.model, batch, features=features, version=lane.version, units=units)

    def _settle(
        self, lane: Lane, pieces: Sequence[Piece[Ask]], answered: Sequence[tuple[Answers, Sequence[int]]]
    ) -> None:
        """Encode what is complete, record the batch, then let the answers go."""
        start = self._timer()
        places: list[tuple[Answers, int]] = [()] * sum(len(rows) for _, rows in answered)  # type: ignore[list-item]
        for answers, rows in answered:
            for place, row in enumerate(rows):
                places[row] = (answers, place)
        bodies: list[tuple[Ask, Any]] = []
        begin = decode_ns = 0
        for ask, first, last in pieces:
            ask.answers[first:last] = places[begin : begin + last - first]
            begin += last - first
            ask.left -= last - first
            decode_ns += ask.decode_ns if first == 0 else 0
            if ask.left == 0:
                bodies.append((ask, _failure(ask) or ask.encode(ask)))
        encode_us = (self._timer() - start) // 1000
        given = [
            replace(answers, timings=(decode_ns // 1000, *answers.timings[1:-1], encode_us)) for answers, _ in answered
        ]
        try:
            self._records.write(PREDICTIONS, self.engine.records(given))
        except Unavailable as error:
            for ask, _, _ in pieces:
                ask.fail(error)
            return
        self.engine.mirror(lane.model, given)
        for ask, body in bodies:
            if not ask.dropped:
                ask.dropped = True
                ask.resolve(body)


def _failure(ask: Ask) -> TrimtabError | None:
    for place in ask.answers:
        if place is not None and place[0].error:
            answers = place[0]
            return TrimtabError(
                "the model could not answer",
                got=answers.error,
                hint=f"version {answers.version[:12]}, arm {answers.arm}",
            )
    return None


def _prediction(ask: Ask, row: int, model: str = "") -> _Prediction:
    place = ask.answers[row]
    if place is None:
        raise InputError("a row was encoded before it was answered", got=str(row))
    answers, at = place
    value = answers.outputs[at].tolist()
    return _Prediction(ask.ids[row], value, answers.version, answers.arm, status_of(answers, at), model)


def _encode_one(ask: Ask) -> bytes:
    return _encoder.encode(_prediction(ask, 0, ask.lane.model))


def _encode_many(ask: Ask) -> bytes:
    return _encoder.encode(_Predictions(ask.lane.model, [_prediction(ask, row) for row in range(ask.size)]))


def _tensor_answer(ask: Ask, asked: TensorRequest, engine: Engine) -> TensorAnswer:
    rows = [answers.outputs[at] for answers, at in filter(None, ask.answers)]
    values = np.array(rows, dtype=np.float64).reshape(ask.size, -1)
    versions = list(dict.fromkeys(answers.version for answers, _ in filter(None, ask.answers)))
    deployed = engine.live.deployed.get(versions[0]) or engine.live.answering(ask.lane.model)
    return TensorAnswer(ask.lane.model, ",".join(versions), asked.id, values, deployed.manifest.outputs, asked.outputs)
