"""A version that was made elsewhere, in a project: bound to what its requests send, judged, and put into the ledger.

Two forms are known. A model that takes the project's features, in their order, gets the project's plan. A model that
takes inputs of the request alone gets a plan that reads just these. Either way it answers the requests that callers of
the project send, so that it can be compared with the champion and rolled out like any other version.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.project.file import find_project
from trimtab.app.batches import NoRows
from trimtab.app.home import Home, named_home
from trimtab.app.jobs import Profiler, TrainingOrder, rows_of_plan
from trimtab.app.judging import judged
from trimtab.app.live import standing_clock
from trimtab.app.loading import Runtimes, deployed, live_pipeline
from trimtab.app.operations import ask, home_of
from trimtab.app.registering import register_kind, task_of
from trimtab.app.replaying import checked_project
from trimtab.app.setting_values import program
from trimtab.core.clock import Micros, instant
from trimtab.core.ids import Json, sha256
from trimtab.core.ports import Blobs
from trimtab.datasets.frozen import FrozenSplit
from trimtab.errors import InputError, NotEnoughData, ProjectError
from trimtab.features.onrequest import inspect_module
from trimtab.features.plan import ModulePart, ModuleSource, Plan
from trimtab.loop.model import ModelSpec
from trimtab.loop.project import Project
from trimtab.registry.bundle import COLUMNS, PLAN, PROFILE, Bundle, load, module_path, pack
from trimtab.serving.ports import ModelRuntime
from trimtab.stats.metrics import evaluate
from trimtab.training.run import one_row_p99

Result = dict[str, Any]
_CHUNK = 1000
_TIMED = 200
_INPUTS_MODULE = "brought.inputs"
_INPUTS = '''"""Inputs of the request, as they were sent."""

FEATURES = {names}


def compute(columns):
    return {{name: columns[name] for name in FEATURES}}
'''


@dataclass(frozen=True)
class Brought:
    """What was made elsewhere, and what a person says of it."""

    model: str
    file: Path
    kind: str
    """``onnx``, ``handler`` or ``pyfunc``."""
    task: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """As :func:`trimtab.app.registering.register_kind` takes them."""
    reason: str = ""
    actor: str | None = None
    trained_until: str | None = None
    """ISO 8601: it has learned from nothing later."""


def register_brought(path: Path, brought: Brought, *, home: Path | None = None) -> Result:
    """Register it: in a project that declares the model as a version that can be deployed, elsewhere by itself.

    ``{model, version, kind, home}``, and in a project ``{number, registered, sentence, passed, checks}`` too.

    Raises
    ------
    InputError
        When it cannot answer what the project's requests ask, or contradicts what the project declares.
    """
    until = None if brought.trained_until is None else instant(brought.trained_until)
    options = {**brought.options, "trained_until": until}
    project = _declaring(path, brought.model)
    if project is None:
        place = named_home(home) or Home.of(path)
        return register_kind(
            place.root, brought.file, brought.kind, name=brought.model, task=brought.task, options=options
        )
    place = home_of(path, home).made()
    spec, plan = project.model(brought.model), project.plan(brought.model)
    task = brought.task or spec.task.kind
    said = _completed(options, brought, spec, plan)
    found = register_kind(
        place.root, brought.file, brought.kind, name=brought.model, task=task, options=said, declared=spec.task
    )
    bound = _bind(project, place, load(place.blobs(), found["version"]), brought.model, until=until)
    answer = ask(
        path,
        brought.model,
        "register",
        home=home,
        version=bound.version,
        facts=msgspec.json.encode(bound.facts).decode(),
        reason=brought.reason or f"registered from {brought.file.name}",
        actor=brought.actor,
    )
    ledger = place.ledger()
    verdict = judged(ledger, brought.model, bound.version)
    versions = [event.data for event in ledger.read() if event.data.get("version") == bound.version]
    return found | {
        "version": bound.version,
        "number": next((data["number"] for data in versions if "number" in data), None),
        "registered": answer["accepted"],
        "sentence": answer["sentence"],
        "passed": verdict["passed"],
        "checks": verdict["checks"],
    }


def hands_over_inputs(bundle: Bundle) -> bool:
    """Whether the plan of a version does no more than hand over inputs of the request, in the model's order."""
    parts = bundle.plan.parts
    if len(parts) != 1 or not isinstance(parts[0], ModulePart) or parts[0].module != _INPUTS_MODULE:
        return False
    return parts[0].sha256 == sha256(_INPUTS.format(names=repr(tuple(parts[0].features))).encode())


def _declaring(path: Path, model: str) -> Project | None:
    """The project at a place, when there is one that declares the model."""
    try:
        find_project(path)
    except ProjectError:
        return None
    project = checked_project(path)
    return project if model in project.models else None


def _completed(options: Mapping[str, Any], brought: Brought, spec: ModelSpec, plan: Plan) -> dict[str, Any]:
    """The options, with what the project says and the caller did not."""
    if brought.task not in (None, spec.task.kind):
        raise InputError("the project declares another task", got=brought.task, hint=f"--task {spec.task.kind}")
    outputs = options.get("outputs")
    named = task_of(spec.task.kind, brought.model, outputs) if outputs else spec.task
    if named is None or named.names != spec.task.names:
        raise InputError(
            "the project declares other outputs", got=str(outputs), hint=", ".join(spec.task.names) or "one"
        )
    if options.get("optional"):
        raise InputError(
            "the project's requests say what may be left out", got=options["optional"], hint="leave --optional out"
        )
    said = {name: value for name, value in options.items() if name != "outputs"}
    if brought.kind != "pyfunc" and not said.get("columns"):
        said["columns"] = plan.names()
    return said


