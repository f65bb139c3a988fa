"""Register a model that runs in a process of its own: it is loaded there and asked once before it is a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.foreign import FILE, Foreign, own_files, read_directory
from trimtab.adapters.models.isolated import IsolatedModel
from trimtab.adapters.models.isolated_child import MOST_WHOLE
from trimtab.adapters.models.probabilities import check_probabilities
from trimtab.adapters.models.register import column_order, different, tensor_plan
from trimtab.core.clock import Micros
from trimtab.core.ports import Blobs
from trimtab.errors import InputError
from trimtab.features.plan import Plan
from trimtab.registry.bundle import CARD, FORMAT, PLAN, pack
from trimtab.registry.manifest import ExportParity, Manifest, Tensor
from trimtab.training.task import Task


class ForeignModel(msgspec.Struct, frozen=True):
    """A model to be registered, and what is known of it beside how it is run."""

    name: str
    path: Path
    """Its directory, or the file of a handler that needs no other."""
    foreign: Foreign
    task: Task
    optional: Sequence[str] = ()
    """Columns that a request may leave out; the model then sees None (rows) or NaN."""
    trained_until: Micros = 0


def register_foreign(
    blobs: Blobs, model: ForeignModel, *, root: Path, python: str, rows: NDArray[np.float32] | None = None
) -> str:
    """Try a model in its own process and pack it as a version.

    Parameters
    ----------
    root
        Where its private directory is made for the trial.
    python
        The interpreter, unless the model names one.
    rows
        What it is tried on, shape (n, columns); two rows of zeros when left out.

    Returns
    -------
    str
        The version. Equal files, tried with equal libraries, give the same version again.

    Raises
    ------
    InputError
        When its columns are not known, or what it answers does not fit the task.
    ModelFailed
        When its own code raises an error.
    Unavailable
        When its process does not start.
    """
    files = read_directory(model.path)
    _check_entry(model.foreign, own_files(files))
    # Named outputs are taken by name, in the order of the task, and counted at every answer.
    foreign = msgspec.structs.replace(model.foreign, outputs=model.task.names)
    running = IsolatedModel(own_files(files), foreign, model=model.name, root=root, python=python)
    try:
        names = _columns(model.foreign.inputs or [name for name, _ in running.found["columns"]])
        answer = running.run(np.zeros((2, len(names)), np.float32) if rows is None else np.asarray(rows, np.float32))
        said = running.output_names()
        libraries, whole = running.found["libraries"], _whole(running.found, names)
    finally:
        running.close()
        running.wait()
    width = answer.shape[1]
    if width != model.task.outputs:
        raise InputError(
            "the answers do not fit the task",
            got=f"{width} numbers per row for {model.task.outputs} of {model.task.kind}",
            hint=_fitting(model.task),
        )
    tried = "two rows of zeros" if rows is None else f"{len(rows)} given rows"
    check_probabilities(answer, model.task, rows=tried, hint="answer with probabilities, or use --task regression")
    called = tuple(said) or ("output",)
    files[FILE] = msgspec.json.encode(msgspec.structs.replace(foreign, inputs=names, outputs=called))
    plan = tensor_plan(model.name, names, model.optional, whole=whole)
    return _packed(blobs, model, files, libraries=libraries, plan=plan, names=names)


def _fitting(task: Task) -> str:
    """What a model of a task answers with for a row. Named outputs were counted in its own process already."""
    if task.kind == "binary":
        return "a binary model answers with the probability of the positive class"
    return "a regression answers with one number; name its outputs where there are several, as in --outputs low,high"


def _check_entry(foreign: Foreign, files: Mapping[str, bytes]) -> None:
    """That a handler's file is one of those that travel in the version, and not one beside them."""
    file = foreign.entry.partition(":")[0]
    if foreign.kind == "handler" and PurePosixPath(file).as_posix() not in files:
        raise InputError(
            "the entry is no file of the model's directory",
            got=foreign.entry,
            hint="name a file below it, as in handler.py or src/handler.py:Handler; only what lies there travels",
        )


def _columns(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        raise InputError("the columns of the model are not known", hint="name them: its signature does not")
    return different(names)


def _whole(found: Mapping[str, Any], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """The columns of integers, by the signature of the model, and the smallest and largest number for each."""
    types = dict(found["columns"]) | (dict.fromkeys(names, found["every"]) if found["every"] else {})
    spans = {}
    for name in names:
        kind: np.dtype[Any] = np.dtype(types.get(name, "float32"))
        if kind.kind in "iu":
            low, high = np.iinfo(kind).min, np.iinfo(kind).max
            spans[name] = (float(max(low, -MOST_WHOLE)), float(min(high, MOST_WHOLE)))
        elif kind.kind == "b":
            spans[name] = (0.0, 1.0)
    return spans


def _packed(
    blobs: Blobs,
    model: ForeignModel,
    files: dict[str, bytes],
    *,
    libraries: dict[str, str],
    plan: Plan,
    names: tuple[str, ...],
) -> str:
    card = f"# {model.name}\n\nMade elsewhere; it runs in a process of its own.\n"
    manifest = Manifest(
        format=FORMAT,
        model=model.name,
        task=model.task.kind,
        runtime=model.foreign.kind,
        files={},
        inputs=(Tensor("input", "float32", (-1, len(names))),),
        outputs=(Tensor("output", "float32", (-1, model.task.outputs)),),
        plan_digest=plan.digest,
        dataset_digest="",
        trained_until=model.trained_until,
        code_revision="",
        libraries=libraries,
        classes=model.task.names,
        parity=ExportParity(rows=0, largest_difference=0.0, share_beyond=0.0, flipped=0, tolerance=0.0),
    )
    return pack(blobs, {**files, **column_order(names), PLAN: plan.to_json(), CARD: card.encode()}, manifest=manifest)
