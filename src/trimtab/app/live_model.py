"""One model live: its loop, what it observes, and its trainings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from trimtab.app.home import Home
<<<<<<< HEAD
from trimtab.app.jobs import JOB
from trimtab.app.live_observer import LiveObserver
=======
from trimtab.app.jobs import TrainingOrder
from trimtab.app.observer_state import read_observer_state, write_observer_state
from trimtab.app.replaying import observer_config
>>>>>>> tidy
from trimtab.core.clock import HOUR, Clock, Micros
from trimtab.core.ledger import Event, Ledger
from trimtab.core.ports import Blobs, Columns, Records
from trimtab.errors import ConflictError, InputError, NotEnoughData, StaleEpoch, TrimtabError
from trimtab.loop.commands import ApplyRoute, Command, Notify, Train
from trimtab.loop.counting import StepCounts
from trimtab.loop.engine import Loop
from trimtab.loop.model import ModelSpec
from trimtab.loop.observations import Asked, DayMatured, Drifted, JobDone, JobLost, Observation
from trimtab.loop.policy import policy_of
from trimtab.loop.project import Project
<<<<<<< HEAD
from trimtab.training.ports import Compute, Job
=======
from trimtab.monitoring.observer import Observer
from trimtab.monitoring.rebuild import answers_from_records, failures
from trimtab.registry.bundle import load
from trimtab.serving.engine import PINNED
from trimtab.serving.record import PREDICTIONS, PredictionRecord, decode_record
from trimtab.training.ports import Compute
>>>>>>> tidy

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
    compute: Compute
    apply: Callable[[ApplyRoute], None]
    tell: Callable[[Notify, str], None]


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
        self._counts = StepCounts()
        self.loop = self._folded()

    def restore(self, labels: Columns | None, *, first_seq: int) -> None:
<<<<<<< HEAD
        """Take up where the last control process was; see :meth:`LiveObserver.restore`."""
        self.watch.restore(self.loop.state.versions, labels, first_seq=first_seq)
=======
        """Take up where the last control process was.

        Parameters
        ----------
        labels
            Rows of the label's source in the event log, in known order; None when there are none.
        first_seq
            Position of the first of them: the length of the history.
        """
        try:
            kept = read_observer_state(self._shared.home.root, self.spec.name)
            if kept is not None:
                self.observer = Observer.restore(self.observer.config, kept[0])
                self._cursors = dict(kept[1])
            self._know_versions()
            self.observe()
        except (IntegrityError, ValueError) as error:
            _log.warning("%s: the observer is rebuilt from the records: %s", self.spec.name, error)
            self.observer, self._cursors = Observer(self.observer.config), {}
            self._know_versions()
            self.observe()
        told = self._cursors.setdefault(_LABELS, first_seq)
        if labels is not None:
            rest = {name: values[max(told - first_seq, 0) :] for name, values in labels.items()}
            self.take_labels(rest, seq=first_seq + len(labels[self.spec.label.source.known]))

    def _know_versions(self) -> None:
        for version in self.loop.state.versions:
            try:
                self._know(version)
            except TrimtabError as error:  # its records stay; only its drift cannot be told
                _log.error("version %s of %s cannot be read: %s", version[:12], self.spec.name, error)

    def _know(self, version: str) -> None:
        """Make a version's plan and reference profile known to the observer."""
        if version not in self._plans:
            bundle = load(self._shared.blobs, version)
            self.observer.profile(version, Profile.from_json(bundle.profile))
            self._plans[version] = bundle.plan

    # -- in

    def take_labels(self, columns: Columns, *, seq: int) -> None:
        """Tell the observer labels that came in; ``seq`` is how many rows their source has now."""
        label = self.spec.label
        ids: NDArray[np.str_] = columns[label.on].astype(np.str_)
        known = columns[label.source.known].astype(np.int64)
        if len(ids):
            self.observer.labelled(ids.tolist(), columns[label.column].astype(np.float64), known)
        self._cursors[_LABELS] = seq
        self.changed = True

    def observe(self) -> None:
        """Take in what workers have recorded since the last time."""
        while True:
            piece = list(islice(self._records(), _PIECE))
            if not piece:
                return
            # Runs of one version: its plan says how wide its rows are.
            for version, run in groupby(piece, key=lambda record: record.version):
                self._count(version, list(run))
            self.changed = True

    def _records(self) -> Iterator[PredictionRecord]:
        for place, row in self._shared.records.scan(PREDICTIONS, after=self._cursors):
            self._cursors[place.writer] = place.offset
            record = decode_record(row)
            if record.model == self.spec.name and record.arm != PINNED:
                yield record

    def _count(self, version: str, records: list[PredictionRecord]) -> None:
        try:
            self._know(version)
        except TrimtabError as error:
            _log.error("records of version %s cannot be read: %s", version[:12], error)
            return
        for answers in answers_from_records(records, self._plans[version]):
            self.observer.answered(answers)
        for (rollout, arm, failed), count in failures(records).items():
            self.observer.failed(rollout, arm, failed, count=count)
