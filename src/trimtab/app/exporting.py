"""A version out of its home, in the form of another server."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from trimtab.adapters.models.triton import declared, stage_code, write_repository
from trimtab.app.batches import batch_home
from trimtab.app.bringing import hands_over_inputs
from trimtab.app.home import Home, named_home
from trimtab.app.naming import meant, registered
from trimtab.app.versions import SHORTEST, find_version
from trimtab.app.worker import read_profile
from trimtab.core.ledger import Event, model_stream
from trimtab.errors import UnknownName
from trimtab.registry.bundle import load
from trimtab.serving.triton import check_exportable, repository

Result = dict[str, Any]


def export_triton(
    project: Path, version: str, *, directory: Path, model: str | None = None, home: Path | None = None
) -> Result:
    """Write a version as a model repository of Triton; see :func:`trimtab.app.export`."""
    place = named_home(home) or batch_home(project)
    digest, number = _named(place, version, model)
    bundle = load(place.blobs(), digest)
    if model is not None and bundle.manifest.model != model:
        raise UnknownName(
            "the version is of another model", got=bundle.manifest.model, hint=f"--model {bundle.manifest.model}"
        )
    check_exportable(bundle, sent=hands_over_inputs(bundle))
    profile = read_profile(place.root).of(bundle.manifest.model)
    made = repository(bundle, declared(bundle.model), profile, number=number or 1, code=stage_code())
    written = write_repository(directory, made.files)
    return {
        "model": bundle.manifest.model,
        "version": digest,
        "number": number or None,
        "directory": str(directory),
        "models": [{"name": name, "backend": backend} for name, backend in made.models.items()],
        "files": sorted(made.files),
        "max_batch_size": made.max_batch,
        "written": written,
    }


def _named(place: Home, version: str, model: str | None) -> tuple[str, int]:
    """The digest of the version that is meant, and its number; 0 where the home gives none."""
    streams = _streams(place)
    if not streams:
        return find_version(place, version), 0
    if model is not None:
        streams = {name: known for name, known in streams.items() if name == model_stream(model)}
    versions = {digest: number for known in streams.values() for digest, number in known.items()}
    of = [
        name for name, known in streams.items() if any(number and str(number) == version for number in known.values())
    ]
    if len(of) > 1:
        raise UnknownName(
            "several models have a version of that number",
            got=repr(version),
            hint=f"--model {' or --model '.join(name.partition(':')[2] for name in of)}",
        )
    try:
        digest = meant(version, versions)
    except UnknownName:
        if len(version) < SHORTEST:
            raise
        digest = find_version(place, version)  # stored, though no loop has registered it
    return digest, versions.get(digest, 0)


def _streams(place: Home) -> dict[str, dict[str, int]]:
    """The versions of each model with their numbers; nothing where no project keeps its ledger."""
    if not (place.root / "ledger.db").exists():
        return {}
    events: dict[str, list[Event]] = defaultdict(list)
    for event in place.ledger().read():
        events[event.stream].append(event)
    return {name: known for name, found in events.items() if (known := registered(found))}
