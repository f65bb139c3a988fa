"""The control process: wiring a project's home to its loop, its ingest, its workers and its console."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from trimtab.adapters.clock.shared import SharedClock
from trimtab.adapters.clock.system import SystemClock
from trimtab.adapters.compute.processes import ProcessCompute
from trimtab.app.fencing import Tenure
from trimtab.app.history import history_limit, hold_histories, limit_history, live_sources, read_limited
from trimtab.app.home import Home, named_home
from trimtab.app.killing import Workers, check_constant, close_order, standing_orders
from trimtab.app.live_model import LiveModel, Shared
from trimtab.app.platform import HISTORY_READ
from trimtab.app.routes import Routes
from trimtab.app.setting_values import seconds, whole_number
from trimtab.app.signing import check_signed_head, write_signed_head
from trimtab.app.trying import problem_of
from trimtab.app.worker import CLOCK
from trimtab.core.clock import HOUR, Clock, Micros, instant, iso
from trimtab.core.ledger import PLATFORM, Event, Ledger
from trimtab.core.ports import Columns
from trimtab.datasets.ingest import Ingest, Taken
from trimtab.errors import InputError, TrimtabError, UnknownName
from trimtab.features.history import History
from trimtab.features.online import OnlineWriter
from trimtab.features.parts import part_rows
from trimtab.features.plan import LatestPart, ModulePart, Part, Plan, WindowPart
from trimtab.features.sources import Source
from trimtab.loop.commands import ApplyRoute, Notify
from trimtab.loop.events import REQUEST_REFUSED
from trimtab.loop.model import ModelSpec
from trimtab.loop.observations import Asked
from trimtab.loop.project import Project
from trimtab.loop.state import Version
from trimtab.registry.bundle import load
from trimtab.serving.allotment import REQUEST_ID

NOTICES = "notices.jsonl"
_PIECE = 50_000
_PATIENCE_S = 10.0
"""Under a driven clock: how long workers may take to catch up with it."""
_log = logging.getLogger("trimtab.loop")


def open_clock(home: Home, text: str | None) -> tuple[Clock, bool]:
    """The real clock, or one that a driver moves and that stands at a time; and whether it is driven."""
    if text is None:
        (home.run / CLOCK).unlink(missing_ok=True)
        return SystemClock(), False
    clock = SharedClock(home.run / CLOCK, writable=True)
    clock.advance_to(instant(text))
    return clock, True


def standing_clock(home: Home) -> tuple[Clock, bool]:
    """The clock of a home without a control process: that of its rehearsal if it is one, else the real one."""
    path = home.run / CLOCK
    return (SharedClock(path), True) if path.exists() else (SystemClock(), False)


class Live:
    """Everything that decides, of one project on one home. Not thread-safe: the control process holds a lock.

    Parameters
    ----------
    tenure
        Makes sure that nobody else decides meanwhile.
    workers
        Whether workers run, or are about to: then they say whether they hold a version, and are waited for.
    """

    def __init__(
        self,
        project: Project,
        home: Home,
        *,
        clock: Clock,
        driven: bool,
        ledger: Ledger,
        tenure: Tenure,
        workers: bool = False,
    ) -> None:
        self.project, self.home, self.clock, self.driven = project, home, clock, driven
        self.ledger, self.tenure, self._workers = ledger, tenure, workers
        self._routes = Routes(home.route_file, home.run, models=project.models)
        self._records = home.records()
        self.series = home.series()
        job_time, self._most_quarantined = seconds("job_time"), whole_number("quarantine_rows")
        shared = Shared(
            project,
            home,
            clock,
            driven=driven,
            epoch=tenure.epoch,
            ledger=ledger,
            blobs=home.blobs(),
            records=self._records,
            series=self.series,
            compute=ProcessCompute(home.jobs, timeout_s=job_time),
            apply=self._apply,
            tell=self._tell,
            warmth=self._warmth,
            cover=self._cover,
        )
        self.models = {name: LiveModel(shared, spec) for name, spec in sorted(project.models.items())}
        self._parts: list[Part] = []
        """Of the project and of every version: what online rows are kept for."""
        self.ingests: dict[str, Ingest] = {}
        self.quarantined: dict[str, int] = {}
        self._signed = ""
        self._stood: Micros = 0
        """Where a driven clock stood before its last move."""
        self.problem = ""
        """Why the last tick could not be finished; empty when it could."""

    # -- start

    def restore(self) -> None:
        """Put the routes in force, read the histories, catch the online rows up, and go on where the last one was.

        Raises
        ------
        ProjectError
            When a history is not what it was on the first start.
        LedgerCorrupt
            When the ledger lacks events that were signed.
        """
        check_signed_head(self.home, self.ledger)
        for model in self.models.values():
            model.resume()
        seen = any(event.type == HISTORY_READ for event in self.ledger.read(stream=PLATFORM))
        if self.driven and not seen:
            limit_history(self.home.root, self.clock.now())  # under this clock, the rest has yet to happen
        for name in self.project.models:
            self._parts += self.project.plan(name).parts
        for model in self.models.values():
            model.cover()
        self._store = self.home.online()
        logged = self._open_sources()
        for model in self.models.values():
            model.restore(*logged[model.spec.label.source.name])

    def _open_sources(self) -> dict[str, tuple[Columns | None, int]]:
        """Apply what every source's part lacks; of each source its rows in the event log, and those of its history."""
        until = history_limit(self.home.root)
        parts = usable_parts(self._parts, self.project.sources)
        names = sorted({*live_sources(self.project), *(part.source for part in parts)})
        histories = {name: read_limited(self.project, name, until) for name in names}
        hold_histories(self.ledger, histories.values(), now=self.clock.now(), epoch=self.tenure.epoch)
        self.writer = OnlineWriter(parts, self._store)
        return {name: (self._open_source(name, history), len(history)) for name, history in histories.items()}

    def _open_source(self, name: str, history: History) -> Columns | None:
        if name in self.writer.sources:
            for first in range(self.writer.watermark(name).seq, len(history), _PIECE):
                piece = {column: values[first : first + _PIECE] for column, values in history.columns.items()}
                self.writer.apply(name, piece, first)
        ingest = Ingest(
            self.project.sources[name],
            history,
            records=self._records,
            writer=self.writer,
            clock=self.clock,
            stood=(lambda: self._stood) if self.driven else None,
            limit=self._most_quarantined,
        )
        logged = ingest.recover()
        self.ingests[name] = ingest
        self.quarantined.setdefault(name, 0)
        return logged

    def _cover(self, plan: Plan) -> None:
        """Keep the online rows that a version reads: of whatever plan, it may answer one day.

        A version that was trained after the project was edited brings parts that no row was kept for; these are made
        from the history and the event log at once, before anything is decided about the version.
        """
        known = {part for part in self._parts if not isinstance(part, ModulePart)}
        new = [part for part in plan.parts if not isinstance(part, ModulePart) and part not in known]
        self._parts += new
        if new and self.ingests:
            self._open_sources()

    # -- in

    def take(self, source: str, rows: list[Mapping[str, Any]]) -> Taken:
        """Take events of a source: on disk when it returns.

        Raises
        ------
        StaleEpoch
            When another control process has taken over.
        UnknownName
            When no feature and no label of the project comes from that source.
        """
        ingest = self.ingests.get(source)
        if ingest is None:
            raise UnknownName("no such source", got=repr(source), hint=f"one of {', '.join(self.ingests)}")
        self.tenure.check()
        taken = ingest.take(rows)
        self.quarantined[source] += taken.quarantine.total
        for model in self.models.values():
            if taken.accepted and model.spec.label.source.name == source:
                model.watch.take_labels(taken.columns, seq=taken.seq)
        return taken

    # -- decide

    def tick(self, now: Micros) -> list[Event]:
        """Let every model observe and decide; what goes wrong with one does not keep the others from it.

        Raises
        ------
        StaleEpoch
            When another control process has taken over.
        """
        self.tenure.check()
        self.adopt()
        return self._each(lambda model: model.tick(now))

    def bootstrap(self) -> list[Event]:
        """Under a driven clock: let models that have no version yet come to one, although the clock stands."""
        now = self.clock.now()
        adopted = self.adopt()
        return [*adopted, *self._each(lambda model: model.bootstrap(now))]

    def advance(self, when: Micros) -> int:
        """Move a driven clock; the loop decides once at every full hour that is left behind. How often it did.

        What became known at the full hour itself may be sent while the clock stands there: its tick comes when the
        clock moves on.

        Raises
        ------
        InputError
            When the clock is the real one, or would go backwards.
        """
        clock = self.clock
        if not isinstance(clock, SharedClock):
            raise InputError("the clock is the real one", hint="start with --clock <time> to move it")
        now = clock.now()
        if when < now:
            raise InputError("the clock cannot go backwards", got=iso(when), hint=f"it stands at {iso(now)}")
        if when > now:
            self._stood = now
            # Events that come next must find no score in the shadow undone: it would see them.
            for model in self.models.values():
                if model.loop.state.rollout is not None:
                    model.watch.settle(timeout_s=_PATIENCE_S)
        ticks = 0
        for hour in range(math.ceil(now / HOUR) * HOUR, when, HOUR):
            clock.advance_to(hour)
            # As in a replay, where scores in the shadow and new routes take no time.
            for model in self.models.values():
                model.watch.settle(timeout_s=_PATIENCE_S)
            self.tick(hour)
            self._routes.wait(timeout_s=_PATIENCE_S)
            ticks += 1
        clock.advance_to(when)
        return ticks

    def ask(self, model: str, asked: Asked) -> list[Event]:
        """Pass on what a person asks; what followed at once.

        Raises
        ------
        UnknownName
            When there is no such model.
        InputError
            When it is to be tested by a unit that no request has: each would stand for itself, and no one would notice.
            When a version does not answer the project's requests, or a constant is none that the model could say.
        """
        found = self._model(model)
        shape = found.spec.requests
        fields = (*(key.name for key in shape.keys), *shape.columns)
        if (unit := asked.data.get("unit", REQUEST_ID)) not in (REQUEST_ID, *fields):
            raise InputError("no request has this unit", got=repr(unit), hint=f"--unit is one of {', '.join(fields)}")
        if asked.kind in ("variant", "register"):
            self._check_bundle(found.spec, asked)
        if asked.kind == "kill":
            check_constant(self.home, model, asked.data.get("constant") or ())
        self.tenure.check()
        return [*self.adopt(), *found.ask(asked)]

    def versions(self, model: str) -> Mapping[str, Version]:
        """The versions of a model; raises UnknownName when there is no such model."""
        return self._model(model).loop.state.versions

    def _model(self, model: str) -> LiveModel:
        found = self.models.get(model)
        if found is None:
            raise UnknownName("no such model", got=repr(model), hint=f"one of {', '.join(self.models)}")
        return found

    def _check_bundle(self, spec: ModelSpec, asked: Asked) -> None:
        """That a version is there, whole, and of this model; one made elsewhere must answer the project's requests."""
        bundle = load(self.home.blobs(), asked.version)
        shape = self.project.plan(spec.name).requests if asked.kind == "register" else bundle.plan.requests
        if bundle.manifest.model != spec.name or bundle.plan.requests != shape:
            raise InputError(
                f"this version does not answer the requests of {spec.name!r}",
                got=f"a version of {bundle.manifest.model!r}",
                hint="register it with `trimtab register` in the project",
            )

    def _warmth(self, version: str) -> Workers:
        """How many workers hold a version; where none runs, it is tried in this process."""
        found = self._routes.warmth(version)
        if found.living:
            return found
        return Workers(1, 0) if self._workers else Workers(0, 0, problem_of(self.home, version))

    def warm(self) -> list[Event]:
        """Switch to every green version that all workers hold by now."""
        return [event for model in self.models.values() if model.loop.state.warming for event in model.warm()]

    def adopt(self) -> list[Event]:
        """Record the kill switches that were pulled past this process, with who and why."""
        events: list[Event] = []
        for order in standing_orders(self.home.run):
            found = self.models.get(order.model)
            followed = found.ask(order.asked()) if found is not None else []
            close_order(self.home.run, order.id)
            if found is not None and any(event.type == REQUEST_REFUSED for event in followed):
                found.resume()  # nothing came of it: the route is again what the ledger says
            events += followed
        return events

    def _each(self, step: Callable[[LiveModel], list[Event]]) -> list[Event]:
        events: list[Event] = []
        problems = []
        for name, ingest in self.ingests.items():
            try:
                ingest.catch_up()
            except TrimtabError as error:
                problems.append(f"{name}: {error}")
        for name, model in self.models.items():
            try:
                events += step(model)
            except TrimtabError as error:
                self.tenure.check()
                _log.error("%s: %s", name, error)
                problems.append(f"{name}: {error}")
        self.problem = "; ".join(problems)
        return events

    # -- out

    def save(self) -> None:
        """Keep what the observers hold, and sign where the ledger stands."""
        for model in self.models.values():
            model.save()
        head = self.ledger.head()[1]
        if head != self._signed:
            write_signed_head(self.home, self.ledger, when=self.clock.now())
            self._signed = head

    def _apply(self, command: ApplyRoute) -> None:
        self._routes.apply(command.route, generation=command.generation)

    def _tell(self, notice: Notify, model: str) -> None:
        """Hand a notice over: one line of JSON, at least once, recognisable by its key."""
        line = {"key": notice.key, "model": model, "kind": notice.kind, "text": notice.text}
        line["when"] = iso(self.clock.now())
        _log.info("%s: %s", model, notice.text)
        handle = os.open(self.home.root / NOTICES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(handle, json.dumps(line).encode() + b"\n")
        finally:
            os.close(handle)


def usable_parts(parts: Iterable[Part], sources: Mapping[str, Source]) -> list[WindowPart | LatestPart]:
    """The parts that the sources of a project can still feed; of an old version, some may have lost theirs."""
    usable = []
    for part in parts:
        if isinstance(part, ModulePart):
            continue
        source = sources.get(part.source)
        if source is None or not part_rows(part).needs <= source.every_column().keys():
            _log.error("features %s cannot be kept: source %s is not what it was", ", ".join(part.names()), part.source)
        else:
            usable.append(part)
    return usable


def open_home(project: Project, home: Path | None) -> Home:
    """The home that was named, or the project's own; made when it is missing."""
    named = named_home(home)
    return named.made() if named is not None else Home.of(Path(project.root))
