"""What a worker counts: answers, failures, refusals and how long each stage took, by model, version and arm.

Counting is adding to whole numbers in place. Where they live is the business of :class:`Cells`: a list in tests, a
mapped file in a worker, so that every other process can read them and a killed worker takes none with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Protocol

from trimtab.core.clock import Micros
from trimtab.serving.answers import Answers
from trimtab.serving.latency import BUCKETS, FINE, FINE_US, bucket
from trimtab.serving.record import STAGES as RECORD_STAGES
from trimtab.serving.recording import NOT_FINITE, not_finite

STAGES = ("decode", "queue", "features", "preprocess", "infer", "postprocess", "encode", "record", "total")
"""What is timed. ``decode`` to ``encode`` but the queue are those of a prediction record; ``total`` runs from the first
look at a body to its answer."""
BATCH_BOUNDS = tuple(2**power for power in range(13))
"""Rows in a batch: upper bounds of the buckets, and one more bucket above."""

ANSWERED, FAILED, TIMED, BATCH_SIZES = 0, 1, 2, 3
_FIRST = BATCH_SIZES + len(BATCH_BOUNDS) + 1
_STAGE = 1 + BUCKETS
ARM_CELLS = _FIRST + len(STAGES) * _STAGE
"""The cells of an arm: rows answered, rows failed, how often a stage was timed, batch sizes; then per stage a sum of
microseconds and its buckets. In the stages of a batch, what took less than a microsecond is not counted in a bucket: it
is what is left of the times that they were timed. A change here needs a new :data:`LAYOUT`."""
LAYOUT = 1

ARM, LAST, HTTP, GAUGES, COUNT = "arm", "last", "http", "gauges", "count"
"""Kinds of blocks: (model, version, arm) twice, (method, route, status), (), (name, label, value, ...)."""
UNWRITABLE = "unwritable"
GAUGE_NAMES = ("waiting", "in_flight", "shadow_waiting", "generation", "started", UNWRITABLE)
"""New ones go to the end: a worker of an earlier version has fewer."""
MOST_COUNTS = 500
"""Different counters of one process; what comes after is counted under one last name."""


class Row(Protocol):
    """Cells that can be read and changed by place."""

    def __getitem__(self, at: int, /) -> int: ...

    def __setitem__(self, at: int, value: int, /) -> None: ...


class Cells(Protocol):
    """Where counts live.

    Contract: ``block`` returns ``size`` cells, zero at first, that stay the caller's own, whatever thread asks; asked
    again for the same kind and labels it may return others (readers add them up). It never fails: where no more can be
    shared, the cells are this process's alone.
    """

    def block(self, kind: str, labels: tuple[str, ...], size: int) -> Row:
        """The cells of one thing that is counted."""
        ...


class LocalCells:
    """Cells of this process alone.

    Examples
    --------
    >>> cells = LocalCells()
    >>> cells.block("count", ("drops",), 1)[0] += 2
    >>> cells.blocks
    {('count', ('drops',)): [2]}
    """

    def __init__(self) -> None:
        self.blocks: dict[tuple[str, tuple[str, ...]], list[int]] = {}

    def block(self, kind: str, labels: tuple[str, ...], size: int) -> list[int]:
        """Cells in a list."""
        return self.blocks.setdefault((kind, labels), [0] * size)


def stage_at(stage: str) -> int:
    """Where the cells of a stage begin among those of an arm: the sum, then the buckets."""
    return _FIRST + STAGES.index(stage) * _STAGE


OF_BATCH = RECORD_STAGES[1:]
"""The stages that are timed for a whole batch."""
_DECODE, _QUEUE, _RECORD, _TOTAL = map(stage_at, ("decode", "queue", "record", "total"))
_QUEUE_1, _TOTAL_1 = _QUEUE + 1, _TOTAL + 1
_OF_BATCH = tuple((stage_at(name), RECORD_STAGES.index(name)) for name in OF_BATCH)
_MOST_SIZE, _MOST_ROWS = len(BATCH_BOUNDS), BATCH_BOUNDS[-1] + 1
_SIZES = [max(rows - 1, 0).bit_length() for rows in range(_MOST_ROWS)]


class Counter:
    """A number that only grows.

    Examples
    --------
    >>> drops = Counter([0])
    >>> drops.add()
    >>> drops.reach(5)
    >>> drops.reach(3)
    >>> drops.value
    5
    """

    __slots__ = ("_cells",)

    def __init__(self, cells: Row) -> None:
        self._cells = cells

    @property
    def value(self) -> int:
        """What was counted so far."""
        return self._cells[0]

    def add(self, number: int = 1) -> None:
        """Count some more."""
        self._cells[0] += number

    def reach(self, number: int) -> None:
        """Take over a count that is kept elsewhere; one that is lower changes nothing."""
        self._cells[0] = max(self._cells[0], number)


class Meter:
    """Counts what a worker does; a :class:`~trimtab.serving.ports.BatchWatcher`.

    A stage of a batch is what every body in it waited for: it is counted once per body. Decoding is shared out evenly
    over the bodies of the batch. Scores in the shadow have no body and count once per batch.

    Examples
    --------
    >>> meter = Meter(LocalCells())
    >>> meter.counter("trimtab_records_lost_total", {"why": "disk full"}).add(3)
    """

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._arms: dict[tuple[str, str, str], Row] = {}
        self._lasts: dict[tuple[str, str, str], tuple[int, Row]] = {}
        """How often an arm was timed when that was last looked at, and where it is noted when it answered."""
        self._replies: dict[tuple[str, str, int], Row] = {}
        self._refusals: dict[tuple[str, str], Counter] = {}
        self._counters: dict[tuple[str, ...], Counter] = {}
        self._making = Lock()
        self._gauges = cells.block(GAUGES, (), len(GAUGE_NAMES))
        self.in_flight = 0
        """Requests that were read and not yet answered; kept by whoever takes them."""

    # -- from the dispatcher

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
        """Count a batch; see :class:`~trimtab.serving.ports.BatchWatcher`."""
        self._gauges[0] = waiting
        if len(answers) == 1:
            self._batch(model, answers[0], waited_ns, total_ns, record_ns)
            return
        for at, given in enumerate(answers):
            places = (
                [place for place, arm in enumerate(arms) if arm == at] if arms else range(len(total_ns) * (at == 0))
            )
            waited, total = [waited_ns[place] for place in places], [total_ns[place] for place in places]
            self._batch(model, given, waited, total, record_ns)

    def _batch(  # written out flat: it stands in the path of every answer
        self, model: str, given: Answers, waited_ns: Sequence[int], total_ns: Sequence[int], record_ns: int
    ) -> None:
        cells = self._arms.get((model, given.version, given.arm)) or self._arm(model, given.version, given.arm)
        rows, bodies = len(given.requests.ids), len(total_ns)
        if given.error:
            cells[FAILED] += rows
            self._failed(model, given, rows, given.error)
        else:
            lost = not_finite(given)
            cells[ANSWERED] += rows - lost
            if lost:
                cells[FAILED] += lost
                self._failed(model, given, lost, NOT_FINITE.partition(":")[2])
            if given.features.stale:
                labels = {"model": model, "version": given.version[:12], "arm": given.arm}
                self.counter("trimtab_stale_predictions_total", labels).add(rows - lost)
        cells[BATCH_SIZES + (_SIZES[rows] if rows < _MOST_ROWS else _MOST_SIZE)] += 1
        weight = bodies or 1
        cells[TIMED] += weight
        timings = given.timings
        for at, place in _OF_BATCH:
            us = timings[place]
            if us:
                cells[at] += us * weight
                cells[at + 1 + (FINE[us] if us < FINE_US else bucket(us))] += weight
        us = record_ns // 1000
        cells[_RECORD] += us * weight
        cells[_RECORD + 1 + (FINE[us] if us < FINE_US else bucket(us))] += weight
        if bodies:
            us = timings[0] // bodies
            cells[_DECODE] += us * weight
            cells[_DECODE + 1 + (FINE[us] if us < FINE_US else bucket(us))] += weight
            cells[_QUEUE] += sum(waited_ns) // 1000
            cells[_TOTAL] += sum(total_ns) // 1000
            for waited, took in zip(waited_ns, total_ns):  # noqa: B905 - equally long; being strict costs time
                us = waited // 1000
                cells[_QUEUE_1 + (FINE[us] if us < FINE_US else bucket(us))] += 1
                us = took // 1000
                cells[_TOTAL_1 + (FINE[us] if us < FINE_US else bucket(us))] += 1

    def _failed(self, model: str, given: Answers, rows: int, kind: str) -> None:
        labels = {"model": model, "version": given.version[:12], "arm": given.arm, "kind": kind}
        self.counter("trimtab_prediction_failures_by_kind_total", labels).add(rows)

    def refused(self, model: str, why: str) -> None:
        """Count a body that was not answered."""
        found = self._refusals.get((model, why))
        if found is None:
            found = self.counter("trimtab_requests_refused_total", {"model": model, "kind": why})
            self._refusals[model, why] = found
        found.add()

    # -- from the wire

    def replied(self, method: str, route: str, status: int, took_ns: int) -> None:
        """Count a reply over HTTP.

        Parameters
        ----------
        route
            The pattern of the path, such as ``/predict/{model}``, never what the caller wrote; empty for none.
        took_ns
            From the first byte of the request to the last of the reply.
        """
        cells = self._replies.get((method, route, status))
        if cells is None:
            cells = self._replies[method, route, status] = self._cells.block(HTTP, (method, route, str(status)), _STAGE)
        us = took_ns // 1000
        cells[0] += us
        cells[1 + (FINE[us] if us < FINE_US else bucket(us))] += 1

    # -- from anywhere in the worker

    def counter(self, name: str, labels: dict[str, str] | None = None) -> Counter:
        """The counter of that name and those labels, made when it is new; any thread may ask."""
        key = (name, *(part for pair in (labels or {}).items() for part in pair))
        return self._counters.get(key) or self._made(key)

    def _made(self, key: tuple[str, ...]) -> Counter:
        with self._making:  # caches count in threads beside the loop
            if len(self._counters) >= MOST_COUNTS and key not in self._counters:
                key = ("trimtab_other_total",)
            found = self._counters.get(key)
            if found is None:
                found = self._counters[key] = Counter(self._cells.block(COUNT, key, 1))
            return found

    def heard(self, now: Micros) -> None:
        """Take down which arms have answered since this was last asked: about once a second, not for every answer."""
        for key, cells in self._arms.items():
            timed, last = self._lasts.get(key) or (0, None)
            if cells[TIMED] != timed:
                last = last or self._cells.block(LAST, key, 1)
                last[0] = now
                self._lasts[key] = cells[TIMED], last

    def gauge(self, name: str, value: int) -> None:
        """Say how something stands now; ``name`` is one of :data:`GAUGE_NAMES`."""
        self._gauges[GAUGE_NAMES.index(name)] = value

    def _arm(self, model: str, version: str, arm: str) -> Row:
        cells = self._cells.block(ARM, (model, version, arm), ARM_CELLS)
        self._arms[model, version, arm] = cells
        return cells
