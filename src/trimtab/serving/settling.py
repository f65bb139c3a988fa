"""What was said becomes answers.

The order that matters: encode, **record**, then let the answers go. What cannot be recorded is not answered.
"""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Any

from trimtab.core.ports import Records
from trimtab.errors import Unavailable
from trimtab.serving.answers import Answers
from trimtab.serving.ask import Ask, Lane, Told
from trimtab.serving.batching import Piece
from trimtab.serving.bodies import Due, begun_again, due, outcome
from trimtab.serving.engine import Engine
from trimtab.serving.lanes import any_failed, arms_of, told_in_order
from trimtab.serving.ports import BatchWatcher
from trimtab.serving.record import PREDICTIONS


class Settling:
    """Encodes answers, records them, and hands them over.

    Parameters
    ----------
    records
        Where predictions are written, before they are answered.
    queue
        The bodies that wait.
    """

    def __init__(self, engine: Engine, records: Records, *, queue: Sized) -> None:
        self.watcher: BatchWatcher | None = None
        """Told of every batch that was answered; set before the first request."""
        self.letting_go: Ask | None = None
        """The body whose answer is handed over at this moment; None between answers."""
        self.took = (0, 0, 0)
        """Of the last batch: when it left the queue, by the timer; microseconds of encode and record."""
        self._engine, self._records, self._queue = engine, records, queue
        self._timer = engine.pipeline.timer

    def settle(
        self,
        lane: Lane,
        pieces: Sequence[Piece[Ask]],
        answered: Sequence[tuple[Answers, Sequence[int]]],
        *,
        began: int,
    ) -> list[Ask]:
        """Encode what ends with this batch, record it, then let it go; the bodies that must be begun again.

        Parameters
        ----------
        began
            When the batch left the queue, by the timer.
        """
        timer, engine = self._timer, self._engine
        start = timer()
        told = told_in_order(answered)
        ended: list[tuple[Ask, Any]] = []
        firsts: list[Told] = []
        begin = decode_ns = 0
        whole = not any_failed(answered)
        usual = whole
        for ask, first, last in pieces:
            end = begin + last - first
            ask.tell(told[begin:end], first)
            if first == 0:
                decode_ns += ask.decode_ns
            if usual and first == 0 and last == ask.size:
                firsts.append(told[begin])
                ended.append((ask, ask.encode(ask)))
            else:
                whole = False
                if (said := outcome(ask)) is not None:
                    ended.append((ask, said))
            begin = end
        encoded = timer()
        encode_us = (encoded - start) // 1000
        given = [answers.timed(decode_us=decode_ns // 1000, encode_us=encode_us) for answers, _ in answered]
        if whole:
            arms: Sequence[int] = () if len(given) == 1 else arms_of(answered, firsts)
            now = Due(given, engine.records(given), arms)
        else:
            timed = [(answers, rows) for answers, (_, rows) in zip(given, answered, strict=True)]
            now = due(timed, pieces, ended=ended, encode=lambda one: engine.records([one], counted=False))
            for one in now.answers:
                engine.count("failed" if one.error else "answered", one.version, one.arm, len(one.requests))
        self.took = (began, encode_us, 0)
        if now.answers or ended:
            self._record(lane, ended, now, encoded=encoded)
        return [] if whole else begun_again(pieces)

    def _record(self, lane: Lane, ended: Sequence[tuple[Ask, Any]], now: Due, *, encoded: int) -> None:
        """Record, tell who watches, and let the answers go."""
        timer = self._timer
        began, encode_us, _ = self.took
        try:
            self._records.write(PREDICTIONS, now.records)
        except Unavailable as error:
            for ask, _ in ended:
                ask.fail(error)
            return
        recorded = timer()
        self.took = (began, encode_us, (recorded - encoded) // 1000)
        try:
            if self.watcher is not None:
                self.watcher.answered(
                    lane.model,
                    now.answers,
                    waited_ns=[began - ask.came for ask, _ in ended],
                    total_ns=[recorded - ask.came + ask.decode_ns for ask, _ in ended],
                    waiting=len(self._queue),
                    arms=now.arms,
                    record_ns=recorded - encoded,
                )
            self._engine.mirror(lane.model, now.answers)
        finally:  # what was recorded is answered, whoever stumbles over it
            for ask, body in ended:
                if not ask.dropped:
                    ask.dropped = True
                    self.letting_go = ask
                    ask.resolve(body)
            self.letting_go = None

    # -- what nobody waits for

    def step_shadow(self, max_rows: int = 32) -> int:
        """Score and record a few rows of the shadow queue; how many rows still wait.

        Raises
        ------
        Unavailable
            The scores cannot be recorded; they are lost, the answers they belong to are not.
        """
        self.record_shadow(self._engine.run_shadow(max_rows))
        return self._engine.shadow_rows

    def record_shadow(self, scored: Sequence[Answers]) -> None:
        """Record scores; raises as :meth:`step_shadow`."""
        if scored:
            start = self._timer()
            self._records.write(PREDICTIONS, self._engine.records(scored))
            took = self._timer() - start
            for answers in scored if self.watcher is not None else ():
                self._watched(answers, took)

    def _watched(self, scored: Answers, took: int) -> None:
        """Tell of a score in the shadow, which nobody waited for."""
        deployed = self._engine.live.deployed.get(scored.version)
        if self.watcher is not None and deployed is not None:
            self.watcher.answered(
                deployed.manifest.model, [scored], waited_ns=(), total_ns=(), waiting=len(self._queue), record_ns=took
            )
