"""Wiring a replay from a project: its own home, scratch ledger and stores, and the warm process that trains."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from trimtab.adapters.compute.processes import ProcessCompute
from trimtab.adapters.offline.parquet import history_digest
from trimtab.adapters.project.file import load_project
from trimtab.app.data import Known, UnitFault, read_known
from trimtab.app.home import HOME, Home
from trimtab.app.jobs import FOREVER
from trimtab.app.loading import deployed
from trimtab.app.trainer import Staged, Trainer
from trimtab.core.clock import DAY, SECOND, WEEK, Micros, VirtualClock, instant, iso
from trimtab.core.ids import derived_id, digest
from trimtab.core.ledger import Event
from trimtab.core.ports import Blobs
from trimtab.datasets.profile import Profile
from trimtab.errors import ConflictError, InputError, IntegrityError, JobFailed, ProjectError
from trimtab.features.online import OnlineWriter
from trimtab.features.ports import OnlineRows
from trimtab.loop.commands import Command
from trimtab.loop.engine import Loop
from trimtab.loop.model import ModelSpec
from trimtab.loop.policy import policy_of
from trimtab.loop.project import Project, check
from trimtab.loop.reading import Timeline
from trimtab.loop.replay import Replay, ReplayOptions, ReplayParts
from trimtab.loop.sentences import describe
from trimtab.loop.tick import Tick
from trimtab.monitoring.observer import Observer, ObserverConfig
from trimtab.registry.bundle import load
from trimtab.serving.engine import Engine
from trimtab.serving.pipeline import Deployed, Pipeline
from trimtab.web.kinds import KIND_OF_EVENT

FINISHED = "finished"
REPLAY = "replay"
"""Says which replay a home belongs to: only what a replay wrote is ever taken away."""
FIRST_SPAN = 60 * DAY
"""How much history trains the first model, unless told: whole weeks from there on are replayed. At most a third."""


@dataclass
class Staging:
    """Everything that one replay is wired from; what comes of it is told by :mod:`trimtab.app.results`."""

    project: Project
    spec: ModelSpec
    home: Home
    known: Known
    replay: Replay
    options: ReplayOptions
    rows: OnlineRows
    compute: ProcessCompute
    faults: Staged
    timings: dict[str, float] = field(default_factory=dict)


@dataclass
class Watch:
    """Shows progress, keeps what was decided, and takes the checkpoint."""

    progress: Callable[[Tick], None] | None
    start: Micros
    until: Micros
    on_checkpoint: Callable[[Micros], None] | None = None
    events: list[Event] = field(default_factory=list)
    _done: int = 0

    def ticked(self, now: Micros, answered: int) -> None:
        self._done = answered
        if self.progress is not None:
            self.progress(Tick(now, self.start, self.until, answered))

    def decided(self, events: Sequence[Event]) -> None:
        self.events.extend(events)
        if self.progress is None:
            return
        for event in events:
            if event.type in KIND_OF_EVENT and event.data.get("feature", "prediction") == "prediction":
                self.progress(Tick(event.known, self.start, self.until, self._done, decision=describe(event)))

    def checkpoint(self, now: Micros) -> None:
        if self.on_checkpoint is not None:
            self.on_checkpoint(now)


@dataclass(frozen=True)
class ReplayRequest:
    """What was asked for; all times as text, as a person writes them."""

    project: Path
    model: str | None = None
    start: str | None = None
    until: str | None = None
    faults: tuple[str, ...] = ()
    seed: int = 0
    out: Path | None = None
    checkpoint: tuple[str, Path] | None = None
    """A moment, and the directory that the home as of that moment is copied to."""


def checked_project(path: Path) -> Project:
    """Load a project and refuse it when ``trimtab check`` finds anything."""
    project = load_project(path)
    problems = check(project)
    if problems:
        first = problems[0]
        more = f" ({len(problems) - 1} more: run `trimtab check`)" if len(problems) > 1 else ""
        raise ProjectError(first.what + more, got=first.got, hint=first.hint, where=first.where)
    return project


def only_model(project: Project, name: str | None) -> ModelSpec:
    """The named model, or the only one there is."""
    if name is None and len(project.models) != 1:
        raise InputError("which model?", hint=f"name one of {', '.join(sorted(project.models))}")
    return project.model(name or next(iter(project.models)))


def stage(request: ReplayRequest, watch: Callable[[Micros, Micros], Watch]) -> Staging:
    """Read the history and wire everything; nothing is replayed yet."""
    began = time.perf_counter()
    project = checked_project(request.project)
    spec = only_model(project, request.model)
    home = _home(request, project, spec)
    home.blobs()
    trainer = Trainer.of(
        project,
        spec,
        home,
        faults=Staged.parse(request.faults),
        seed=request.seed,
        until=instant(request.until) if request.until else FOREVER,
    )
    try:
        trainer.prepare()
        known = read_known(project, spec, [UnitFault.parse(text) for text in trainer.faults.units])
        start, until = _period(request, known)
        options = ReplayOptions(
            start=start,
            until=until,
            bad_challengers=trainer.faults.bad_challengers,
            checkpoint=instant(request.checkpoint[0]) if request.checkpoint else 0,
        )
        wiring = _Wiring(trainer, home, known)
        replay = Replay(wiring.parts(watch(start, until)), options)
    except BaseException:
        trainer.compute.close()
        raise
    wiring.replays.append(replay)
    return Staging(
        project,
        spec,
        home,
        known,
        replay=replay,
        options=options,
        rows=wiring.rows,
        compute=trainer.compute,
        faults=trainer.faults,
        timings={"read history": time.perf_counter() - began},
    )


def _period(request: ReplayRequest, known: Known) -> tuple[Micros, Micros]:
    at = known.requests.at
    if len(at) == 0:
        raise InputError("there is no history to replay", hint="give the requests a history file")
    first, last = int(at[0]), int(at[-1])
    start = instant(request.start) if request.start else first_answered(first, last)
    until = instant(request.until) if request.until else last + spec_slack(known)
    if start > last:
        third = (first + (last - first) // 3) // SECOND * SECOND
        raise InputError(
            "no request was asked from the start of the replay on",
            got=f"start {iso(start)}, requests from {iso(first)} to {iso(last)}",
            hint=f"pass an earlier start, as in --start {iso(third)}",
        )
    return start, until


def first_answered(first: Micros, last: Micros) -> Micros:
    """Where a replay starts unless told: after 60 days, on a Monday; of a short history after a third, at midnight.

    Examples
    --------
    >>> iso(first_answered(instant("2026-01-01"), instant("2026-12-31")))[:10]
    '2026-03-02'
    >>> iso(first_answered(instant("2026-01-01T09:00Z"), instant("2026-02-01")))[:10]
    '2026-01-12'
    """
    span = min(FIRST_SPAN, (last - first) // 3)
    if span < FIRST_SPAN:
        return -(-(first + span) // DAY) * DAY
    # 1970-01-05 was a Monday.
    return -(-(first + span - 4 * DAY) // WEEK) * WEEK + 4 * DAY


def spec_slack(known: Known) -> Micros:
    """A replay goes on for two days after the last request, so that its labels still come in."""
    return 2 * DAY if len(known.labels.known) else 0


def _data(project: Project, spec: ModelSpec) -> str:
    """A digest of the content of every history that the model reads: a changed one makes another replay."""
    names = {*project.plan(spec.name).sources(), spec.label.source.name, spec.requests.name}
    found = {name: project.sources[name] for name in sorted(names)}
    return digest({name: history_digest(one, Path(project.root)) for name, one in found.items() if one.history})


def _home(request: ReplayRequest, project: Project, spec: ModelSpec) -> Home:
    """The replay's own home; one that was cut off is gone on with, any other replay's is made anew.

    Another replay is one of other data, project code, version of Trimtab, period, faults or seed.
    """
    period = (request.start or "", request.until or "")
    name = derived_id(
        version("trimtab"), project.revision, _data(project, spec), spec.name, *period, *request.faults, request.seed
    )
    root = request.out or Path(project.root) / HOME / "replays" / name
    mark = root / REPLAY
    if request.out and root.exists() and not mark.exists() and any(root.iterdir()):
        raise InputError("this directory holds something else than a replay", got=str(root), hint="name a new one")
    root.mkdir(parents=True, exist_ok=True)
    if (root / FINISHED).exists() or (mark.exists() and mark.read_text() != name):
        # The mark stays and names nothing meanwhile: killed in here, the next attempt empties the directory again.
        mark.write_text("")
        _empty(root, mark)
    for scratch in ("online", "records"):
        shutil.rmtree(root / scratch, ignore_errors=True)
    mark.write_text(name)
    return Home(root, durable=False).made()


def _empty(root: Path, kept: Path) -> None:
    """Remove everything in a directory but one file."""
    for item in root.iterdir():
        if item.is_dir():
            shutil.rmtree(item)
        elif item != kept:
            item.unlink()


class _Wiring:
    """Builds the parts of a replay."""

    def __init__(self, trainer: Trainer, home: Home, known: Known) -> None:
        self.project, self.spec, self.trainer = trainer.project, trainer.spec, trainer
        self.home, self.known = home, known
        self.blobs: Blobs = home.blobs()
        self.rows: OnlineRows = home.online(write_back=True)
        self.observer = Observer(observer_config(self.spec))
        self.replays: list[Replay] = []

    def parts(self, watcher: Watch) -> ReplayParts:
        plan = self.project.plan(self.spec.name)
        clock = VirtualClock()
        loop = Loop(
            self.home.ledger(),
            policy_of(self.spec),
            epoch=1,
            clock=clock,
            execute=self._execute,
            from_start=True,
            measured_decide=False,
        )
        return ReplayParts(
            model=self.spec.name,
            width=len(plan.names()),
            outputs=self.spec.task.outputs,
            timeline=Timeline(self.known.histories, self.known.requests, self.known.labels),
            clock=clock,
            writer=OnlineWriter(plan.parts, self.rows),
            engine=Engine(Pipeline(timer=lambda: 0), shadow_limit=10**9),
            observer=self.observer,
            loop=loop,
            records=self.home.records("replay"),
            compute=self.trainer.compute,
            job=self.trainer.job,
            load=self.load,
            watcher=watcher,
            timer=time.perf_counter_ns,
        )

    def _execute(self, command: Command) -> None:
        self.replays[0].execute(command)

    def load(self, version: str) -> Deployed:
        bundle = load(self.blobs, version)
        if bundle.profile:
            self.observer.profile(version, Profile.from_json(bundle.profile))
        return deployed(bundle, self.rows)


def observer_config(spec: ModelSpec, *, slow: bool = False) -> ObserverConfig:
    """What the observer of a model needs to know; ``slow`` where latency is real."""
    return ObserverConfig(
        model=spec.name,
        task=spec.task.kind,
        loss=spec.task.loss,
        matures=spec.label.matures,
        slow_after=round(spec.slo.latency_p99_ms * 1000) if slow else None,
        outputs=spec.task.outputs,
    )


@dataclass(frozen=True)
class Replayed:
    """A replay that has run, with what came of it."""

    staging: Staging
    watch: Watch
    result: dict[str, Any]


def run_replay(request: ReplayRequest, progress: Callable[[Tick], None] | None = None) -> Replayed:
    """Replay a project and tell what came of it."""
    from trimtab.app.checkpoint import take_checkpoint
    from trimtab.app.results import results

    watches: list[Watch] = []

    def watch(start: Micros, until: Micros) -> Watch:
        watches.append(Watch(progress, start, until))
        return watches[0]

    staging = stage(request, watch)
    if request.checkpoint is not None:
        watches[0].on_checkpoint = take_checkpoint(staging, request.checkpoint[1])
    began = time.perf_counter()
    try:
        staging.replay.run()
    except (JobFailed, IntegrityError, ConflictError):
        (staging.home.root / FINISHED).touch()  # going on with it would fail again: the next attempt starts anew
        raise
    finally:
        staging.compute.close()  # the process that trained holds the history in memory
    whole = time.perf_counter() - began
    staging.timings.update(staging.replay.seconds)
    staging.timings["everything else"] = whole - sum(staging.replay.seconds.values())
    staging.timings["replay, all of these"] = whole
    result = results(staging, watches[0])
    (staging.home.root / FINISHED).write_text(result["digest"])
    return Replayed(staging, watches[0], result)
