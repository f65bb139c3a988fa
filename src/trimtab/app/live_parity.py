"""Live parity: a few of the latest answers, their features computed again from history and event log."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Sequence

import msgspec
import numpy as np

from trimtab.adapters.files import write_atomic
from trimtab.app.eventlog import inputs_of
from trimtab.app.history import history_limit, read_limited
from trimtab.app.home import Home
from trimtab.app.loading import bundle_modules
from trimtab.core.ids import Json
from trimtab.datasets.ingest import logged_since
from trimtab.errors import TrimtabError
from trimtab.features.batch import RequestBatch
from trimtab.features.history import History
from trimtab.features.parity import check, relevant
from trimtab.loop.project import Project
from trimtab.registry.bundle import load
from trimtab.serving.record import ASIDE, PREDICTIONS, PredictionRecord, decode_record

EVERY_S = 60.0
_SAMPLE = 10
_CURSORS = "parity.json"
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

    Notes
    -----
    History and event log are read once, and held in memory; a check reads on where the last one was, in records and in
    the log, and compares among the rows of the keys that were asked. It costs what was recorded and logged since, and
    one pass over the key columns.
    """

    def __init__(self, project: Project, home: Home, *, every_s: float = EVERY_S) -> None:
        self._project, self._home, self._every = project, home, every_s
        self._records, self._blobs = home.records("parity"), home.blobs()
        self._file = home.run / _CURSORS
        self._cursors = self._restored()
        self._known: dict[str, History] = {}
        """History and event log of each source, as far as they were read."""
        self._logged: dict[str, dict[str, int]] = {}
        """How far the event log was read, by source and writer."""
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
        if latest:
            write_atomic(self._file, msgspec.json.encode(self._cursors))
        for version, records in latest.items():
            self._compare(version, list(records))

    def _restored(self) -> dict[str, int]:
        """How far the last process came; a sample is a sample, so what cannot be read is no loss."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return {}

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
        histories, watermarks = relevant(
            plan,
            {name: self._history(name) for name in plan.sources()},
            requests,
            {name: np.array([record.watermarks[name][0] for record in records], np.int64) for name in plan.sources()},
        )
        report = check(
            plan,
            histories,
            bundle_modules(bundle),
            ids=ids,
            requests=requests,
            served=np.stack([record.feature_values() for record in records]),
            watermarks=watermarks,
        )
        found = {"mismatch": report.mismatched, "missing": report.missing, "extra": report.extra}
        self._counts.update({"sampled": report.rows, **found})
        if not report.ok:
            _log.error("features of version %s were served wrongly: %s", version[:12], dict(report.features))

    def _history(self, name: str) -> History:
        source = self._project.sources[name]
        if name not in self._known:
            self._known[name] = read_limited(self._project, name, history_limit(self._home.root))
            self._logged[name] = {}
        logged, reached = logged_since(source, self._records, self._logged[name])
        if logged is not None:
            self._known[name], self._logged[name] = self._known[name].extend(logged), reached
        return self._known[name]
