"""The event log as a continuation of a project's history: rows, requests and labels that came in live."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trimtab.app.data import Known, in_order, labels_of
from trimtab.app.history import asked_by, empty_columns, history_limit
from trimtab.app.home import Home
from trimtab.core.ports import Columns, Records
from trimtab.datasets.ingest import logged_columns
from trimtab.errors import Unavailable
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History
from trimtab.features.sources import Source
from trimtab.loop.model import ModelSpec
from trimtab.loop.project import Project
from trimtab.serving.record import PREDICTIONS, PredictionRecord, decode_record


def with_event_log(project: Project, spec: ModelSpec, known: Known, home: Path) -> Known:
    """What the files say as far as they count, and what was posted and asked since."""
    records = Home(home).records("reader")
    until = history_limit(home)
    histories = {}
    for name in {*project.plan(spec.name).sources(), spec.label.source.name}:
        source = project.sources[name]
        history = known.histories.get(name) or History.of(source, empty_columns(source))
        columns = logged_columns(source, records)
        histories[name] = history if until is None else history.until(until)
        if columns is not None:
            histories[name] = histories[name].extend(columns)
    asked = asked_requests(spec, records)
    requests = known.requests if until is None else asked_by(known.requests, until)
    requests = _joined(requests, asked) if asked is not None else requests
    return Known(histories, requests, labels_of(spec, histories), known.quarantine)


def asked_requests(spec: ModelSpec, records: Records) -> RequestBatch | None:
    """The requests of a model that were answered, each once, as they were sent; None when there are none."""
    source = spec.requests
    rows: dict[str, PredictionRecord] = {}
    for _, row in records.scan(PREDICTIONS):
        record = decode_record(row)
        raw = bool(source.keys) and not record.keys  # the caller brought features: nothing can be computed again
        if record.model == spec.name and record.arm != "shadow" and not raw:
            rows.setdefault(record.request_id, record)
    if not rows:
        return None
    found = list(rows.values())
    if source.columns and not found[0].inputs:
        raise Unavailable("the records hold no inputs", hint="they were written by a version that did not keep them")
    return RequestBatch(
        list(rows),
        np.array([record.asked_at for record in found], np.int64),
        {key.name: np.array([record.keys[key.name] for record in found]) for key in source.keys},
        inputs_of(source, [record.inputs for record in found]),
    )


def inputs_of(
    source: Source, sent: list[Mapping[str, object]] | list[dict[str, str | int | float | bool | None]]
) -> Columns:
    """The inputs of recorded requests as columns of their source, a missing number as NaN."""
    columns = {}
    for name, column in source.columns.items():
        values = [row.get(name) for row in sent]
        if column.kind == "float" or column.optional:
            columns[name] = np.array([np.nan if value is None else value for value in values], np.float64)
        else:
            columns[name] = np.array(values)
    return columns


def _joined(first: RequestBatch, second: RequestBatch) -> RequestBatch:
    """Both, in order of asking; a request that is in the history already is not taken again."""
    old = set(first.ids)
    fresh = [place for place, request in enumerate(second.ids) if request not in old]
    ids = [*first.ids, *(second.ids[place] for place in fresh)]

    def both(one: Columns, other: Columns) -> Columns:
        return {name: np.concatenate([values, other[name][fresh]]) for name, values in one.items()}

    at = np.concatenate([first.at, second.at[fresh]])
    return in_order(RequestBatch(ids, at, both(first.keys, second.keys), both(first.inputs, second.inputs)))
