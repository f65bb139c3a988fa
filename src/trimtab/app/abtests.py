"""The readout of an A/B test, from the ledger, the prediction records and the labels; no control process is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.adapters.project.file import load_project
from trimtab.app.data import labels_of
from trimtab.app.history import history_limit, read_limited
from trimtab.app.live import standing_clock
from trimtab.app.operations import existing_home
from trimtab.core.clock import Micros, iso
from trimtab.core.ledger import Event, Ledger, model_stream
from trimtab.core.ports import Records
from trimtab.datasets.ingest import logged_columns
from trimtab.errors import InputError, UnknownName
from trimtab.gates.abtest import ArmRows, read_out
from trimtab.loop import events as e
from trimtab.loop.model import ModelSpec
from trimtab.loop.project import Project
from trimtab.monitoring.days import Labels
from trimtab.serving.record import ASIDE, PREDICTIONS, PredictionRecord, decode_record, in_test
from trimtab.stats.metrics import losses

Result = dict[str, Any]
METRICS = ("outcome", "loss")


def ab(path: Path, model: str, *, home: Path | None, metric: str, test: str | None) -> Result:
    """How an A/B test stands: the newest one, or the one whose rollout id begins so.

    Raises
    ------
    UnknownName
        When there was none.
    InputError
        When the metric makes no sense for the model.
    """
    place = existing_home(path, home)
    ledger = place.ledger()
    began, ended = _the_test(ledger, model, test)
    rollout = str(began.data["rollout"])
    project = load_project(path)
    spec = project.model(model)
    _check_metric(spec, metric)
    records = place.records("reader")
    answered = _answered(records, model, rollout)
    now = standing_clock(place)[0].now()
    labels = _labels(project, spec, records, place.root)
    arms = {name: _rows(found, labels, spec, metric=metric, now=now) for name, found in answered.items()}
    shares = {arm["name"]: arm["share"] for arm in began.data["arms"]}
    found = asdict(read_out(arms, shares))
    versions = {arm["name"]: arm["version"] for arm in began.data["arms"]}
    for arm in found["arms"]:
        arm |= {"version": versions[arm["name"]], "share": shares[arm["name"]]}
    return {
        "model": model,
        "test": rollout,
        "unit": began.data["unit"],
        "metric": metric,
        "since": iso(began.known),
        "ended": iso(ended.known) if ended is not None else None,
        **found,
    }


def _check_metric(spec: ModelSpec, metric: str) -> None:
    """A mean of class numbers would mean nothing."""
    if len(spec.label.columns) > 1:
        raise InputError("a test of a model with several labels cannot be read out", got=spec.name)
    if metric == "outcome" and spec.task.kind == "multiclass":
        raise InputError("the outcome is a class, and has no mean", got=spec.name, hint="--metric loss")


def _the_test(ledger: Ledger, model: str, named: str | None) -> tuple[Event, Event | None]:
    """The event that began a test, and the one that ended it."""
    events = list(ledger.read(stream=model_stream(model)))
    tests = [
        event
        for event in events
        if event.type == e.ROLLOUT_STARTED
        and event.data.get("strategy") == "ab"
        and str(event.data["rollout"]).startswith(named or "")
    ]
    if not tests:
        raise UnknownName("there was no such A/B test", got=named or model, hint="trimtab deploy … --strategy ab")
    began = tests[-1]
    ends = (e.PROMOTED, e.ROLLED_BACK, e.REJECTED)
    after = (event for event in events if event.type in ends and event.data["rollout"] == began.data["rollout"])
    return began, next(after, None)


def _answered(records: Records, model: str, rollout: str) -> dict[str, list[PredictionRecord]]:
    """What the arms of a test answered, each request once; forced answers have another arm, and are not among them."""
    found: dict[str, dict[str, PredictionRecord]] = {}
    for _, row in records.scan(PREDICTIONS):
        record = decode_record(row)
        if record.model == model and record.rollout == rollout and in_test(record) and record.arm not in ASIDE:
            found.setdefault(record.arm, {}).setdefault(record.request_id, record)
    return {arm: list(rows.values()) for arm, rows in found.items()}


def _labels(project: Project, spec: ModelSpec, records: Records, home: Path) -> Labels:
    source = spec.label.source
    history = read_limited(project, source.name, history_limit(home))
    logged = logged_columns(source, records)
    events = labels_of(spec, {source.name: history if logged is None else history.extend(logged)})
    labels = Labels()
    labels.add(events.ids.tolist(), events.values.tolist(), events.known.tolist())
    return labels


def _rows(found: Iterable[PredictionRecord], labels: Labels, spec: ModelSpec, *, metric: str, now: Micros) -> ArmRows:
    """The metric of each answer whose label has had its time to come; others would favour what is known early."""
    records = list(found)
    asked = np.array([record.asked_at for record in records], dtype=np.int64)
    until = asked + spec.label.matures
    truth = labels.within([record.request_id for record in records], until)
    truth[until > now] = np.nan
    failed = sum(record.status.startswith("error") for record in records)
    values = truth if metric == "outcome" else _losses(records, truth, spec.task.loss)
    return ArmRows([record.unit for record in records], values, failed)


def _losses(records: list[PredictionRecord], truth: NDArray[np.float64], loss: str) -> NDArray[np.float64]:
    width = max((len(record.outputs) for record in records), default=1)
    missing = (np.nan,) * width
    said = np.array([record.outputs if len(record.outputs) == width else missing for record in records], np.float64)
    if not records:
        return np.zeros(0)
    has = ~np.isnan(truth) & np.isfinite(said.reshape(len(records), width)).all(axis=1)
    values = np.full(len(records), np.nan)
    values[has] = losses(loss, truth[has], said[has, 0] if width == 1 else said[has])
    return values
