"""Training jobs: what runs in a child process. A function of the project, the cutoff and the seed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.blobs.directory import DirectoryBlobs
from trimtab.adapters.models.export import OnnxExporter
from trimtab.adapters.project.file import load_project
from trimtab.app.data import Known, UnitFault, asked_until, read_known
from trimtab.app.eventlog import with_event_log
from trimtab.app.loading import answering
from trimtab.core.clock import Micros
from trimtab.core.ids import Json, sha256
from trimtab.core.ports import Blobs
from trimtab.datasets.frozen import Dataset, FrozenSplit, freeze_split
from trimtab.datasets.profile import Profile, ScoredRows, build_profile, summary
from trimtab.datasets.splits import LabelEvents, split_by_time
from trimtab.features.history import point_in_time
from trimtab.features.onrequest import LoadedModule, load_module
from trimtab.features.plan import ModuleSource, Plan
from trimtab.loop.model import ModelSpec
from trimtab.loop.project import Project
from trimtab.registry.assemble import assemble
from trimtab.registry.bundle import load
from trimtab.serving.transforms import Stage, load_transform
from trimtab.stats.bins import Bins
from trimtab.stats.metrics import losses
from trimtab.training.export import predictions
from trimtab.training.ports import Job
from trimtab.training.run import Champion, TrainingSpec, train
from trimtab.training.stages import Stages, Transform

JOB = "trimtab.app.jobs:train_job"
"""What runs in another process: :func:`train_job`."""
PREPARE = "trimtab.app.jobs:prepare_job"
"""What a warm process can do before the first training is due: :func:`prepare_job`."""
FOREVER: Micros = 2**62


@dataclass
class Inputs:
    """What one process has read of a project; kept between jobs, because the same rows serve every later training.

    The features of a request never change once it was asked: they are made of what was known then. So each is
    computed once, and a later job only adds the requests asked since.
    """

    project: Project
    spec: ModelSpec
    known: Known
    modules: Mapping[str, LoadedModule]
    features: NDArray[np.float32]
    labels: LabelEvents
    """With the places of their requests."""

    def values(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Features of the requests at these positions, as known when each was asked, shape (n, features)."""
        return self.features[rows]


@lru_cache(maxsize=1)
def read_inputs(project_file: str, model: str, faults: tuple[str, ...], home: str, until: Micros = FOREVER) -> Inputs:
    """Read a project and compute the features of every request in its history, up to those asked at ``until``.

    ``home`` names the event log that goes on where the history ends; empty for history alone.
    """
    project = load_project(Path(project_file))
    spec = project.model(model)
    known = read_known(project, spec, [UnitFault.parse(text) for text in faults])
    if home:
        known = with_event_log(project, spec, known, Path(home))
    known = asked_until(known, until)
    modules = modules_of(project)
    values = point_in_time(project.plan(model), known.histories, known.requests, modules)
    return Inputs(project, spec, known, modules, values, known.labels.placed(known.requests))


def modules_of(project: Project) -> dict[str, LoadedModule]:
    """The on-request modules of a project, loaded."""
    return {name: load_module(name, module.text, module.sha256) for name, module in project.modules.items()}


def stages_of_project(project: Project, spec: ModelSpec) -> Stages:
    """What a project runs before and after a model, loaded as a serving worker loads it from the bundle."""

    def loaded(name: str, stage: Stage) -> Transform | None:
        if not name:
            return None
        text = project.stage(name, where=spec.where)
        return load_transform(name, text, sha256(text.encode()), stage)

    before, after = loaded(spec.preprocess, "preprocess"), loaded(spec.postprocess, "postprocess")
    return Stages(before, after, spec.preprocess, spec.postprocess)


class TrainingOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to train: the arguments of a training job."""

    project: str
    """The project's file."""
    model: str
    cutoff: Micros
    """Nothing known later is used."""
    seed: int
    blobs: str
    """Directory of the blob store that takes the bundle."""
    champion: str = ""
    """The version to score on the same held-out tail; empty for none."""
    faults: tuple[str, ...] = ()
    """Faults of a rehearsal, as :meth:`UnitFault.parse` reads them."""
    home: str = ""
    """The home whose event log goes on where the history ends; empty for history alone."""
    until: Micros = FOREVER
    """No later order of the same series has a later cutoff: requests asked after it need no features."""
    sabotage: bool = False
    """Swap the labels of the training part: a bad challenger for a rehearsal."""

    def job(self, name: str) -> Job:
        """The job that carries the order out."""
        return Job(name, JOB, msgspec.to_builtins(self))


def prepare_job(project: str, model: str, faults: list[str], until: Micros) -> Json:
    """Read what every training of a replay needs, while the process that replays reads the same for itself.

    A job with the same project, model, faults and ``until`` in the same process then finds it done.
    """
    return {"requests": len(read_inputs(project, model, tuple(faults), "", until).known.requests)}


def train_job(**order: Json) -> Json:
    """Train a version on everything known by a cutoff and put its bundle among the blobs.

    Parameters
    ----------
    order
        The fields of :class:`TrainingOrder`.

    Returns
    -------
    dict
        The fields of :class:`trimtab.training.result.TrainingResult`, and the reference weeks of the profile.
    """
    return _train(msgspec.convert(order, TrainingOrder))


