"""The observer of one model, fed with what workers record and with the labels that come in, and kept over restarts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trimtab.app.observer_state import read_observer_state, write_observer_state
from trimtab.app.replaying import observer_config
from trimtab.core.ports import Blobs, Columns, Records
from trimtab.datasets.profile import Profile
from trimtab.errors import IntegrityError, TrimtabError
from trimtab.features.plan import Plan
from trimtab.loop.model import ModelSpec
from trimtab.monitoring.observer import Observer
from trimtab.monitoring.rebuild import answers_from_records, failures
from trimtab.registry.bundle import load
from trimtab.serving.record import PREDICTIONS, SHADOW, UNCOUNTED, PredictionRecord, decode_record, in_test
from trimtab.training.labels import label_values

_LABELS = "=labels"
"""Among the cursors: how many rows of the label's source have been told. No writer has such a name."""
_PIECE = 20_000

_log = logging.getLogger("trimtab.loop")


class LiveObserver:
    """Reads records behind a cursor per writer, so that each answer is counted once, whatever process dies.

    Parameters
    ----------
    slow
        Whether latency counts: not under a clock that a driver moves.
    """

    def __init__(self, spec: ModelSpec, home: Path, *, blobs: Blobs, records: Records, slow: bool) -> None:
        self._spec, self._home, self._blobs, self._records = spec, home, blobs, records
        self._config, self._slow = observer_config(spec, slow=slow), slow
        self._unpaired: set[tuple[str, str]] = set()
        """Under a driven clock: answers in a rollout that its other arm has not scored yet."""
        self._plans: dict[str, Plan] = {}
        self._unread: set[str] = set()
        """Versions whose records cannot be counted; said once."""
        self._cursors: dict[str, int] = {}
        self.observer = Observer(self._config)
        self.changed = False
        """Whether more is held than the last snapshot says."""

    def restore(self, versions: Iterable[str], labels: Columns | None, *, first_seq: int) -> None:
        """Take up where the last snapshot was; without one, everything is counted anew.

        Parameters
        ----------
        versions
            The registered ones.
        labels
            Rows of the label's source in the event log, in known order; None when there are none.
        first_seq
            Position of the first of them: the length of the history.
        """
        known = list(versions)
        try:
            kept = read_observer_state(self._home, self._spec.name)
            if kept is not None:
                self.observer, self._cursors = Observer.restore(self._config, kept[0]), dict(kept[1])
            self._start(known)
        except (IntegrityError, ValueError) as error:
            # A snapshot that cannot be read, or a spool whose end a power cut took: the records are the truth.
            _log.warning("%s: the observer is rebuilt from the records: %s", self._spec.name, error)
            self.observer, self._cursors, self._plans = Observer(self._config), {}, {}
            self._start(known)
        told = self._cursors.setdefault(_LABELS, first_seq)
        if labels is not None:
            rest = {name: values[max(told - first_seq, 0) :] for name, values in labels.items()}
            self.take_labels(rest, seq=first_seq + len(labels[self._spec.label.source.known]))

    def _start(self, versions: Iterable[str]) -> None:
        for version in versions:
            try:
                self.know(version)
            except TrimtabError as error:  # its records stay; only its drift cannot be told
                _log.error("version %s of %s cannot be read: %s", version[:12], self._spec.name, error)
        self.observe()

    def know(self, version: str) -> None:
        """Make a version's plan and reference profile known.

        Raises
        ------
        UnknownName, BundleCorrupt
            When its bundle cannot be read.
        """
        if version not in self._plans:
            bundle = load(self._blobs, version)
            if bundle.profile:  # one that was registered before there was anything to compare with has none: no drift
                self.observer.profile(version, Profile.from_json(bundle.profile))
            self._plans[version] = bundle.plan

    def take_labels(self, columns: Columns, *, seq: int) -> None:
        """Tell labels that came in; ``seq`` is how many rows their source has now."""
        label = self._spec.label
        ids: NDArray[np.str_] = columns[label.on].astype(np.str_)
        known = columns[label.source.known].astype(np.int64)
        if len(ids):
            self.observer.labelled(ids.tolist(), label_values(self._spec.task, label, columns), known)
        self._cursors[_LABELS] = seq
        self.changed = True

    def observe(self) -> None:
        """Take in what workers have recorded since the last time."""
        while piece := list(islice(self._recorded(), _PIECE)):
            # Runs of one version: its plan says how wide its rows are.
            for version, run in groupby(piece, key=lambda record: record.version):
                self._count(version, list(run))
            self.changed = True

    def settle(self, *, timeout_s: float) -> None:
        """Wait until what was answered in a rollout has been scored by its other arm too; for a driven clock.

        What has not come in that time has been dropped by the worker and is not waited for again.
        """
        deadline = time.monotonic() + timeout_s
        self.observe()
        while self._unpaired and time.monotonic() < deadline:
            time.sleep(0.005)
            self.observe()
        self._unpaired.clear()

    def _pair(self, record: PredictionRecord) -> None:
        if not record.rollout or in_test(record) or self._slow:  # the arms of a test do not score each other
            return
        # The worker that answers also scores, and writes the answer first.
        key = (record.rollout, record.request_id)
        if key in self._unpaired:
            self._unpaired.discard(key)
        elif record.arm != SHADOW:
            self._unpaired.add(key)

    def _recorded(self) -> Iterator[PredictionRecord]:
        for place, row in self._records.scan(PREDICTIONS, after=self._cursors):
            self._cursors[place.writer] = place.offset
            record = decode_record(row)
            if record.model == self._spec.name and record.arm not in UNCOUNTED:
                self._pair(record)
                yield record

    def _count(self, version: str, records: list[PredictionRecord]) -> None:
        try:
            self.know(version)
            found = list(answers_from_records(records, self._plans[version]))
        except TrimtabError as error:  # such as those of a version that was served by itself and is not the project's
            if version not in self._unread:
                _log.error("records of version %s cannot be read: %s", version[:12], error)
            self._unread.add(version)
            return
        for answers in found:
            self.observer.answered(answers)
        for (rollout, arm, failed), lost in failures(records).items():
            self.observer.failed(rollout, arm, failed, count=lost.rows, together=lost.together, units=lost.units)

    def save(self) -> None:
        """Keep what is held, with the cursors that belong to it."""
        if self.changed:
            write_observer_state(self._home, self._spec.name, self.observer.snapshot(), self._cursors)
            self.changed = False
