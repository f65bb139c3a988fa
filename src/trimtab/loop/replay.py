"""Replay: the same code under a virtual clock.

Events, requests and labels are delivered in the order in which they became known. Requests are answered by the same
engine that serves HTTP, in batches that never reach across an event delivery: each request sees exactly the events
known when it was asked. Once per tick, at the end of a simulated hour, the loop is told what happened and decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trimtab.core.clock import HOUR, WEEK, Micros, VirtualClock
from trimtab.core.ledger import Event
from trimtab.core.ports import Records
from trimtab.errors import InputError, JobFailed, Unavailable
from trimtab.features.batch import FeatureBatch, RequestBatch
from trimtab.features.online import OnlineWriter
from trimtab.loop.commands import ApplyRoute, Command, Train
from trimtab.loop.counting import StepCounts
from trimtab.loop.engine import Loop
from trimtab.loop.observations import Asked, DayMatured, Drifted, JobDone, JobLost, Observation
from trimtab.loop.operators import Operators
from trimtab.loop.reading import Read, Reading, Timeline
from trimtab.loop.served import Served
from trimtab.monitoring.blocks import DriftReport
from trimtab.monitoring.observer import Observer
from trimtab.serving.answers import Answers
from trimtab.serving.engine import Engine
from trimtab.serving.pipeline import Deployed
from trimtab.serving.record import PREDICTIONS
from trimtab.serving.routing import RouteTable
from trimtab.training.ports import Compute, Job, JobState

_STEPS = 20
"""Steps read ahead between two looks at a job: about 10 ms."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What part of history to replay, and how.

    Parameters
    ----------
    start, until
        Microseconds. Before ``start`` events are only applied; the first model is trained there. Requests asked after
        ``start`` and up to ``until`` are answered.
    tick
        How often the loop decides.
    training_takes
        Simulated time from a training request to its result.
    operators
        What people ask for, and when.
    bad_challengers
        Moments at which an operator has a version trained on swapped labels and forces it past the gate.
    checkpoint
        Moment at which ``on_checkpoint`` is called; 0 for never.
    """

    start: Micros
    until: Micros
    tick: Micros = HOUR
    training_takes: Micros = HOUR
    operators: tuple[tuple[Micros, Asked], ...] = ()
    bad_challengers: tuple[Micros, ...] = ()
    checkpoint: Micros = 0


class Watcher(Protocol):
    """Somebody who looks on: shows progress, writes the timeline, takes the checkpoint."""

    def ticked(self, now: Micros, answered: int) -> None:
        """A simulated hour is over; so many requests were answered so far."""
        ...

    def decided(self, events: Sequence[Event]) -> None:
        """The loop appended these events."""
        ...

    def checkpoint(self, now: Micros) -> None:
        """The moment of the checkpoint: everything up to ``now`` is written."""
        ...


@dataclass(frozen=True, slots=True)
class ReplayParts:
    """The wired objects that a replay drives; the same kinds that serve live."""

    model: str
    width: int
    """Number of features."""
    timeline: Timeline
    clock: VirtualClock
    writer: OnlineWriter
    engine: Engine
    observer: Observer
    loop: Loop
    records: Records
    compute: Compute
    job: Callable[[Train, bool], Job]
    """Turns a training command into a job; with swapped labels when the second argument says so."""
    load: Callable[[str], Deployed]
    """Loads a version and tells the observer its reference profile."""
    watcher: Watcher
    timer: Callable[[], int]
    """Nanoseconds of a clock that never goes back: how long each stage takes, never part of a decision."""
    outputs: int = 1
    """Numbers per answer."""


class Replay:
    """Drives one model through its history.

    Examples
    --------
    See :func:`trimtab.app.replay`, which wires one from a project, and ``docs/replay.md``.
    """

    def __init__(self, parts: ReplayParts, options: ReplayOptions) -> None:
        if options.until <= options.start:
            raise InputError("a replay must end after it starts", hint="give an --until later than --start")
        self._parts, self._options = parts, options
        requests = len(parts.timeline.requests)
        self.served = Served.nothing(
            requests, width=parts.width, sources=parts.timeline.histories, outputs=parts.outputs
        )
        self.drift: list[DriftReport] = []
        """One report a week, for the map of features by weeks."""
        self._first, self._last = np.searchsorted(
            parts.timeline.requests.at, [options.start, options.until], side="right"
        )
        self._reading = Reading(
            parts.timeline,
            parts.writer,
            read=self._read,
            asked=(int(self._first), int(self._last)),
            ticks=range(options.start + options.tick, options.until + options.tick, options.tick),
            timed=self._timed,
        )
        self._labelled = 0
        self._running: list[tuple[Micros, Job]] = []
        self._operators = Operators(options.operators, options.bad_challengers)
        self._counts = StepCounts()
        self._nanoseconds: Counter[str] = Counter()
        self._frozen: Deployed | None = None
        self._this_tick: list[tuple[list[int], Answers]] = []

    @property
    def seconds(self) -> dict[str, float]:
        """Time taken by stage: deliver events, read features, answer, record, observe, wait for training, decide."""
        return {stage: nanoseconds / 1e9 for stage, nanoseconds in self._nanoseconds.items()}

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = self._parts.timer()
        try:
            yield
        finally:
            self._nanoseconds[stage] += self._parts.timer() - began

    @property
    def timeline(self) -> Timeline:
        """What is delivered."""
        return self._parts.timeline

    @property
    def observer(self) -> Observer:
        """Who turns answers and labels into evidence."""
        return self._parts.observer

    @property
    def answered(self) -> range:
        """Positions of the requests that this replay answers."""
        return range(int(self._first), int(self._last))

    def run(self) -> None:
        """Replay from start to end."""
        parts, options = self._parts, self._options
        parts.clock.advance_to(options.start)
        self._reading.deliver(options.start)
        self._bootstrap(options.start)
        answered, checkpoint = 0, options.checkpoint
        for tick in range(options.start + options.tick, options.until + options.tick, options.tick):
            for read in self._reading.until(tick):
                self._answer(read)
                answered = read.stop - int(self._first)
            self._tick(tick, limit=checkpoint or options.until)
            parts.watcher.ticked(tick, answered)
            if checkpoint and tick >= checkpoint:
                parts.watcher.checkpoint(tick)
                checkpoint = 0

    def _read(self, batch: RequestBatch) -> FeatureBatch | None:
        engine = self._parts.engine
        champion = engine.live.table.route(self._parts.model).arms[0].version
        try:
            return engine.pipeline.features(engine.live.deployed[champion], batch)
        except (InputError, Unavailable):
            raise
        except Exception:  # noqa: BLE001 - a project's own code may raise anything; the engine then counts it as failed
            return None

    def _answer(self, read: Read) -> None:
        self._parts.clock.advance_to(int(read.batch.at[-1]))
        with self._timed("answer"):
            answered = self._parts.engine.answer(self._parts.model, read.batch, features=read.features)
        for answers, rows in answered:
            where = [read.first + row for row in rows]
            self.served.keep(where, answers)
            self._parts.observer.answered(answers)
            self._this_tick.append((where, answers))
        self._parts.engine.mirror(self._parts.model, [answers for answers, _ in answered])

    def _bootstrap(self, now: Micros) -> None:
        """Decide at one instant until a first version answers: nothing can be served before it."""
        self._step([], now)
        lost = ""
        while self._running:
            finished = self._finished_jobs(now + self._options.training_takes)
            lost = next((one.error for one in finished if isinstance(one, JobLost)), lost)
            self._step(finished, now)
        self._step(self._operators.approve(self._parts.loop.state.rollout), now)
        route = self._parts.engine.live.table.routes.get(self._parts.model)
        if route is None:
            if lost:
                raise JobFailed("the first training failed, so there is nothing to replay", got=lost)
            raise JobFailed(
                "no first version passed its floors, so there is nothing to replay",
                hint="lower the floors, or start later, when more is known",
            )
        self._frozen = self._parts.load(route.arms[0].version)

    def _tick(self, now: Micros, *, limit: Micros) -> None:
        parts = self._parts
        parts.clock.advance_to(now)
        with self._timed("shadow and record"):
            self._record()
            self._score_frozen()
        with self._timed("observe"):
            observations = self._observe(now)
        asked = self._operators.ask(now, parts.loop.state.rollout)
        observations = [*self._finished_jobs(now, limit=limit), *asked, *observations]
        with self._timed("decide"):
            self._step(observations, now)

    def _observe(self, now: Micros) -> list[Observation]:
        """Labels, matured days, drift and the counts of a canary."""
        parts = self._parts
        self._label(now)
        observations: list[Observation] = []
        observations.extend(
            DayMatured(matured.day, matured.blocks, matured.pairs) for matured in parts.observer.advance(now)
        )
        report = parts.observer.drift(now)
        if report is not None:
            observations.append(Drifted(report))
            if not self.drift or report.end - self.drift[-1].end >= WEEK:
                self.drift.append(report)
        counted = self._counts.observe(parts.observer, parts.loop.state)
        if counted is not None:
            observations.append(counted)
        return observations

    def _record(self) -> None:
        """Write the records of the tick: the answers given, then what the shadow arms say of the same rows."""
        parts = self._parts
        shadow: list[Answers] = []
        while parts.engine.shadow_rows:
            shadow.extend(parts.engine.run_shadow())
        for answers in shadow:
            parts.observer.answered(answers)
        rows = parts.engine.records([*(answers for _, answers in self._this_tick), *shadow])
        if rows:
            parts.records.write(PREDICTIONS, rows)

    def _score_frozen(self) -> None:
        """What the first champion would have said, from the same features; in one run per tick.

        A request whose version failed has no features: it is left out.
        """
        answered = [(places, answers) for places, answers in self._this_tick if not answers.error]
        if answered and self._frozen is not None:
            where = [place for places, _ in answered for place in places]
            values = np.concatenate([answers.features.values for _, answers in answered])
            features = FeatureBatch(values, values[:, :0], {}, ())
            self.served.frozen[where] = self._parts.engine.pipeline.score(self._frozen, features)
        self._this_tick.clear()

    def _label(self, now: Micros) -> None:
        labels = self._parts.timeline.labels
        stop = int(np.searchsorted(labels.known, now, side="right"))
        if stop > self._labelled:
            part = slice(self._labelled, stop)
            values = labels.values[part].astype(np.float64)
            self._parts.observer.labelled(labels.ids[part].tolist(), values, labels.known[part])
            self._labelled = stop

    def _finished_jobs(self, now: Micros, *, limit: Micros = 0) -> list[Observation]:
        """Results of the jobs whose simulated time is over; waits for them, and reads ahead meanwhile."""
        due = [item for item in self._running if item[0] <= now]
        self._running = [item for item in self._running if item[0] > now]
        observations: list[Observation] = []
        for _, job in due:
            state = self._wait(job, limit)
            if state.status != "done":
                observations.append(JobLost(job.id, state.error or f"the job is {state.status}"))
                continue
            version = state.result["version"]
            self._parts.load(version)
            observations.append(JobDone(job.id, state.result))
            observations.extend(self._operators.force(job.id, version))
        return observations

    def _wait(self, job: Job, limit: Micros) -> JobState:
        compute = self._parts.compute
        while compute.poll(job.id).status == "running":
            if not self._reading.ahead(limit, steps=_STEPS):
                break
        with self._timed("wait for training"):
            return compute.wait(job.id, timeout_s=3600)

    def _step(self, observations: Sequence[Observation], now: Micros) -> None:
        self._parts.clock.advance_to(now)
        events = self._parts.loop.step(observations)
        self._operators.decided()
        if events:
            self._parts.watcher.decided(events)

    def execute(self, command: Command) -> None:
        """Carry out a command of the loop; given to the loop as its executor."""
        match command:
            case Train():
                job = self._parts.job(command, self._operators.sabotage(command.job_id))
                self._parts.compute.submit(job)
                self._running.append((self._parts.clock.now() + self._options.training_takes, job))
            case ApplyRoute(route=route, generation=generation):
                table = RouteTable(generation, {**self._parts.engine.live.table.routes, route.model: route})
                refused = self._parts.engine.swap(table, self._parts.load)
                if refused is not None:
                    raise refused
