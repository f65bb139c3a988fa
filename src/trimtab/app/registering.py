"""A model that was trained elsewhere, registered from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab.app.alone import register_model
from trimtab.app.home import HOME, Home
from trimtab.errors import InputError
from trimtab.registry.bundle import load
from trimtab.training.task import binary, multiclass, regression


def register_file(
    place: Path, file: Path, *, name: str, columns: Sequence[str], task: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """What ``trimtab register`` does."""
    if len(task) > 1:
        raise InputError("a model has one task", got=", ".join(task), hint="give one of them")
    declared = None
    for kind, names in task.items():
        match kind:
            case "binary":
                declared = binary(positive=names[0])
            case "multiclass":
                declared = multiclass(classes=names)
            case _:
                declared = regression(target=names[0] if len(names) == 1 else names)
    home = (place if place.is_dir() else place.parent) / HOME
    version = register_model(home, file.read_bytes(), name=name, task=declared, columns=columns)
    manifest = load(Home(home).blobs(), version).manifest
    shown = {
        said: [f"{tensor.name}: {tensor.dtype} {list(tensor.shape)}" for tensor in tensors]
        for said, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs))
    }
    return {"model": name, "version": version, "home": str(home), **shown}
