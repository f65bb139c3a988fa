"""A project's history as the platform takes it: validated, in known order, with the faults of a rehearsal put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trimtab.adapters.offline.parquet import read_history
from trimtab.core.clock import Micros, instant
from trimtab.core.ports import Columns
from trimtab.datasets.splits import LabelEvents
from trimtab.datasets.validation import Quarantine, Validated, request_batch
from trimtab.errors import InputError
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History
from trimtab.loop.model import ModelSpec
from trimtab.loop.project import Project
from trimtab.training.labels import label_values


@dataclass(frozen=True, slots=True)
class UnitFault:
    """A sender changes the unit of a column: every value is multiplied from a moment on."""

    source: str
    column: str
    factor: float
    since: Micros

    @staticmethod
    def parse(text: str) -> UnitFault:
        """Read ``unit:<source>.<column>*<factor>@<time>``, as in ``unit:orders.distance*1.609@2026-08-05``.

        Raises
        ------
        InputError
            When the text has another form.
        """
        try:
            kind, rest = text.split(":", 1)
            target, since = rest.split("@", 1)
            place, factor = target.split("*", 1)
            source, column = place.split(".", 1)
            fault = UnitFault(source, column, float(factor), instant(since))
        except ValueError:
            raise _unreadable(text) from None
        if kind != "unit":
            raise _unreadable(text)
        return fault

    def apply(self, source_known: str, columns: Columns) -> Columns:
        """The columns with the fault in them."""
        if self.column not in columns:
            raise InputError("the fault names no column of its source", got=repr(self.column))
        values = columns[self.column]
        if values.dtype.kind not in "if":
            raise InputError("a unit can only change on a column of numbers", got=f"{self.column}: {values.dtype}")
        touched = columns[source_known] >= np.int64(self.since)
        changed = np.where(touched, values.astype(np.float64) * self.factor, values.astype(np.float64))
        return {**columns, self.column: changed.astype(values.dtype)}


def _unreadable(text: str) -> InputError:
    return InputError(
        "not a fault that can be put on stage",
        got=repr(text),
        hint="write unit:SOURCE.COLUMN*FACTOR@TIME or bad-challenger@TIME",
    )


@dataclass(frozen=True)
class Known:
    """Everything that a project's files say, in known order."""

    histories: Mapping[str, History]
    """By source; of those that feed features or labels."""
    requests: RequestBatch
    """Of one model, in order of asking."""
    labels: LabelEvents
    """Of one model, in known order."""
    quarantine: Mapping[str, Quarantine]


def read_known(project: Project, spec: ModelSpec, faults: Sequence[UnitFault] = ()) -> Known:
    """Read every source of a model.

    Raises
    ------
    ProjectError, SchemaError
        When a file is missing or lacks a column.
    """
    names = {*project.plan(spec.name).sources(), spec.label.source.name}
    histories, quarantine = {}, {}
    for name in sorted(names):
        source = project.sources[name]
        if not source.history:
            continue
        validated = _read(project, name, faults)
        histories[name] = History.of(source, validated.columns)
        quarantine[name] = validated.quarantine
    asked = _read(project, spec.requests.name, faults)
    quarantine[spec.requests.name] = asked.quarantine
    return Known(
        histories, in_order(request_batch(spec.requests, asked.columns)), labels_of(spec, histories), quarantine
    )


def _read(project: Project, name: str, faults: Sequence[UnitFault]) -> Validated:
    source = project.sources[name]
    validated = read_history(source, Path(project.root))
    columns = validated.columns
    for fault in faults:
        if fault.source == name:
            columns = fault.apply(source.known, columns)
    return Validated(columns, validated.accepted, validated.quarantine)


def in_order(requests: RequestBatch) -> RequestBatch:
    """The requests by time of asking; at equal times as they came."""
    order = np.argsort(requests.at, kind="stable")
    ids = np.asarray(requests.ids)[order].tolist()
    return RequestBatch(
        ids,
        requests.at[order],
        {name: values[order] for name, values in requests.keys.items()},
        {name: values[order] for name, values in requests.inputs.items()},
    )


def labels_of(spec: ModelSpec, histories: Mapping[str, History]) -> LabelEvents:
    """The labels of a model, from the history of the source that carries them."""
    history = histories.get(spec.label.source.name)
    if history is None:
        empty = np.array([], np.int64)
        shape = (0, spec.task.outputs) if len(spec.label.columns) > 1 else 0
        return LabelEvents(np.array([], np.str_), np.zeros(shape), empty)
    values = label_values(spec.task, spec.label, history.columns)
    return LabelEvents(history.columns[spec.label.on].astype(np.str_), values, history.known)


def asked_until(known: Known, until: Micros) -> Known:
    """The same without the requests asked after ``until``; shares memory."""
    stop = int(np.searchsorted(known.requests.at, until, side="right"))
    requests = known.requests
    if stop == len(requests):
        return known
    first = RequestBatch(
        requests.ids[:stop],
        requests.at[:stop],
        {name: values[:stop] for name, values in requests.keys.items()},
        {name: values[:stop] for name, values in requests.inputs.items()},
    )
    return Known(known.histories, first, known.labels, known.quarantine)
