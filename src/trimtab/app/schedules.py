"""Batches on a schedule: kept in a file of the home, run by the control process, told in the ledger.

A scheduled time is a multiple of the length since 1970. Each is one job with an id of its own, so that it runs once,
whatever is killed and started again meanwhile.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from trimtab.adapters.compute.jobdir import Lock
from trimtab.adapters.compute.processes import ProcessCompute
from trimtab.adapters.files import write_atomic
from trimtab.adapters.offline.database import Address, is_url, shown
from trimtab.adapters.offline.overlap import refuse_own_input
from trimtab.app.fencing import append_platform
from trimtab.app.home import Home
from trimtab.app.platform import BATCH_FAILED, BATCH_RAN
from trimtab.app.setting_values import seconds
from trimtab.core.clock import MINUTE, SECOND, Micros, duration_text, instant, iso
from trimtab.core.ids import Json, derived_id
from trimtab.core.ledger import PLATFORM, Draft, Event, Ledger
from trimtab.errors import InputError
from trimtab.training.ports import Job, JobState

_log = logging.getLogger("trimtab.control")

FILE = "batches.json"
LOCK = "batches.lock"
"""Held while the file is read and written again: of two commands at once, each adds to what the other kept."""
JOB = "trimtab.app.schedules:batch_job"
TIME = "{time}"
"""Stands for the scheduled time in the names of rows and answers."""
_SOME_TIME = "19700101T000000Z"


class Schedule(msgspec.Struct, frozen=True):
    """A batch that is run again and again."""

    model: str
    rows: str
    out: str
    every: Micros
    since: Micros
    """Times up to this one are none of its."""
    options: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What it is known by: one model and one place of answers have one schedule."""
        return derived_id("batch", self.model, self.out)

    def due(self, now: Micros) -> Micros | None:
        """The latest scheduled time, None before the first."""
        latest = now // self.every * self.every
        return latest if latest > self.since else None

    def job_id(self, due: Micros) -> str:
        """The id of the job of one scheduled time."""
        return f"batch-{derived_id(self.name, due)}"

    def job(self, project: Path, home: Home, due: Micros) -> Job:
        """The job of one scheduled time."""
        moment = datetime.fromtimestamp(due // SECOND, UTC).strftime("%Y%m%dT%H%M%SZ")
        arguments = {
            "project": str(project),
            "home": str(home.root),
            "model": self.model,
            "rows": self.rows.replace(TIME, moment),
            "out": self.out.replace(TIME, moment),
            "options": self.options,
        }
        return Job(self.job_id(due), JOB, arguments)


def read_schedules(home: Home) -> list[Schedule]:
    """The schedules of a home."""
    try:
        return msgspec.json.decode((home.root / FILE).read_bytes(), type=list[Schedule])
    except FileNotFoundError:
        return []


def put_schedule(home: Home, schedule: Schedule) -> None:
    """Keep a schedule, in place of the one before for the same model and place; errors of :func:`check_schedule`."""
    check_schedule(schedule)
    with Lock(home.root / LOCK, wait=True):
        others = [one for one in read_schedules(home) if one.name != schedule.name]
        write_atomic(home.root / FILE, msgspec.json.encode([*others, schedule]))


def check_schedule(schedule: Schedule) -> None:
    """Make sure that it can be kept.

    Raises
    ------
    InputError
        When it is shorter than a minute, each time would write over the answers of the one before, or it would write
        where its rows come from.
    """
    if schedule.every < MINUTE:
        raise InputError("a schedule is a minute at least", got=f"{schedule.every / SECOND:g} s", hint="--every 24h")
    if TIME not in schedule.out:
        raise InputError(
            "each scheduled time needs a place of its own", got=schedule.out, hint="as in --out 'scores/{time}.parquet'"
        )
    for place in (schedule.rows, schedule.out):
        if is_url(place) and Address.of(place.replace(TIME, "")).secrets:
            raise InputError(
                "a schedule is kept, and a password must not be",
                got=shown(place.replace(TIME, "")),
                hint="leave it out of the address: PGPASSWORD, or ~/.pgpass with mode 600",
            )
    if TIME not in schedule.rows:
        query = str(schedule.options.get("query", ""))
        refuse_own_input(schedule.rows, query, schedule.out.replace(TIME, _SOME_TIME))
    elif schedule.rows == schedule.out:  # rows that are still to come can be compared by their name only
        raise InputError("the answers would go where the rows come from", got=shown(schedule.out), hint="another --out")


def make_folder(out: str) -> None:
    """Make the directory of answers; where the scheduled time is still to come, as far as it is known.

    Raises
    ------
    InputError
        When it cannot be made.
    """
    database = re.fullmatch(r"sqlite:///([^#]+)(?:#.*)?", out)
    if is_url(out) and database is None:
        return
    folder = Path(database[1] if database else out).parent
    while TIME in str(folder):
        folder = folder.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "the directory of the answers cannot be made", got=f"{folder}: {error.strerror}", hint="name another place"
        ) from None


