"""A serving worker with the real parts of every room: ``python -m tests.e2e.serving_worker HOME NUMBER PORT [SETTINGS]``."""

from __future__ import annotations

import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from trimtab.adapters.blobs.directory import DirectoryBlobs
from trimtab.adapters.clock.system import SystemClock
from trimtab.adapters.online.lmdb import LmdbRows
from trimtab.adapters.records.spool import SpoolRecords
from trimtab.adapters.wire.worker import Worker, WorkerSettings, serve
from trimtab.app.loading import load_deployed
from trimtab.core.ports import Place


class SlowRecords(SpoolRecords):
    """A spool on a disk that takes its time."""

    slow_s = 0.0

    def write(self, table: str, rows: Sequence[bytes], *, sync: bool = False) -> Place:
        time.sleep(self.slow_s)
        return super().write(table, rows, sync=sync)


def store(root: Path, writer: str, *, slow_s: float) -> SpoolRecords:
    if not slow_s:
        return SpoolRecords(root, writer)
    records = SlowRecords(root, writer)
    records.slow_s = slow_s
    return records


def main(home: Path, number: int, port: int, more: Mapping[str, Any]) -> None:
    blobs, rows = DirectoryBlobs(home / "blobs"), LmdbRows(home / "online", readonly=True)
    worker = Worker(
        load=lambda version: load_deployed(blobs, rows, version),
        records=store(home / "records", f"worker-{number}", slow_s=float(more.get("slow_disk_s", 0.0))),
        clock=SystemClock(),
        timer=time.perf_counter_ns,
        new_id=lambda: uuid.uuid4().hex,
    )
    paths = {name: Path(more[name]) for name in ("metrics_folder", "access_log") if name in more}
    settings = WorkerSettings(
        number,
        home / "route.json",
        home / "run" / f"worker-{number}.json",
        port=port,
        software="test",
        **{name: value for name, value in {**more, **paths}.items() if name != "slow_disk_s"},
    )
    serve(worker, settings)
    (home / f"modules-{number}.json").write_bytes(msgspec.json.encode(sorted(sys.modules)))


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        int(sys.argv[3]),
        msgspec.json.decode(sys.argv[4] if sys.argv[4:] else "{}"),
    )
