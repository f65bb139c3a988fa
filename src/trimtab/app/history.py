"""What was known before the event log began: read, limited, and held to what it was on the first start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.files import write_atomic
from trimtab.adapters.offline.parquet import read_history
from trimtab.app.fencing import append_platform
from trimtab.app.platform import HISTORY_READ
from trimtab.core.clock import Micros, iso
from trimtab.core.ids import derived_id
from trimtab.core.ledger import PLATFORM, Draft, Ledger
from trimtab.core.ports import Columns
from trimtab.errors import ProjectError
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History
from trimtab.features.sources import Source
from trimtab.loop.project import Project

LIMIT = "history.json"
"""Says up to when the history files count; what became known later comes over HTTP."""
_TYPES = {"time": np.int64, "int": np.int64, "float": np.float64, "bool": np.bool_, "str": np.str_}


def limit_history(home: Path, until: Micros) -> None:
    """Let the histories of this home end at a time, unless they have an end already."""
    if history_limit(home) is None:
        write_atomic(home / LIMIT, json.dumps({"until": until}).encode())


def history_limit(home: Path) -> Micros | None:
    """The time after which rows of the history files do not count; None when all of them do."""
    try:
        return int(json.loads((home / LIMIT).read_bytes())["until"])
    except FileNotFoundError:
        return None


def live_sources(project: Project) -> list[str]:
    """The sources whose rows are posted: those that feed a feature or a label, sorted."""
    names = {name for model in project.models for name in project.plan(model).sources()}
    return sorted(names | {spec.label.source.name for spec in project.models.values()})


def read_limited(project: Project, name: str, until: Micros | None) -> History:
    """The history of a source as far as it counts; empty when the source declares none."""
    source = project.sources[name]
    if not source.history:
        return History.of(source, empty_columns(source))
    history = History.of(source, read_history(source, Path(project.root)).columns)
    return history if until is None else history.until(until)


def empty_columns(source: Source) -> Columns:
    """No rows, but every column with its type."""
    columns: dict[str, NDArray[np.generic]] = {}
    for name, column in source.every_column().items():
        carried = np.float64 if column.optional and column.kind in ("int", "bool") else _TYPES[column.kind]
        columns[name] = np.array([], dtype=carried)
    return columns


def asked_by(requests: RequestBatch, until: Micros) -> RequestBatch:
    """The requests asked by a time; they must be in order of asking."""
    stop = int(np.searchsorted(requests.at, until, side="right"))
    return RequestBatch(
        requests.ids[:stop],
        requests.at[:stop],
        {name: values[:stop] for name, values in requests.keys.items()},
        {name: values[:stop] for name, values in requests.inputs.items()},
    )


def hold_histories(ledger: Ledger, histories: Iterable[History], *, now: Micros, epoch: int) -> None:
    """Record each history on first sight, and refuse one that is not what it was then.

    The rows of a history are the first rows of its source: positions in the event log, watermarks of the online rows
    and of every prediction count from there. A changed file would silently shift them all.

    Raises
    ------
    ProjectError
        When a history has changed.
    """
    held: Mapping[str, Mapping[str, object]] = {
        str(event.data["source"]): event.data for event in ledger.read(stream=PLATFORM) if event.type == HISTORY_READ
    }
    for history in histories:
        found = {"source": history.source, "rows": len(history), "digest": _digest(history)}
        before = held.get(history.source)
        if before is None:
            name = derived_id(PLATFORM, HISTORY_READ, history.source)
            draft = Draft(name, HISTORY_READ, found, now, now, actor="control")
            append_platform(ledger, draft, epoch=epoch)
        elif (before["rows"], before["digest"]) != (found["rows"], found["digest"]):
            until = f", last known {iso(int(history.known[-1]))}" if len(history) else ""
            raise ProjectError(
                f"the history of {history.source!r} is not what it was when this home was made",
                got=f"{found['rows']} rows{until}; it had {before['rows']}",
                hint="put the old file back and post new rows to /v1/events/"
                f"{history.source}, or start with another home",
            )


def _digest(history: History) -> str:
    total = hashlib.sha256()
    for name in sorted(history.columns):
        column = history.columns[name]
        total.update(f"{name}:{column.dtype.kind}:".encode())
        total.update(np.ascontiguousarray(_narrow(column)).tobytes())
    return total.hexdigest()


def _narrow(column: NDArray[np.generic]) -> NDArray[np.generic]:
    """Texts as wide as the longest of these rows: rows that come later in the file must not change the digest."""
    if column.dtype.kind != "U" or not len(column):
        return column
    letters = np.ascontiguousarray(column).view(np.uint32).reshape(len(column), -1)
    used = np.flatnonzero(letters.any(axis=0))
    return letters[:, : used[-1] + 1 if len(used) else 0]