def rows_of_plan(order: TrainingOrder, plan: Plan, modules: Mapping[str, ModuleSource]) -> FrozenSplit:
    """The rows that an order would train on and hold back, as another plan for the same requests computes them.

    The cutoff is at most the time at which the last request has matured: of a history that ended long ago, its end is
    judged on.
    """
    read_inputs.cache_clear()  # the event log may have grown
    inputs = read_inputs(order.project, order.model, order.faults, order.home, order.until)
    known = inputs.known
    if len(known.requests):
        last = int(np.max(known.requests.at)) + inputs.spec.label.matures
        order = msgspec.structs.replace(order, cutoff=min(order.cutoff, last))
    if plan.digest != inputs.project.plan(order.model).digest:
        loaded = {name: load_module(name, module.text, module.sha256) for name, module in modules.items()}
        values = point_in_time(plan, known.histories, known.requests, loaded)
        inputs = replace(inputs, features=values)
    return _data(inputs, order, plan)


def held_out(order: TrainingOrder) -> FrozenSplit:
    """The rows that an order trains on and holds back."""
    return _data(read_inputs(order.project, order.model, order.faults, order.home, order.until), order)


def _train(order: TrainingOrder) -> Json:
    if order.home:
        read_inputs.cache_clear()  # the event log has grown since the last job
    inputs = read_inputs(order.project, order.model, order.faults, order.home, order.until)
    spec, plan = inputs.spec, inputs.project.plan(order.model)
    store = DirectoryBlobs(Path(order.blobs))
    trained = train(
        TrainingSpec(
            model=order.model,
            task=spec.task,
            fit=spec.train,
            plan=plan,
            params=dict(spec.params),
            seed=order.seed,
            code_revision=inputs.project.revision,
            stages=stages_of_project(inputs.project, spec),
        ),
        _data(inputs, order),
        exporter=OnnxExporter(),
        profile=Profiler(spec, plan.names(), _bins(store, order.champion)),
        timer=time.perf_counter_ns,
        champion=_champion(store, order.champion),
    )
    used = {view.name: view.text for view in inputs.project.modules.values() if view.name in _named(plan.parts)}
    used |= {name: inputs.project.stages[name] for name in filter(None, (spec.preprocess, spec.postprocess))}
    result = assemble(store, trained, modules=used)
    reference = Profile.from_json(trained.profile)
    return {
        **result.to_builtins(),
        "reference_weeks": list(reference.weekly_losses),
        "reference_level": reference.holdout_loss,
    }


def _data(inputs: Inputs, order: TrainingOrder, plan: Plan | None = None) -> FrozenSplit:
    """The training part and the held-out tail, with features as they were known."""
    spec, requests = inputs.spec, inputs.known.requests
    split = split_by_time(
        requests,
        inputs.labels,
        cutoff=order.cutoff,
        matures=spec.label.matures,
        holdout=spec.holdout,
        span=spec.on.length,
        classes=0 if spec.task.kind == "regression" else 2,
    )
    names = (plan or inputs.project.plan(order.model)).names()
    data = freeze_split(requests, split, names=names, compute=inputs.values)
    classes = spec.task.outputs if spec.task.kind == "multiclass" else 0
    return _sabotaged(data, classes=classes) if order.sabotage else data


def _named(parts: tuple[msgspec.Struct, ...]) -> set[str]:
    return {part.module for part in parts if hasattr(part, "module")}


def _sabotaged(data: FrozenSplit, *, classes: int) -> FrozenSplit:
    part = data.train
    wrong = (part.y + 1) % classes if classes else 1.0 - part.y
    swapped = Dataset(part.X, wrong, part.at, part.names, part.ids_digest)
    return FrozenSplit(swapped, data.holdout, data.trained_until, data.cutoff)


def _champion(store: Blobs, version: str) -> Champion | None:
    if not version:
        return None
    bundle = load(store, version)
    if bundle.manifest.runtime != "onnx" or not bundle.manifest.trained_until:
        # Made elsewhere, and it is not known what it has learned from: it cannot be scored fairly on any held-out row.
        return Champion(version, FOREVER, bundle.manifest.plan_digest, predictions)
    return Champion(version, bundle.manifest.trained_until, bundle.manifest.plan_digest, answering(bundle))


def _bins(store: Blobs, version: str) -> Mapping[str, Bins] | None:
    """The frozen bins of the champion, so that histories and arms can be added up across promotions."""
    profile = load(store, version).profile if version else b""
    return Profile.from_json(profile).bins() if profile else None


@dataclass(frozen=True)
class Profiler:
    """Builds the reference profile of a training run."""

    spec: ModelSpec
    names: list[str]
    bins: Mapping[str, Bins] | None

    def __call__(
        self, train: Dataset, on_train: NDArray[np.float64], holdout: Dataset, on_holdout: NDArray[np.float64]
    ) -> bytes:
        return self.made(train, on_train, holdout, on_holdout).to_json()

    def made(
        self, train: Dataset, on_train: NDArray[np.float64], holdout: Dataset, on_holdout: NDArray[np.float64]
    ) -> Profile:
        """The profile, of the rows and what the model says to them."""
        return build_profile(
            self.names,
            self._scored(train, on_train),
            holdout=self._scored(holdout, on_holdout),
            bins=self.bins,
            task=self.spec.task.kind,
        )

    def _scored(self, data: Dataset, said: NDArray[np.float64]) -> ScoredRows:
        task = self.spec.task
        labels = data.y.mean(axis=1) if data.y.ndim == 2 else data.y
        lost = losses(task.loss, data.y, said)
        return ScoredRows(data.X, data.at, summary(task.kind, said), lost, labels)
