"""Live parity: a few of the latest answers, their features computed again from history and event log."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Sequence

import numpy as np

from trimtab.app.eventlog import inputs_of
from trimtab.app.history import history_limit, read_limited
from trimtab.app.home import Home
from trimtab.app.loading import bundle_modules
from trimtab.core.ids import Json
from trimtab.datasets.ingest import logged_columns
from trimtab.errors import TrimtabError
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History
from trimtab.features.parity import check
from trimtab.loop.project import Project
from trimtab.registry.bundle import load
from trimtab.serving.record import ASIDE, PREDICTIONS, PredictionRecord, decode_record

EVERY_S = 60.0
_SAMPLE = 10
_log = logging.getLogger("trimtab.control")


class LiveParity:
    """Checks the latest answers of every version once a minute, in a thread of its own.

    Parameters
    ----------
    project
        Declares the sources.
    home
        Where records, event log and bundles are; everything is only read.
    every_s
        Seconds between two checks.
    """

    def __init__(self, project: Project, home: Home, *, every_s: float = EVERY_S) -> None:
        self._project, self._home, self._every = project, home, every_s
        self._records, self._blobs = home.records("parity"), home.blobs()
        self._cursors: dict[str, int] = {}
        self._first: dict[str, History] = {}
        """What was known before the event log, by source; it does not change."""
        self._counts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="parity", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for a check that is under way."""
        self._stop.set()

    def status(self) -> dict[str, Json]:
        """Rows checked since the start, and values that differ, are missing or are too many among their features."""
        return {name: self._counts[name] for name in ("sampled", "mismatch", "missing", "extra")}

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            try:
                self.check()
            except TrimtabError as error:
                _log.warning("served features are not checked: %s", error)
            except Exception:  # noqa: BLE001 - the thread lives on, and the platform does not need it
                _log.exception("served features are not checked")

    def check(self) -> None:
        """Compare a few of the answers that were recorded since the last time.

        Raises
        ------
        TrimtabError
            When a version or a history cannot be read.
        """
        latest: dict[str, deque[PredictionRecord]] = {}
        for place, row in self._records.scan(PREDICTIONS, after=dict(self._cursors)):
            self._cursors[place.writer] = place.offset
            record = decode_record(row)
            if record.features and record.keys and record.arm not in ASIDE and record.status[:5] != "error":
                latest.setdefault(record.version, deque(maxlen=_SAMPLE)).append(record)
        for version, records in latest.items():
            self._compare(version, list(records))

    def _compare(self, version: str, records: Sequence[PredictionRecord]) -> None:
        bundle = load(self._blobs, version)
        plan = bundle.plan
        ids = [record.request_id for record in records]
        requests = RequestBatch(
            ids,
            np.array([record.asked_at for record in records], np.int64),
            {key: np.array([record.keys[key] for record in records]) for key in plan.requests.keys},
            inputs_of(self._project.model(bundle.manifest.model).requests, [record.inputs for record in records]),
        )
        report = check(
            plan,
            {name: self._history(name) for name in plan.sources()},
            bundle_modules(bundle),
            ids=ids,
            requests=requests,
            served=np.stack([record.feature_values() for record in records]),
            watermarks={
                name: np.array([record.watermarks[name][0] for record in records], np.int64) for name in plan.sources()
            },
        )
        found = {"mismatch": report.mismatched, "missing": report.missing, "extra": report.extra}
        self._counts.update({"sampled": report.rows, **found})
        if not report.ok:
            _log.error("features of version %s were served wrongly: %s", version[:12], dict(report.features))

    def _history(self, name: str) -> History:
        source = self._project.sources[name]
        if name not in self._first:
            self._first[name] = read_limited(self._project, name, history_limit(self._home.root))
        logged = logged_columns(source, self._records)
        return self._first[name] if logged is None else self._first[name].extend(logged)
