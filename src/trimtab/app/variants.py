"""Int8 variants of a project's versions: made and measured here, then registered through the loop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.models.quantise import Mode, Quantised, quantise
from trimtab.app.home import Home
from trimtab.app.jobs import TrainingOrder, held_out
from trimtab.app.judging import champion_of, judged, named_version
from trimtab.app.naming import registered
from trimtab.app.operations import ask, existing_home
from trimtab.app.replaying import checked_project
from trimtab.core.ledger import Event, model_stream
from trimtab.datasets.frozen import FrozenSplit
from trimtab.errors import InputError
from trimtab.loop import events as e

Result = dict[str, Any]
_FACT_DIGITS = 6


def quantise_version(path: Path, model: str, version: str | None, *, mode: str, home: Path | None = None) -> Result:
    """Make an int8 variant of a version, measure both on the version's held-out tail, and register it as a candidate.

    ``{model, version, number, parent, variant, rows, before, after, difference, registered, sentence, passed,
    checks}``; ``before`` and ``after`` hold metrics, latencies and sizes.

    Raises
    ------
    UnknownName
        When there is no such version, or none is live and none was named.
    InputError
        When it has no weights that could be int8.
    """
    if mode not in get_args(Mode):
        raise InputError("no such mode", got=repr(mode), hint="dynamic or static")
    project = checked_project(path)
    place = existing_home(Path(project.root), home)
    events = list(place.ledger().read(stream=model_stream(model)))
    parent = named_version(events, version or _champion(events, model))
    data = _rows(Path(project.root) / project.file, place, model, events, parent)
    found = quantise(
        place.blobs(),
        parent,
        mode=cast("Mode", mode),
        rows=data.holdout.X,
        labels=data.holdout.y,
        calibration=_spread(data.train.X),
        timer=time.perf_counter_ns,
    )
    facts = msgspec.json.encode(_facts(found, mode)).decode()
    answer = ask(
        path, model, "variant", home=home, version=found.after.version, facts=facts, reason=f"int8-{mode}", actor=None
    )
    ledger = place.ledger()
    verdict = judged(ledger, model, found.after.version) if answer["accepted"] else {"passed": None, "checks": []}
    return {
        "model": model,
        "version": found.after.version,
        "number": registered(ledger.read(stream=model_stream(model))).get(found.after.version),
        "parent": parent,
        "variant": f"int8-{mode}",
        "rows": len(data.holdout),
        "before": msgspec.to_builtins(found.before),
        "after": msgspec.to_builtins(found.after),
        "difference": msgspec.to_builtins(found.difference),
        "registered": answer["accepted"],
        "sentence": answer["sentence"],
        "passed": verdict["passed"],
        "checks": verdict["checks"],
    }


def _champion(events: list[Event], model: str) -> str:
    if champion := champion_of(events, model):
        return champion
    trained = [str(event.data["version"]) for event in events if event.type == e.VERSION_REGISTERED]
    if not trained:
        raise InputError("nothing was trained yet", got=model, hint=f"trimtab train {model}")
    return trained[-1]


def _rows(file: Path, home: Home, model: str, events: list[Event], version: str) -> FrozenSplit:
    """What the version was trained on and held out from, computed again as of its cutoff."""
    job = next(
        (
            event.data["job"]
            for event in events
            if event.type == e.VERSION_REGISTERED and event.data["version"] == version
        ),
        "",
    )
    asked = next(
        (event.data for event in events if event.type == e.TRAINING_REQUESTED and event.data["job"] == job), None
    )
    if asked is None:
        raise _not_trained(events, version)
    order = TrainingOrder(
        project=str(file),
        model=model,
        cutoff=int(asked["cutoff"]),
        seed=0,
        blobs=str(home.root / "blobs"),
        home=str(home.root),
    )
    return held_out(order)


def _not_trained(events: list[Event], version: str) -> InputError:
    for event in events:
        if event.type == e.VARIANT_MEASURED and event.data["version"] == version:
            parent = str(event.data["parent"])
            named = registered(events).get(parent) or parent[:12]
            what = f"this version is a variant ({event.data['variant']}) itself"
            return InputError(
                what, got=version[:12], hint=f"quantise the version that it was made of: --version {named}"
            )
    what = "this version was not trained here, so its held-out rows are not known"
    return InputError(what, got=version[:12], hint="name a version that `trimtab train` made")


def _spread(rows: NDArray[np.float32], most: int = 1000) -> NDArray[np.float32]:
    """Rows from the whole of the training part: calibrated on one season, ranges would be those of that season."""
    picked = np.linspace(0, len(rows) - 1, num=min(most, len(rows))).astype(np.int64)
    return rows[picked]


def _facts(found: Quantised, mode: str) -> Result:
    before, after = found.before, found.after

    def short(value: float) -> float:
        return float(f"{value:.{_FACT_DIGITS}g}")

    times = ("one_row_p50_ms", "one_row_p99_ms", "batch_p50_ms")
    return {
        "parent": before.version,
        "variant": f"int8-{mode}",
        "metrics": {name: short(value) for name, value in after.metrics.items()},
        "parent_metrics": {name: short(value) for name, value in before.metrics.items()},
        "size_bytes": after.size_bytes,
        "parent_size_bytes": before.size_bytes,
        "largest_difference": short(found.difference.largest_difference),
        "flipped": found.difference.flipped,
        "rows": found.difference.rows,
        "p99_ms": short(after.one_row_p99_ms),
        "latencies": {
            **{name: short(getattr(after, name)) for name in times},
            **{f"parent_{name}": short(getattr(before, name)) for name in times},
        },
    }