>>>>>>> tidy

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

    def ask(self, asked: Asked) -> list[Event]:
        """What follows at once from what a person asks."""
        return self._decide([asked])

    def finish_trainings(self, now: Micros) -> list[Event]:
        """Take in the trainings that are over, whatever the clock does; for a single step without the rest."""
        return self._decide(self._finished_jobs(now + TRAINING_TAKES, wait=False))

    def _observed(self, now: Micros) -> Iterator[Observation]:
        for matured in self.watch.observer.advance(now):
            self.watch.changed = True
            yield DayMatured(matured.day, matured.blocks, matured.pairs)
        report = self.watch.observer.drift(now)
        if report is not None:
            self.watch.changed = True
            yield Drifted(report)
        counted = self._counts.observe(self.watch.observer, self.loop.state)
        if counted is not None:
            yield counted

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
                try:
                    self._shared.compute.submit(_order(self._shared, self.spec, command).job(command.job_id))
                except (InputError, NotEnoughData) as error:
                    # It was submitted with other arguments once: the project has moved. It will be trained anew.
                    self._untold.append(JobLost(command.job_id, str(error)))
            case ApplyRoute():
                self._shared.apply(command)
            case Notify():
                self._shared.tell(command, self.spec.name)

<<<<<<< HEAD
    def _train(self, command: Train) -> None:
        project, root = self._shared.project, self._shared.home.root.resolve()
        arguments = {
            "project": str(Path(project.root) / project.file),
            "model": self.spec.name,
            "cutoff": command.cutoff,
            "seed": command.seed,
            "blobs": str(root / "blobs"),
            "champion": command.champion,
            "home": str(root),
        }
        try:
            self._shared.compute.submit(Job(command.job_id, JOB, arguments))
        except (InputError, NotEnoughData) as error:
            # The same job was submitted with other arguments once: the project has moved. It will be trained anew.
            self._untold.append(JobLost(command.job_id, str(error)))

    def save(self) -> None:
        """Keep what the observer holds, unless the loop has not heard all of it yet."""
        if not self._untold:
            self.watch.save()
=======
    # -- out

    def save(self) -> None:
        """Keep what the observer holds, unless the loop has not heard all of it yet."""
        if self.changed and not self._untold:
            write_observer_state(self._shared.home.root, self.spec.name, self.observer.snapshot(), self._cursors)
            self.changed = False


def _order(shared: Shared, spec: ModelSpec, command: Train) -> TrainingOrder:
    root = shared.home.root.resolve()
    return TrainingOrder(
        project=str(Path(shared.project.root) / shared.project.file),
        model=spec.name,
        cutoff=command.cutoff,
        seed=command.seed,
        blobs=str(root / "blobs"),
        champion=command.champion,
        home=str(root),
    )
>>>>>>> tidy
