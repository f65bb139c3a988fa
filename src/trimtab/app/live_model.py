"""One model live: its loop, what it observes, and its trainings."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from trimtab.app.home import Home
from trimtab.app.jobs import TrainingOrder
from trimtab.app.killing import Workers
from trimtab.app.live_observer import LiveObserver
from trimtab.core.clock import HOUR, Clock, Micros
from trimtab.core.ledger import Event, Ledger
from trimtab.core.ports import Blobs, Columns, Records, Series
from trimtab.errors import ConflictError, InputError, NotEnoughData, StaleEpoch, TrimtabError
from trimtab.features.plan import Plan
from trimtab.loop.commands import ApplyRoute, Command, Notify, Train
from trimtab.loop.counting import StepCounts
from trimtab.loop.engine import Loop
from trimtab.loop.model import ModelSpec
from trimtab.loop.observations import Asked, DayMatured, Drifted, JobDone, JobLost, Observation, Warmed
from trimtab.loop.policy import policy_of
from trimtab.loop.project import Project
from trimtab.monitoring.days import MaturedDay
from trimtab.monitoring.rebuild import cells
from trimtab.registry.bundle import load
from trimtab.training.ports import Compute

_log = logging.getLogger("trimtab.loop")

TRAINING_TAKES: Micros = HOUR
"""Under a driven clock: simulated time from a training request to its result, as in a replay."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all models of a platform share."""

    project: Project
    home: Home
    clock: Clock
    driven: bool
    """Whether a driver moves the clock; then results are waited for, and latency means nothing."""
    epoch: int
    ledger: Ledger
    blobs: Blobs
    records: Records
    series: Series
    compute: Compute
    apply: Callable[[ApplyRoute], None]
    tell: Callable[[Notify, str], None]
    warmth: Callable[[str], Workers]
    """How many workers hold a version of the route table."""
    cover: Callable[[Plan], None]
    """Keeps the online rows that a plan reads, from the beginning of its sources."""


