"""Scheduling a batch: what could not run later is refused now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trimtab.adapters.offline.database import is_url
from trimtab.app.batches import LIVE, BatchRequest, batch_home, check_precompute, features_of, open_rows, resolve
from trimtab.app.home import Home
from trimtab.app.live import standing_clock
from trimtab.app.schedules import TIME, Schedule, absolute, check_schedule, end_schedule, make_folder, put_schedule
from trimtab.core.clock import Micros
from trimtab.errors import InputError
from trimtab.registry.bundle import load


def schedule(
    project: Path, model: str, rows: str, *, out: str, every: Micros, options: Mapping[str, Any], home: Path | None
) -> dict[str, Any]:
    """Let the control process run a batch every so often; see :func:`trimtab.app.schedule_batch`."""
    kept, place = batch_home(project, home), absolute(out)
    if every:
        asked = Schedule(model, absolute(rows), place, every, standing_clock(kept)[0].now(), dict(options))
        check_schedule(asked)
        _check_project(kept)
        _check_rows(kept, asked)
        make_folder(place)
        put_schedule(kept, asked)
    elif not end_schedule(kept, model, place):
        raise InputError("there is no such schedule", got=f"{model} to {place}")
    return {"model": model, "rows": rows, "out": place, "every": every, "scheduled": bool(every)}


def _check_project(home: Home) -> None:
    """Schedules are run by the control process of a project, whose ledger is in the home."""
    if not (home.root / "ledger.db").exists():
        raise InputError(
            "`trimtab up` runs what is scheduled, and no project is kept in this home",
            got=str(home.root),
            hint="leave --every out, and run the command by cron or a timer",
        )


def _check_rows(home: Home, asked: Schedule) -> None:
    """What is named in full must be there already; what the scheduled time names, or a database holds, comes later."""
    batch = BatchRequest(asked.model, asked.rows, asked.out, **asked.options)
    check_precompute(batch, LIVE)
    if not is_url(asked.rows) and TIME not in asked.rows:
        table = open_rows(batch)
        if batch.precompute:
            bundle = load(home.blobs(), resolve(home, asked.model, batch.version))
            check_precompute(batch, features_of(bundle, table, batch))
