"""What came of a replay, as JSON: the fields of a report, ready to be drawn or printed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.app.jobs import modules_of
from trimtab.app.loading import answering
from trimtab.app.replaying import Staging, Watch
from trimtab.app.staged import staged_faults
from trimtab.core.clock import SECOND, Micros
from trimtab.core.ids import Json
from trimtab.core.ledger import Event, decision_digest
from trimtab.features import parity
from trimtab.features.batch import RequestBatch
from trimtab.features.parity import ParityReport
from trimtab.loop import events as e
from trimtab.loop import outcome
from trimtab.loop.outcome import Period, Scored
from trimtab.loop.sentences import describe
from trimtab.monitoring.blocks import DriftReport
from trimtab.registry.bundle import load
from trimtab.stats.metrics import losses
from trimtab.web.kinds import KIND_OF_EVENT, kind_of_event

PARITY_SHARE = 0.02
"""Share of the served predictions whose features are computed again."""


def results(staging: Staging, watch: Watch) -> dict[str, Any]:
    """Everything that the report of a replay shows, and its decision digest."""
    began = time.perf_counter()
    served, rows = staging.replay.served, staging.replay.answered
    requests = staging.known.requests
    asked_at = requests.at[rows.start : rows.stop]
    scored = _scored(staging)
    task, loss = staging.spec.task.kind, staging.spec.task.loss
    ledger = staging.home.ledger()
    parts = {
        "project": staging.project.root.rpartition("/")[2],
        "model": staging.spec.name,
        "task": task,
        "outcome": staging.spec.task.target,
        "loss": loss,
        "start": staging.options.start,
        "end": staging.options.until,
        "months": [_month(period) for period in outcome.months(scored, asked_at, task=task, loss=loss)],
        "total": _month(outcome.total(scored, asked_at, task=task, loss=loss), name="total"),
        "weeks": [_week(period) for period in outcome.weeks(scored, asked_at, task=task, loss=loss)],
        "decisions": _decisions(watch.events),
        "champions": _champions(staging, watch.events, scored),
        "digest": decision_digest(ledger.read()),
        "gain": _gain(scored.at, losses(loss, scored.label, scored.frozen) - losses(loss, scored.label, scored.served)),
        "drift": _drift_map(staging.replay.drift),
        "calibration_frozen": _calibration(scored.label, scored.frozen) if task == "binary" else [],
        "calibration_trimtab": _calibration(scored.label, scored.served) if task == "binary" else [],
        "parity": parity_of(staging),
        "quarantine": {
            name: {f"{column}: {reason}": count for (column, reason), count in report.counts.items()}
            for name, report in staging.known.quarantine.items()
            if report.total
        },
        "faults": staged_faults(staging.faults.units, staging.faults.bad_challengers, watch.events),
        "counts": _counts(staging, watch, answered=int(_whole(served.champion).sum())),
    }
    staging.timings["report"] = time.perf_counter() - began
    return {**parts, "timings": dict(staging.timings)}


def _scored(staging: Staging) -> Scored:
    """The answered requests that got a label, ever."""
    requests, labels, served = staging.known.requests, staging.known.labels, staging.replay.served
    last = dict(zip(labels.ids.tolist(), labels.values.tolist(), strict=True))
    rows = np.array(staging.replay.answered, np.int64)
    none = [np.nan] * labels.values.shape[1] if labels.values.ndim == 2 else np.nan
    label = np.array([last.get(requests.ids[row], none) for row in rows], np.float64)
    rows = rows[_whole(label) & _whole(served.champion[rows])]
    label = np.array([last[requests.ids[row]] for row in rows], np.float64)
    return Scored(requests.at[rows], label, served.champion[rows], served.frozen[rows], served.version[rows], rows)


def _whole(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows are numbers throughout."""
    return np.isfinite(values if values.ndim == 1 else values.sum(axis=1))


def _score(metrics: Mapping[str, float], loss: float) -> dict[str, Json]:
    return {"loss": loss, "auc": _finite(metrics.get("roc_auc")), "ece": _finite(metrics.get("ece"))}


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _month(period: Period, *, name: str = "") -> dict[str, Json]:
    return {
        "month": name or datetime.fromtimestamp(period.start / SECOND, UTC).strftime("%Y-%m"),
        "requests": period.requests,
        "labelled": period.labelled,
        "base_rate": period.label_mean,
        "frozen": _score(period.frozen, period.frozen_loss),
        "trimtab": _score(period.served, period.loss),
        "lost": period.lost,
    }


def _week(period: Period) -> dict[str, Json]:
    return {
        "week": period.start,
        "labelled": period.labelled,
        "frozen": _score(period.frozen, period.frozen_loss),
        "trimtab": _score(period.served, period.loss),
    }


def _decisions(events: Sequence[Event]) -> list[dict[str, Json]]:
    return [
        {
            "when": event.known,
            "kind": kind_of_event(event.type, event.data),
            "sentence": describe(event),
            "evidence": dict(event.data.get("evidence") or {}),
        }
        for event in events
        if event.type in KIND_OF_EVENT and not is_feature_drift(event)
    ]


def is_feature_drift(event: Event) -> bool:
    """Whether an event only says that one feature moved: that informs, and the drift map shows it better."""
    return event.type == e.DRIFT_CHANGED and event.data["feature"] != "prediction"


def _gain(at: NDArray[np.int64], gain: NDArray[np.float64]) -> dict[str, float] | None:
    if len(gain) == 0:
        return None
    low, high = outcome.interval(at, gain, seed=0)
    return {"mean": float(gain.mean()), "low": low, "high": high}