class LiveModel:
    """The loop of one model and all that feeds it. Used under the lock of the control process.

    Observations that the loop has not taken in yet (because the ledger could not be written) are kept and told again;
    a snapshot of the observer is only written when there are none.
    """

    def __init__(self, shared: Shared, spec: ModelSpec) -> None:
        self.spec, self._shared = spec, shared
        self.watch = LiveObserver(
            spec, shared.home.root, blobs=shared.blobs, records=shared.records, slow=not shared.driven
        )
        self._untold: list[Observation] = []
        self._resume = True
        self._covered: set[str] = set()
        self._counts = StepCounts()
        self.loop = self._folded()

    def restore(self, labels: Columns | None, first_seq: int) -> None:
        """Take up where the last control process was; see :meth:`LiveObserver.restore`."""
        self.watch.restore(self.loop.state.versions, labels, first_seq=first_seq)

    def cover(self) -> None:
        """Have the online rows of every version kept: an operator may go back to any of them."""
        for version in self.loop.state.versions:
            try:
                self._cover(version)
            except TrimtabError as error:
                _log.error("version %s of %s cannot be read: %s", version[:12], self.spec.name, error)

    def _cover(self, version: str) -> None:
        if version not in self._covered:
            self._shared.cover(load(self._shared.blobs, version).plan)
            self._covered.add(version)

    # -- decide

    def tick(self, now: Micros) -> list[Event]:
        """Observe, and let the loop decide; the same work in the same order as a replay's tick."""
        self.watch.observe()
        return self._decide(chain(self._finished_jobs(now), self._observed(now)))

    def bootstrap(self, now: Micros) -> list[Event]:
        """Decide until a first version answers, also while a driven clock stands: nothing can be served before it."""
        if self._resume:
            self.resume()
        if self.loop.state.champion or self.loop.state.rollout is not None:
            return []
        return self.finish_trainings(now)

    def warm(self) -> list[Event]:
        """Switch to the green version of a blue-green deployment as soon as every worker holds it."""
        return self._decide(self._warmed())

    def ask(self, asked: Asked) -> list[Event]:
        """What follows at once from what a person asks."""
        return self._decide([asked])

    def finish_trainings(self, now: Micros) -> list[Event]:
        """Take in the trainings that are over, whatever the clock does; for a single step without the rest."""
        return self._decide(self._finished_jobs(now + TRAINING_TAKES, wait=False))

    def _observed(self, now: Micros) -> Iterator[Observation]:
        for matured in self.watch.observer.advance(now):
            self.watch.changed = True
            self._keep(matured)
            yield DayMatured(matured.day, matured.blocks, matured.pairs)
        yield from self._warmed()
        report = self.watch.observer.drift(now)
        if report is not None:
            self.watch.changed = True
            yield Drifted(report)
        counted = self._counts.observe(self.watch.observer, self.loop.state)
        if counted is not None:
            yield counted

    def _warmed(self) -> Iterator[Observation]:
        rollout = self.loop.state.rollout
        if rollout is None or not self.loop.state.warming:
            return
        found = self._shared.warmth(rollout.version)
        if found.problem or found.obeying == found.living:
            yield Warmed(rollout.id, found.obeying, found.problem)

    def _keep(self, matured: MaturedDay) -> None:
        """Keep the sums of a day; a day that matures again after a crash is the same batch, and changes nothing."""
        name, counts = self.spec.name, self.watch.observer.histograms(matured.day)
        try:
            self._shared.series.add(f"{name}:{matured.day}", cells(name, matured.blocks, {matured.day: counts}))
        except TrimtabError as error:  # nothing is decided from it
            _log.warning("the sums of a day of %s are not kept: %s", name, error)

    def resume(self) -> None:
        """Have everything done that was decided and may not have been, the route first."""
        self.loop.resume()
        self._resume = False

    def _decide(self, observations: Iterable[Observation]) -> list[Event]:
        if self._resume:
            self.resume()
        self._untold.extend(observations)
        told, self._untold = self._untold, []
        before = self.loop.state.number
        try:
            return self.loop.step(told)
        except TrimtabError as error:
            self._resume = True  # what was decided is in the ledger; what was to be done may not have been
            if self.loop.state.number == before:
                self._untold = told + self._untold
            if isinstance(error, ConflictError) and not isinstance(error, StaleEpoch):
                self.loop = self._folded()
            raise

    def _finished_jobs(self, now: Micros, *, wait: bool | None = None) -> list[Observation]:
        found = []
        waits = self._shared.driven if wait is None else wait
        for job_id, training in self.loop.state.trainings.items():
            if self._shared.driven and training.cutoff + TRAINING_TAKES > now:
                continue
            compute = self._shared.compute
            state = compute.wait(job_id, timeout_s=3600) if waits else compute.poll(job_id)
            match state.status:
                case "done":
                    found.append(self._done(job_id, state.result))
                case "failed":
                    found.append(JobLost(job_id, state.error))
                case "unknown":
                    self._resume = True  # its process died: it is submitted again
        return found

    def _done(self, job_id: str, result: dict[str, object]) -> Observation:
        try:
            self.watch.know(str(result.get("version", "")))
            self._cover(str(result.get("version", "")))
        except TrimtabError as error:
            return JobLost(job_id, f"what it made cannot be read: {error}")
        self.watch.changed = True
        return JobDone(job_id, result)

    # -- do

    def _folded(self) -> Loop:
        shared = self._shared
        return Loop(shared.ledger, policy_of(self.spec), epoch=shared.epoch, clock=shared.clock, execute=self._execute)

    def _execute(self, command: Command) -> None:
        match command:
            case Train():
                self._train(command)
            case ApplyRoute():
                self._shared.apply(command)
            case Notify():
                self._shared.tell(command, self.spec.name)

    def _train(self, command: Train) -> None:
        project, root = self._shared.project, self._shared.home.root.resolve()
        order = TrainingOrder(
            project=str(Path(project.root) / project.file),
            model=self.spec.name,
            cutoff=command.cutoff,
            seed=command.seed,
            blobs=str(root / "blobs"),
            champion=command.champion,
            home=str(root),
        )
        try:
            self._shared.compute.submit(order.job(command.job_id))
        except (InputError, NotEnoughData) as error:
            # The same job was submitted with other arguments once: the project has moved. It will be trained anew.
            self._untold.append(JobLost(command.job_id, str(error)))

    def save(self) -> None:
        """Keep what the observer holds, unless the loop has not heard all of it yet."""
        if not self._untold:
            self.watch.save()
