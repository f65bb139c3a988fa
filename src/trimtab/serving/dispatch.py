"""From waiting requests to answers, one batch at a time. Sans I/O: the wire calls ``submit`` and ``step``."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np

from trimtab.core.clock import Clock
from trimtab.core.ports import Records
from trimtab.errors import InputError, TooLate, TrimtabError, Unavailable
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.serving.admission import Admission
from trimtab.serving.answers import Answers
from trimtab.serving.ask import NO_STEER, Ask, Lane, Resolve, Steer, encode_many, encode_one, row_status
from trimtab.serving.batching import BatchQueue, Piece
from trimtab.serving.engine import Engine
from trimtab.serving.infer import Encoded
from trimtab.serving.lanes import (
    PlainLane,
    any_failed,
    decoded,
    fail_all,
    later_writer,
    matrix_of,
    pinned_version,
    plain_lane,
    tensor_answer,
)
from trimtab.serving.live import Live
from trimtab.serving.settling import Settling
from trimtab.serving.tensors import TensorAnswer, TensorRequest

Answered = Sequence[tuple[Answers, Sequence[int]]]
Outcome = Answered | TrimtabError
Aside = Callable[[Callable[[], Outcome], Callable[[Outcome], None]], None]
"""Runs the first function in another thread, and the second with its result in this one."""

_log = logging.getLogger("trimtab.serving")


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
        self._clock = clock
        self._new_id = new_id
        self._timer = engine.pipeline.timer
        self._deadline = deadline_ms * 1_000_000
        # Who may wait is the admission's to say; a body that it let pass always finds room.
        self.queue: BatchQueue[Ask] = BatchQueue(max_rows=max_batch, limit=2 * max_queue, timer=self._timer)
        self.settling = Settling(engine, records, queue=self.queue)
        """Records what was said, and hands it over."""
        self._door = Admission(limit=max_queue, deadline_ns=self._deadline)
        self.aside: Aside | None = None
        """Runs what blocks (a model in another process, one that must be loaded first) beside the event loop; without
        it everything runs in place."""
        self._aside: dict[Lane, deque[Sequence[Piece[Ask]]]] = {}
        """By lane of which a batch is aside: what else of it goes there before others."""
        self._parked: dict[Lane, list[tuple[Ask, int]]] = {}
        """By the same lanes: who waits, with the rows that were answered. One batch of a lane is aside at a time: else
        all of them would wait there, where no deadline is looked at, and take the threads of other models."""
        self._plain_of: Live | None = None
        self._plains: dict[str, PlainLane | None] = {}

    # -- in

    def submit(self, model: str, body: bytes, resolve: Resolve, *, steer: Steer = NO_STEER) -> None:
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
        self._door.admit(model, within_ns=steer.within_ns)
        codec = live.codecs[model]
        pinned = pinned_version(live, model, steer)
        if pinned and live.pinned(model, pinned).plan.requests != codec.shape:
            raise InputError(
                "that version takes other requests than the one that answers",
                got=pinned[:12],
                hint=f"send its features to /v2/models/{model}/versions/{pinned}/infer",
            )
        rows, ids, single = decoded(live, model, codec, body, self._new_id)
        now = self._timer()
        ask = Ask(Lane(model, pinned, codec, width), ids, rows, encode=encode_one if single else encode_many,
                  resolve=resolve, decode_ns=now - start, came=now)  # fmt: skip
        if steer.unit:
            ask.units = [steer.unit] * len(ids)
        self._wait(ask, steer.within_ns)

    def submit_tensors(
        self,
        model: str,
        asked: TensorRequest,
        encode: Callable[[TensorAnswer], Any],
        resolve: Resolve,
        *,
        steer: Steer = NO_STEER,
        decode_ns: int = 0,
    ) -> None:
        """Let a decoded tensor request wait; raises as :meth:`submit`.

        Parameters
        ----------
        encode
            Writes the answer down in the caller's protocol; its result goes to ``resolve``.
        decode_ns
            What decoding took.
        """
        pinned = pinned_version(self.engine.live, model, steer)
        self._door.admit(model, within_ns=steer.within_ns)
        ids = asked.row_ids(self._new_id)
        ask = Ask(Lane(model, pinned, None, asked.values.shape[1]), ids, asked.values,
                  encode=lambda ask: encode(tensor_answer(ask, asked, self.engine.live)),
                  resolve=resolve, decode_ns=decode_ns, came=self._timer())  # fmt: skip
        ask.units = [steer.unit or ids[0]] * len(ids)  # one body, one version
        self._wait(ask, steer.within_ns)

    def submit_plain(
        self, model: str, body: bytes, resolve: Resolve, *, json_length: int = -1, steer: Steer = NO_STEER
    ) -> bool:
        """Let one row of floats wait that has one output; False, and nothing done, when the body is not that.

        Parameters
        ----------
        json_length
            Bytes of JSON at the front, the row following as bytes; -1 when all is JSON. ``resolve`` gets bytes, or an
            ``Encoded`` for an answer that is wanted as bytes.
        steer
            Its version and arm are not looked at: whoever names one goes the long way.

        Raises
        ------
        UnknownName, Unavailable
            As :meth:`submit`.
        """
        start = self._timer()
        plain = self.plain(model)
        self._door.admit(model, within_ns=steer.within_ns)
        if plain is None:
            return False
        found = plain.reader.read(body) if json_length < 0 else plain.reader.read_bytes(body, json_length)
        if found is None:
            return False
        name, row, binary = found
        writers = plain.writers

        def encode(ask: Ask) -> bytes | Encoded:
            answers, _, value = ask.told[0]
            writer = writers.get(answers.version) or later_writer(self.engine.live, model, answers.version)
            status = row_status(answers, value)
            return writer.write_bytes(name, value, status) if binary else writer.write(name, value, status)

        self._wait_row(Ask(plain.lane, [name or self._new_id()], row, encode=encode, resolve=resolve,
                           decode_ns=(now := self._timer()) - start, came=now), steer)  # fmt: skip
        return True

    def submit_row(self, ask: Ask, steer: Steer) -> None:
        """Let one row wait that was read elsewhere, in the lane of :meth:`plain`; raises as :meth:`submit_plain`."""
        self._door.admit(ask.lane.model, within_ns=steer.within_ns)
        self._wait_row(ask, steer)

    def _wait_row(self, ask: Ask, steer: Steer) -> None:
        if steer.unit:
            ask.units = [steer.unit]
        self._wait(ask, steer.within_ns)

    def plain(self, model: str) -> PlainLane | None:
        """How plain requests of a model are read; None when it has none. Made once per model and route table."""
        live = self.engine.live
        if live is not self._plain_of:
            self._plain_of, self._plains = live, {}
        if model not in self._plains:
            self._plains[model] = plain_lane(live, model)
        return self._plains[model]

    def _wait(self, ask: Ask, within_ns: int = 0) -> None:
        deadline = within_ns or self._deadline
        if deadline:
            if ask.size > 1 and (batches := -(-ask.size // self.queue.room(ask.lane))) > 1:
                self._door.admit(ask.lane.model, within_ns=within_ns, batches=batches)
            ask.expires = ask.came + deadline
        self._join(ask)

    def _join(self, ask: Ask) -> None:
        self._door.joined(ask.lane.model)
        if self._parked and ask.lane in self._parked:
            self._parked[ask.lane].append((ask, 0))
            self._let_on(ask.lane)
        else:
            self.queue.put(ask.lane, ask)

    def _let_on(self, lane: Lane) -> None:
        """Let the callers of a lane wait for their turn, where another table needs nothing aside any more."""
        if not self.engine.blocking(lane.model, lane.version):
            self.queue.put_back(lane, self._parked[lane])
            self._parked[lane] = []

    def look_aside(self) -> None:
        """See to who waits behind a batch that is aside; about once a second."""
        now = self._timer()
        for lane, parked in self._parked.items():
            for ask, _ in parked:
                if 0 < ask.expires < now:
                    ask.fail(_past_deadline())
            self._let_on(lane)

    # -- out

    def step(self) -> bool:
        """Answer one batch of what waits; whether more is waiting."""
        lane, pieces = self.queue.take()
        if isinstance(lane, Lane):
            self._door.left(lane.model, self.queue.dropped + sum([stop == ask.size for ask, _, stop in pieces]))
            pieces = self._in_time(pieces)
        if pieces:
            try:
                self._answer(pieces)
            except Exception as error:
                fail_all(pieces, error)
                raise
        waiting = len(self.queue) > 0
        if not waiting and not self._parked:
            self._door.forget()
        return waiting

    def _in_time(self, pieces: Sequence[Piece[Ask]]) -> list[Piece[Ask]]:
        """What can be answered in time; all that has time left when nothing can, or nothing would be learned."""
        now = self._timer()
        ends = now + (self._door.lasts(pieces[0].waiter.lane.model, len(pieces)) if len(pieces) > 1 else 0)
        late = [ask for ask, _, _ in pieces if 0 < ask.expires < ends]
        for ask in late if len(late) < len(pieces) else [ask for ask in late if ask.expires < now]:
            ask.fail(_past_deadline())
        return [piece for piece in pieces if not piece.waiter.dropped]

    def _answer(self, pieces: Sequence[Piece[Ask]]) -> None:
        """Answer a batch here, or aside when what answers it blocks."""
        lane = pieces[0].waiter.lane
        if self.aside is None or not self.engine.blocking(lane.model, lane.version):
            began = self._timer()
            self._told_of(lane, pieces, self._outcome(lane, pieces), began=began)
            return
        if lane in self._aside:
            self._aside[lane].append(pieces)
            return
        self._aside[lane] = deque([pieces])
        self._parked[lane] = self.queue.withdraw(lane)
        self._go_aside(lane)

    def _go_aside(self, lane: Lane) -> None:
        """Have the next batch of a lane answered in another thread; when there is none, the lane waits as others do."""
        pieces: Sequence[Piece[Ask]] = ()
        while self._aside[lane] and not pieces:
            pieces = self._in_time(self._aside[lane].popleft())
        if not pieces or self.aside is None:
            del self._aside[lane]
            self.queue.put_back(lane, self._parked.pop(lane))
            return
        began, generation = self._timer(), self.engine.live.table.generation

        def back(outcome: Outcome) -> None:
            self.engine.uses.end(generation)
            try:
                self._told_of(lane, pieces, outcome, began=began)
            except Exception as error:
                fail_all(pieces, error)
                raise
            finally:
                self._go_aside(lane)

        self.engine.uses.begin(generation)
        try:
            self.aside(lambda: self._outcome(lane, pieces), back)
        except Exception as error:  # noqa: BLE001 - no thread can be started, say
            _log.exception("a batch cannot be answered")
            self.engine.uses.end(generation)
            fail_all(pieces, error)
            self._go_aside(lane)

    def busy_aside(self, versions: Container[str]) -> bool:
        """Whether one of these versions may be answering in another thread."""
        routes = self.engine.live.table.routes
        for lane in self._aside:
            arms = routes[lane.model].arms if lane.model in routes else ()
            if lane.version in versions or any(arm.share and arm.version in versions for arm in arms):
                return True
        return False

    @property
    def waiting(self) -> int:
        """Bodies that wait for their turn."""
        return len(self.queue) + sum(map(len, self._parked.values()))

    def _outcome(self, lane: Lane, pieces: Sequence[Piece[Ask]]) -> Outcome:
        """What the engine says; changes nothing here, so that it may run in another thread."""
        try:
            return self._predict(lane, pieces)
        except TrimtabError as error:
            return error
        except Exception as error:  # noqa: BLE001 - told by whoever waits for the outcome
            _log.exception("a batch failed")
            return TrimtabError("an internal error", got=type(error).__name__, hint="see the log of the worker")

    def _told_of(self, lane: Lane, pieces: Sequence[Piece[Ask]], outcome: Outcome, *, began: int) -> None:
        if isinstance(outcome, TrimtabError):
            if len(pieces) == 1:
                pieces[0].waiter.fail(outcome)
                return
        elif len(pieces) == 1 or not any_failed(outcome):
            for ask in self.settling.settle(lane, pieces, outcome, began=began):
                self._join(ask)
            self._door.answered(lane.model, bodies=len(pieces), began=began, ended=self._timer())
            return
        for piece in pieces:  # one caller's request must not fail another's
            self._answer([piece])

    def _predict(self, lane: Lane, pieces: Sequence[Piece[Ask]]) -> list[tuple[Answers, Sequence[int]]]:
        if len(pieces) == 1 and pieces[0].stop == pieces[0].waiter.size == 1:  # one of one row
            ids, units = pieces[0].waiter.ids, pieces[0].waiter.units
        else:
            ids = [name for ask, start, stop in pieces for name in ask.ids[start:stop]]
            units = [unit for ask, start, stop in pieces for unit in ask.units[start:stop]]
        at = self._clock.now()
        if lane.codec is not None:
            if self.engine.live.codecs.get(lane.model, lane.codec).shape != lane.codec.shape:
                raise Unavailable("the model now takes other requests", hint="read its description and send again")
            rows = [row for ask, start, stop in pieces for row in ask.rows[start:stop]]
            batch = lane.codec.batch(rows, ids, at=at)
            return self.engine.answer(lane.model, batch, version=lane.version, units=units)
        values = matrix_of(pieces, lane.width)
        features = FeatureBatch(values, values[:, :0], {}, ())
        batch = RequestBatch(ids, np.array([at] * len(ids), dtype=np.int64), {}, {})
        return self.engine.answer(lane.model, batch, features=features, version=lane.version, units=units)


def _past_deadline() -> TrimtabError:
    return TooLate("the request waited past its deadline", hint="try again in a second")
