"""``trimtab status``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trimtab.cli.answer import Result, answer, command, lines, when


@command("trimtab status", "trimtab status --project shop --json", "trimtab status --home /srv/shop")
def status(project: Path, *, home: Path | None, as_json: bool) -> None:
    """Show what is live, what is under way, what drifts, and how far sources are applied."""
    from trimtab import app

    answer(lambda: app.status(project, home=home), lambda result: "\n".join(_text(result)), as_json=as_json)


def _text(result: Result) -> Iterator[str]:
    control = result.get("control") or {}
    yield f"{result.get('project')} at {when(result.get('now'))}, control {control.get('state', 'unknown')}"
    for model in result.get("models") or []:
        yield ""
        yield from _model(model)
    for source in result.get("sources") or []:
        known = (source.get("watermark") or {}).get("known")
        yield f"source {source['name']}: {source.get('rows', 0):,} rows, applied up to {when(known)}"
    for batch in result.get("batches") or []:
        yield from _batch(batch)
    for worker in result.get("workers") or []:
        yield f"worker {worker.get('name')}: {worker.get('state')}, route {worker.get('generation')}{_load(worker)}"
    records = result.get("records") or {}
    for name, use in (records.get("tables") or {}).items():
        spools, parquet = (use[kind] / 1e6 for kind in ("spool_bytes", "parquet_bytes"))
        yield f"records {name}: {spools:,.1f} MB in spools, {parquet:,.1f} MB in Parquet, {use['files']} files"
    if refusing := records.get("refusing"):
        yield f"RECORDS CANNOT BE WRITTEN: {', '.join(refusing)} refuse every prediction until the disk has room"
    if lost := records.get("lost"):
        yield f"RECORDS LOST: {lost:,} predictions have no record"


def _model(model: Mapping[str, Any]) -> Iterator[str]:
    live, rollout, waiting = model.get("live"), model.get("rollout"), model.get("waiting")
    if live:
        since = when(live.get("since"))
        yield f"{model['name']}: {_short(live.get('version'))} live since {since} ({live.get('reason')})"
    else:
        yield f"{model['name']}: no version is live"
    if live and live.get("killed"):
        yield f"  KILLED: {live['killed']}"
    if waiting:
        yield f"  waiting: {waiting.get('what')} {_short(waiting.get('version'))} since {when(waiting.get('since'))}"
    if rollout:
        since = when(rollout.get("since"))
        yield f"  rollout {rollout.get('step')} of {_short(rollout.get('challenger'))} since {since}"
        yield from lines(rollout.get("evidence") or {}, indent=4)
    for drift in model.get("drift") or []:
        if drift.get("severity") in ("warning", "critical"):
            yield f"  drift {drift['severity']}: {drift['feature']}, PSI {drift.get('psi')}, line {drift.get('alarm')}"
    for decision in (model.get("decisions") or [])[:5]:
        yield f"  {when(decision.get('when'))}  {decision.get('sentence')}"


def _batch(batch: Mapping[str, Any]) -> Iterator[str]:
    yield f"batch {batch['model']} to {batch['out']}: every {batch['every']}, next {when(batch['next'])}"
    last = batch.get("last")
    if last is None:
        yield "  not run yet"
    elif last["result"] == "failed":
        yield f"  FAILED for {when(last['due'])}: {' '.join(str(last['error']).split())}"
    else:
        counts = f"{last['rows']:,} rows, {last['failed']:,} failed, {last['quarantined']:,} quarantined"
        yield f"  ran for {when(last['due'])}: {counts}"


def _load(worker: Mapping[str, Any]) -> str:
    if not worker.get("answered"):
        return ""
    return f", {worker['answered']:,} answered, {worker['errors']:,} errors, p99 {worker['p99_ms']:.1f} ms"


def _short(version: object) -> str:
    return str(version)[:12]