@dataclass(frozen=True)
class _Bound:
    version: str
    facts: dict[str, Json]


def _bind(project: Project, place: Home, bundle: Bundle, model: str, *, until: Micros | None) -> _Bound:
    """The version with a plan for the project's requests and a reference profile, and what was measured of it."""
    blobs, spec = place.blobs(), project.model(model)
    names = bundle.columns or tuple(bundle.plan.requests.inputs)
    plan, modules = _plan_for(project, model, names)
    order = TrainingOrder(
        project=str(Path(project.root) / project.file),
        model=model,
        cutoff=standing_clock(place)[0].now(),
        seed=0,
        blobs=str(place.root / "blobs"),
        home=str(place.root.resolve()),
    )
    python = program("model_python")
    runtime = Runtimes(scratch=place.run / "models", python=python).runtime(bundle)
    try:
        rows = _rows(order, plan, modules) if _has_history(project, spec) else None
        facts, profile = _judge(spec, plan, rows, _predictor(bundle, runtime), until=until)
    finally:
        runtime.close()
    files = {name: data for name, data in bundle.files.items() if name != COLUMNS}
    files |= {PLAN: plan.to_json(), PROFILE: profile} | {
        module_path(name): module.text.encode() for name, module in modules.items()
    }
    version = _packed(blobs, bundle, plan, {name: data for name, data in files.items() if data})
    return _Bound(version, facts | {"size_bytes": load(blobs, version).size_bytes})


def _packed(blobs: Blobs, bundle: Bundle, plan: Plan, files: Mapping[str, bytes]) -> str:
    return pack(
        blobs, dict(files), manifest=msgspec.structs.replace(bundle.manifest, plan_digest=plan.digest, files={})
    )


def _plan_for(project: Project, model: str, names: Sequence[str]) -> tuple[Plan, dict[str, ModuleSource]]:
    """The plan that gives these columns for the project's requests, and the modules that it runs."""
    plan = project.plan(model)
    if list(names) == plan.names():
        named = [part.module for part in plan.parts if isinstance(part, ModulePart)]
        return plan, {name: project.modules[name] for name in named}
    numbers = [name for name, kind in plan.requests.inputs.items() if kind in ("bool", "int", "float")]
    if not set(names) <= set(numbers):
        raise InputError(
            f"these are not the columns of {model!r} in this project",
            got=", ".join(names)[:500],
            hint=f"all its features in their order ({', '.join(plan.names())}), or some of the inputs of its requests "
            f"({', '.join(numbers) or 'it has no number among them'}); in another --home and without the project, "
            "`trimtab serve` takes any",
        )
    module = inspect_module(_INPUTS_MODULE, _INPUTS.format(names=repr(tuple(names))), "")
    part = ModulePart(module.name, module.features, module.sha256)
    return Plan(plan.requests, (part,)), {module.name: module}


def _has_history(project: Project, spec: ModelSpec) -> bool:
    """Whether a training could be asked for; a new project may begin with a model and nothing else."""
    read = [project.sources[name] for name in project.plan(spec.name).sources()]
    return all(source.history for source in (spec.requests, spec.label.source, *read))


def _rows(order: TrainingOrder, plan: Plan, modules: Mapping[str, ModuleSource]) -> FrozenSplit | None:
    """The rows that a training would learn from and hold back now; None when there are not enough."""
    try:
        return rows_of_plan(order, plan, modules)
    except NotEnoughData:
        return None


def _predictor(bundle: Bundle, runtime: ModelRuntime) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """What the version says of rows, its own code before and after the model included: by the pipeline that serves."""
    pipeline, ready = live_pipeline(), deployed(bundle, NoRows(), runtime=runtime)

    def said(values: NDArray[np.float32]) -> NDArray[np.float64]:
        prepared = pipeline.preprocess(ready, values)
        return pipeline.postprocess(ready, pipeline.infer(ready, prepared))

    def predict(values: NDArray[np.float32]) -> NDArray[np.float64]:
        parts = [said(values[first : first + _CHUNK]) for first in range(0, max(len(values), 1), _CHUNK)]
        return np.concatenate(parts)

    return predict


def _judge(
    spec: ModelSpec,
    plan: Plan,
    data: FrozenSplit | None,
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]],
    *,
    until: Micros | None,
) -> tuple[dict[str, Json], bytes]:
    """What the loop is told of it, and its reference profile; quality only on rows asked after it had learned."""
    facts: dict[str, Json] = {"trained_until": until, "rows": 0, "metrics": {}}
    if data is None:
        return facts, b""
    on_train, on_holdout = predict(data.train.X), predict(data.holdout.X)
    profile = Profiler(spec, plan.names(), None)
    made = profile.made(data.train, on_train, data.holdout, on_holdout)
    facts |= {
        "p99_ms": one_row_p99(predict, data.holdout.X, timer=time.perf_counter_ns, times=_TIMED),
        "reference_weeks": [float(f"{loss:.6g}") for loss in made.weekly_losses],
        "reference_level": made.holdout_loss,
    }
    unseen = data.holdout.at > (data.cutoff if until is None else until)
    if unseen.any():
        found = evaluate(spec.task.kind, data.holdout.y[unseen], on_holdout[unseen])
        facts["metrics"] = {name: float(f"{value:.6g}") for name, value in found.items() if np.isfinite(value)}
        facts["rows"] = int(unseen.sum())
    return facts, made.to_json()