def _calibration(label: NDArray[np.float64], prediction: NDArray[np.float64]) -> list[dict[str, Json]]:
    return [
        {"predicted": predicted, "observed": observed, "rows": rows}
        for predicted, observed, rows in outcome.calibration(label, prediction)
    ]


def _champions(staging: Staging, events: Sequence[Event], scored: Scored) -> list[dict[str, Json]]:
    """What every champion cost and gained while it was live."""
    trained = {event.data["version"]: event.data for event in events if event.type == e.TRAINING_FINISHED}
    changes = [event for event in events if event.type == e.PROMOTED or _is_step_back(event)]
    found, first = [], ""
    for number, event in enumerate(changes):
        version = event.data["version"] if event.type == e.PROMOTED else event.data["to"]
        first = first or version
        until = changes[number + 1].known if number + 1 < len(changes) else None
        facts = trained.get(version, {})
        previous = "" if number == 0 else str(event.data.get("replaces") or "")
        reign = _rows_between(scored, event.known, until)
        found.append(
            {
                "version": version,
                "since": event.known,
                "until": until,
                "trained_until": facts.get("trained_until", 0),
                "rows": facts.get("rows", 0),
                "train_seconds": facts.get("train_seconds", 0.0),
                "versus_frozen": None if version == first else _against(staging, scored, reign, other=""),
                "versus_previous": _against(staging, scored, reign, other=previous) if previous else None,
            }
        )
    return found


def _is_step_back(event: Event) -> bool:
    return event.type == e.ROLLED_BACK and event.data["of"] == "champion"


def _rows_between(scored: Scored, start: Micros, until: Micros | None) -> NDArray[np.int64]:
    stop = len(scored.at) if until is None else int(np.searchsorted(scored.at, until, side="right"))
    return np.arange(int(np.searchsorted(scored.at, start, side="right")), stop)


def _against(staging: Staging, scored: Scored, rows: NDArray[np.int64], *, other: str) -> dict[str, float] | None:
    """Mean loss of another version (the frozen one when not named) minus that of the answers, on the same rows."""
    if len(rows) == 0:
        return None
    loss = staging.spec.task.loss
    if other:
        said = answering(load(staging.home.blobs(), other))(staging.replay.served.features[scored.rows[rows]])
    else:
        said = scored.frozen[rows]
    label = scored.label[rows]
    return _gain(scored.at[rows], losses(loss, label, said) - losses(loss, label, scored.served[rows]))


def _drift_map(reports: Sequence[DriftReport]) -> dict[str, Json] | None:
    if not reports:
        return None
    names = [one.feature for one in reports[0].features]
    by_name = [{one.feature: one for one in (*report.features, report.prediction)} for report in reports]

    def row(name: str) -> dict[str, Json]:
        cells = [found[name] for found in by_name]
        return {
            "feature": name,
            "cells": [
                {
                    "psi": None if cell.severity == "insufficient_data" else cell.psi,
                    "alarm": cell.alarm_psi,
                    "severity": cell.severity,
                }
                for cell in cells
            ],
        }

    return {
        "weeks": [report.start for report in reports],
        "prediction": row("prediction"),
        "features": [row(name) for name in names],
    }


def parity_of(staging: Staging, *, share: float = PARITY_SHARE) -> dict[str, Json]:
    """What :func:`parity_report` finds, in the fields of the report."""
    report = parity_report(staging, share=share)
    return {
        "sampled": report.rows,
        "values": report.values,
        "mismatch": report.mismatched,
        "missing": report.missing,
        "extra": report.extra,
        "largest": report.worst,
    }


def parity_report(staging: Staging, *, share: float, trust_time: bool = False) -> ParityReport:
    """Compute a sample of the served features again, offline, at the watermark each was read at.

    With ``trust_time`` they are computed as a training that leaks would, from everything that had happened by the time
    of asking, known or not.
    """
    served, requests = staging.replay.served, staging.known.requests
    answered = staging.replay.answered
    picked = parity.sample([requests.ids[row] for row in answered], share, "parity")
    rows = np.array(answered, np.int64)[picked]
    rows = rows[served.version[rows] >= 0]  # a request whose version failed has no features to compare
    batch = RequestBatch(
        [requests.ids[row] for row in rows],
        requests.at[rows],
        {name: values[rows] for name, values in requests.keys.items()},
        {name: values[rows] for name, values in requests.inputs.items()},
    )
    plan = staging.project.plan(staging.spec.name)
    watermarks = {name: served.watermarks[name][rows] for name in plan.sources()}
    return parity.check(
        plan,
        staging.known.histories,
        modules_of(staging.project),
        ids=batch.ids,
        requests=batch,
        served=served.features[rows],
        watermarks=None if trust_time else watermarks,
        trust_time=trust_time,
    )


def _counts(staging: Staging, watch: Watch, *, answered: int) -> dict[str, int]:
    until = staging.options.until
    delivered = sum(
        int(np.searchsorted(history.known, until, side="right")) for history in staging.known.histories.values()
    )
    types = [event.type for event in watch.events]
    return {
        "requests answered": answered,
        "requests asked": len(staging.replay.answered),
        "events delivered": delivered,
        "trainings": types.count(e.TRAINING_FINISHED),
        "promotions": types.count(e.PROMOTED),
        "rejections": types.count(e.REJECTED),
        "rollbacks": types.count(e.ROLLED_BACK),
        "events in the ledger": len(types),
    }