def end_schedule(home: Home, model: str, out: str) -> bool:
    """End a schedule; False when there is none."""
    name = derived_id("batch", model, out)
    with Lock(home.root / LOCK, wait=True):
        schedules = read_schedules(home)
        kept = [one for one in schedules if one.name != name]
        if ended := len(kept) < len(schedules):
            write_atomic(home.root / FILE, msgspec.json.encode(kept))
    return ended


def schedules_status(home: Home, ledger: Ledger, now: Micros) -> list[dict[str, Json]]:
    """Every schedule: what, how often, when next, and what came of the last time that is over.

    ``last`` is None before there is one, else ``{due, result, out}`` with the counts of rows where ``result`` is
    ``ran``, and the ``error`` where it is ``failed``.
    """
    schedules = read_schedules(home)
    over = [event for event in ledger.read(stream=PLATFORM) if event.type in _OVER] if schedules else []
    return [
        {
            "model": one.model,
            "in": one.rows,
            "out": one.out,
            "every": duration_text(one.every),
            "next": iso((max(now, one.since) // one.every + 1) * one.every),
            "last": next((_last(event) for event in reversed(over) if _is_of(event, one)), None),
        }
        for one in schedules
    ]


def _is_of(event: Event, schedule: Schedule) -> bool:
    return str(event.data["job"]) == schedule.job_id(instant(str(event.data["due"])))


def _last(event: Event) -> dict[str, Json]:
    told = {name: value for name, value in event.data.items() if name not in ("job", "model")}
    return {"result": "failed" if event.type == BATCH_FAILED else "ran", **told}


def absolute(place: str) -> str:
    """A place as another process finds it, wherever it was started.

    Examples
    --------
    >>> absolute("sqlite:////data/shop.db#visits"), absolute("/data/rows.parquet")
    ('sqlite:////data/shop.db#visits', '/data/rows.parquet')
    """
    local = re.fullmatch(r"sqlite:///([^/#][^#]*)(#.*)?", place)
    if local is not None:
        return f"sqlite:///{Path(local[1]).absolute()}{local[2] or ''}"
    if is_url(place):
        return place
    return f"{Path(place).absolute()}{'/' if place.endswith('/') else ''}"


class Schedules:
    """Runs what is due; the control process calls :meth:`beat` now and then, from one thread."""

    def __init__(self, project: Path, home: Home, ledger: Ledger, *, epoch: int) -> None:
        self._project, self._home, self._ledger, self._epoch = project, home, ledger, epoch
        self._compute = ProcessCompute(home.jobs, timeout_s=seconds("job_time"))
        self._over = {str(event.data["job"]) for event in ledger.read(stream=PLATFORM) if event.type in _OVER}

    def beat(self, now: Micros) -> None:
        """Start what is due, and tell the ledger of what is over."""
        for schedule in read_schedules(self._home):
            due = schedule.due(now)
            if due is None:
                continue
            job = schedule.job(self._project, self._home, due)
            if job.id in self._over:
                continue
            state = self._compute.poll(job.id)
            if state.status == "unknown":
                self._compute.submit(job)
            elif state.status != "running":
                self._tell(schedule, job, due, state=state, now=now)

    def _tell(self, schedule: Schedule, job: Job, due: Micros, *, state: JobState, now: Micros) -> None:
        facts: dict[str, Json] = {"job": job.id, "model": schedule.model, "due": iso(due)}
        facts["out"] = job.arguments["out"]
        if state.status == "done":
            kind = BATCH_RAN
            facts |= {name: state.result[name] for name in ("version", "rows", "answered", "failed", "quarantined")}
        else:
            kind, facts["error"] = BATCH_FAILED, state.error[:500]
            _log.warning("the batch of %r for %s failed: %s", schedule.model, iso(due), facts["error"])
        draft = Draft(derived_id(PLATFORM, kind, job.id), kind, facts, now, now, actor="control")
        append_platform(self._ledger, draft, epoch=self._epoch)
        self._over.add(job.id)


_OVER = (BATCH_RAN, BATCH_FAILED)


def batch_job(*, project: str, home: str, model: str, rows: str, out: str, options: Mapping[str, Json]) -> Json:
    """Run one scheduled time: what the report says, without the rows."""
    from trimtab.app.batches import BatchRequest, batch_home
    from trimtab.app.live import standing_clock
    from trimtab.app.scoring import run_batch

    place = Path(home)
    clock, _ = standing_clock(batch_home(Path(project), place))
    make_folder(out)
    report = run_batch(Path(project), BatchRequest(model, rows, out, **options), clock=clock, home=place)
    return {name: report[name] for name in ("model", "version", "rows", "answered", "failed", "quarantined", "out")}
