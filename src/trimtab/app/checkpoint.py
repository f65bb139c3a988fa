"""A checkpoint: the home of a replay as it stands at one moment, ready for the real processes to go on from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from trimtab.adapters.records.spool import SpoolRecords
from trimtab.app.history import limit_history
from trimtab.app.observer_state import write_observer_state
from trimtab.app.replaying import Staging
from trimtab.core.clock import Micros
from trimtab.serving.record import PREDICTIONS


def take_checkpoint(staging: Staging, target: Path) -> Callable[[Micros], None]:
    """What to call at the moment of the checkpoint: copies the replay's home to ``target``."""

    def copy(now: Micros) -> None:
        home = staging.home.root
        staging.rows.sync()
        shutil.rmtree(target, ignore_errors=True)
        for part in ("blobs", "online", "records"):
            shutil.copytree(home / part, target / part)
        (target / "run").mkdir()
        (target / "jobs").mkdir()
        for name in ("ledger.db", "ledger.db-wal"):
            if (home / name).exists():
                shutil.copy2(home / name, target / name)
        limit_history(target, now)
        counted: dict[str, int] = {}
        for place, _ in SpoolRecords(target / "records", "reader").scan(PREDICTIONS):
            counted[place.writer] = place.offset
        write_observer_state(target, staging.spec.name, staging.replay.observer.snapshot(), counted)

    return copy
