"""What the control process does for its callers over HTTP, one thing at a time."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab.adapters.compute.supervisor import Supervisor
from trimtab.app.asked import read_request
from trimtab.app.keeping import Compactor
from trimtab.app.killing import standing_orders
from trimtab.app.latency import latency_status, routes_of
from trimtab.app.live import Live
from trimtab.app.live_parity import LiveParity
from trimtab.app.overview import counts_of, ledger_status, log_events, models_status, records_status, workers_status
from trimtab.app.platform import sentence
from trimtab.app.restarting import RollingRestart
from trimtab.app.schedules import Schedules, schedules_status
from trimtab.core.clock import SECOND, instant, iso
from trimtab.core.ids import Json
from trimtab.core.ledger import Event
from trimtab.errors import InputError, StaleEpoch, TrimtabError, UnknownName
from trimtab.loop import events as e
from trimtab.loop.observations import Asked
from trimtab.serving.counted import Counted

Page = Callable[[Mapping[str, Any]], str]

ASKED = ("train", "approve", "deny", "rollback", "force", "deploy", "kill", "revive", "variant", "register")
_SAVE_S, _BEAT_S, _LOOK_S = 10.0, 1.0, 0.1
_log = logging.getLogger("trimtab.control")


class LiveControl:
    """Implements :class:`trimtab.adapters.wire.control.Control` over a :class:`Live`.

    Parameters
    ----------
    page
        Makes the status page of a status.
    restart
        Restarts the workers when that is asked for.
    """

    def __init__(self, live: Live, supervisor: Supervisor, *, page: Page | None, restart: RollingRestart) -> None:
        self._live, self._supervisor, self._page, self._restart = live, supervisor, page, restart
        self._lock = threading.RLock()
        self._workers = threading.Lock()
        """Apart from the other: a tick that waits for a training must not keep a dead worker from being replaced."""
        self._saved = time.monotonic()
        self._compactor = Compactor(live.home, clock=live.clock)
        self._parity = LiveParity(live.project, live.home)
        self._batches = Schedules(Path(live.project.root), live.home, live.ledger, epoch=live.tenure.epoch)

    # -- asked over HTTP

    def ingest(self, source: str, rows: list[Mapping[str, Json]]) -> dict[str, Json]:
        """Take events of a source; on disk when it returns."""
        with self._lock:
            return self._live.take(source, rows).to_json()

    def status(self) -> dict[str, Json]:
        """Everything the status page shows."""
        live = self._live
        with self._lock:
            now = live.clock.now()
            sources = [self._source(name, now) for name in live.ingests]
            problem = live.problem
        with self._workers:
            living = {state.name: state.state for state in self._supervisor.states()}
        found = counts_of(live.home.root)
        models = models_status(live.ledger, list(live.models), now, series=live.series)
        return {
            "project": live.project.root.rpartition("/")[2],
            "now": iso(now),
            "ledger": ledger_status(live.ledger),
            "control": {"state": "running", "pid": os.getpid(), "since": iso(live.tenure.since), "problem": problem},
            "models": [model | {"latency": self._latency(model["name"], found)} for model in models],
            "sources": sources,
            "batches": schedules_status(live.home, live.ledger, now),
            "parity": self._parity.status(),
            "workers": workers_status(live.home.run, living, found),
            "records": records_status(found, live.home),
        }

    def log(self, *, at: str | None, model: str | None, limit: int) -> dict[str, Json]:
        """The newest events of the ledger, and with ``at`` what was live then."""
        when = None if at is None else instant(at)
        return log_events(self._live.ledger, at=when, model=model, limit=limit)

    def ask(self, model: str, kind: str, fields: Mapping[str, Json]) -> dict[str, Json]:
        """Pass on what an operator asks for, and say what followed at once."""
        if kind not in ASKED:
            raise UnknownName("no such request", got=repr(kind), hint=f"one of {', '.join(ASKED)}")
        with self._lock:
            asked = read_request(kind, fields, self._live.versions(model))
            events = self._live.ask(model, asked)
            ours = any(event.data.get("asked") == asked.id for event in events)
            return answer_of(asked, events if ours else self._followed(model, asked))

    def advance(self, when: str) -> dict[str, Json]:
        """Move the clock, where a driver controls it."""
        with self._lock:
            ticks = self._live.advance(instant(when))
            return {"now": iso(self._live.clock.now()), "ticks": ticks}

    def page(self) -> str:
        """The status page."""
        status = self.status()
        return self._page(status) if self._page is not None else "<!doctype html><title>Trimtab</title>"

    # -- by itself

    def run(self, stop: threading.Event) -> StaleEpoch | None:
        """Watch the workers, and let the loop decide every second, until told to stop or replaced."""
        self._compactor.start()
        self._parity.start()
        try:
            return self._watch(stop)
        finally:
            self._parity.stop()
            self._compactor.stop()

    def _watch(self, stop: threading.Event) -> StaleEpoch | None:
        due = 0.0
        while not stop.wait(_LOOK_S):
            try:
                with self._workers:
                    self._supervisor.check()
                    self._restart.step()
                self._switch()
                if time.monotonic() >= due:
                    due = time.monotonic() + _BEAT_S
                    self.beat()
            except StaleEpoch as error:
                return error
            except Exception:  # noqa: BLE001 - a bug in one tick must not end the process that others rely on
                _log.exception("a tick failed")
        return None

    def beat(self) -> None:
        """Once a second of real time: decide when the clock is the real one, and save now and then."""
        live = self._live
        with self._lock:
            live.tenure.check()
            events = live.bootstrap() if live.driven else live.tick(live.clock.now())
            if events or time.monotonic() > self._saved + _SAVE_S:
                live.save()
                self._saved = time.monotonic()
            try:
                self._batches.beat(live.clock.now())
            except StaleEpoch:
                raise
            except TrimtabError as error:  # a schedule that cannot be kept must not stop the loop
                _log.error("batches: %s", error)

    def _switch(self) -> None:
        """Between two beats: what must not wait for the next one."""
        live = self._live
        if standing_orders(live.home.run) or any(model.loop.state.warming for model in live.models.values()):
            with self._lock:
                live.tenure.check()
                live.adopt()
                live.warm()

    def save(self) -> None:
        """Keep what the observers hold; at the end."""
        with self._lock:
            self._live.save()

    # -- parts

    def _source(self, name: str, now: int) -> dict[str, Json]:
        live, ingest = self._live, self._live.ingests[name]
        mark = live.writer.watermark(name) if name in live.writer.sources else None
        known = mark.known if mark else ingest.known
        return {
            "name": name,
            "kind": live.project.sources[name].kind,
            "rows": ingest.seq,
            "quarantined": live.quarantined[name],
            "watermark": {"seq": mark.seq if mark else ingest.seq, "known": iso(known) if known else None},
            "behind_s": (now - known) / SECOND if known else None,
        }

    def _latency(self, model: str, found: Counted) -> list[dict[str, Json]]:
        try:
            table = routes_of(self._live.home)
        except InputError:  # somebody has put something else there: workers go on with what they have
            return []
        return latency_status(found, {model: self._live.project.models[model].latency_budget}, table)

    def _followed(self, model: str, asked: Asked) -> list[Event]:
        """What followed when the same request was made before."""
        stream = self._live.models[model].loop.stream
        return [event for event in self._live.ledger.read(stream=stream) if event.data.get("asked") == asked.id]


def answer_of(asked: Asked, events: Sequence[Event]) -> dict[str, Json]:
    """What to say: the event that deals with the request, and all that followed."""
    deciding = next((event for event in events if event.data.get("asked") == asked.id), None)
    if deciding is None:
        return {"accepted": False, "sentence": "Nothing followed from it.", "event": None, "events": []}
    begun = next((event for event in events if event.type == e.ROLLOUT_STARTED), None)
    training = next((event for event in events if event.type == e.TRAINING_REQUESTED), None)
    return {
        "accepted": deciding.type != e.REQUEST_REFUSED,
        "sentence": sentence(deciding),
        "event": deciding.id,
        "rollout": begun.data["rollout"] if begun else None,
        "job": training.data["job"] if training else None,
        "events": [{"id": event.id, "type": event.type, "text": sentence(event)} for event in events],
    }
