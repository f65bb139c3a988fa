"""The composition root: settings in, wired objects out. The only room that names an adapter.

One function per thing that a person can ask for. The command line, the HTTP API and Python all call these; each takes
plain values and returns a JSON-able ``dict``. Imports are inside, so that ``trimtab --help`` and a serving worker load
only what they use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from trimtab.core.clock import Micros
from trimtab.loop.tick import Tick

Result = dict[str, Any]


def monotonic() -> Micros:
    """Microseconds of a clock that never goes back, for rates and the time left."""
    import time

    return time.monotonic_ns() // 1000


def replay(
    project: Path,
    *,
    model: str | None = None,
    start: str | None = None,
    until: str | None = None,
    fault: Sequence[str] = (),
    seed: int = 0,
    out: Path | None = None,
    checkpoint: tuple[str, Path] | None = None,
    progress: Callable[[Tick], None] | None = None,
) -> Result:
    """Run history through the whole loop under a virtual clock.

    Parameters
    ----------
    project
        The project's directory or file.
    model
        Which model; may be left out when there is one.
    start, until
        ISO 8601. Requests asked in between are answered; history before ``start`` trains the first model.
    fault
        Faults to put on stage: ``unit:SOURCE.COLUMN*FACTOR@TIME`` or ``bad-challenger@TIME``.
    seed
        Of everything random.
    out
        Where the replay keeps its own ledger and stores.
    checkpoint
        A moment and a directory: the home of the replay is copied there as it stands at that moment.
    progress
        Told how far it is, and what was decided.

    Returns
    -------
    dict
        The fields of :class:`trimtab.web.report_data.ReplayReport` as JSON.
    """
    from trimtab.app.replaying import ReplayRequest, run_replay

    request = ReplayRequest(project, model, start, until, tuple(fault), seed, out, checkpoint)
    return run_replay(request, progress).result


def up(
    project: Path,
    *,
    home: Path | None = None,
    host: str | None = None,
    port: int | None = None,
    console_port: int | None = None,
    workers: int | None = None,
    clock: str | None = None,
    take_over: bool = False,
    new_token: bool = False,
    ready: Callable[[Result], None] = lambda _: None,
    page: Callable[[Mapping[str, Any]], str] | None = None,
) -> None:
    """Run the platform of a project until it is told to stop (SIGTERM or SIGINT).

    Parameters
    ----------
    home
        Where its state is kept; None for ``.trimtab/`` in the project.
    host, port, console_port, workers
        None stands for the setting of that name; port 0 takes a free one.
    clock
        ISO 8601: time stands there until the driver moves it over ``POST /v1/clock``; None for the real clock.
    take_over
        Replace a control process of the project that is alive. After one that was killed it is not needed.
    new_token
        Make a new token for the API; the one before counts no longer.
    ready
        Called with ``{data_plane, console, status_page, models, pid, epoch, since, token_from}`` once it answers; the
        first start of a home, and ``new_token``, add the ``token`` of the API, which is not kept anywhere.
        ``token_from`` is ``new``, ``before`` or ``environment``.
    page
        Makes the console's page of a status.

    Raises
    ------
    ProjectError
        When the project does not check, or a history file has changed since the first start.
    Unavailable
        When a control process of the project is alive and ``take_over`` was not asked for, or a port is taken.
    StaleEpoch
        When another control process took over.
    """
    from trimtab.app.running import UpRequest, run_platform

    request = UpRequest(project, home, host, port, console_port, workers, clock, take_over, new_token)
    run_platform(request, ready=ready, page=page)


def send(
    project: Path, source: str, rows: Path | TextIO, *, progress: Callable[[int], None] = lambda _: None
) -> Result:
    """Send events to the running control process: ``{source, sent, accepted, repeated, quarantined, reasons, rows}``.

    Parameters
    ----------
    rows
        A file of JSON lines, a Parquet file (its name ends in ``.parquet``), or an open text of JSON lines.
    progress
        Told how many rows were acknowledged so far.

    Raises
    ------
    InputError
        When a line is not a JSON object; whole batches before it were sent.
    Unavailable
        When no control process runs, or it stops to answer. Sending everything again does no harm.
    """
    from trimtab.app.sending import send_events

    return send_events(project, source, rows, progress=progress)


def check(project: Path) -> Result:
    """Validate a project and its histories: ``{problems: [{what, got, hint, where}], models, sources}``."""
    from trimtab.app.operations import check_project

    return check_project(project)


def train(project: Path, model: str, *, cutoff: str | None = None) -> Result:
    """Train once: ``{model, version, rows, trained_until, metrics, seconds, decisions, rejected}``.

    What follows is the policy's: the first version that passes its floors goes live, a later one is compared.
    ``decisions`` are the sentences of what followed at once.

    Raises
    ------
    JobFailed
        When the training fails, or the loop refuses it (another is under way, the budget is spent).
    """
    from trimtab.app.operations import train_once

    return train_once(project, model, cutoff=cutoff)


def gate(project: Path, model: str, version: str) -> Result:
    """What the gates say of a version: ``{passed, checks: [{name, value, bound, side, passed, detail}]}``."""
    from trimtab.app.operations import judge

    return judge(project, model, version)


def deploy(
    project: Path, model: str, version: str, *, reason: str, actor: str | None = None, force: bool = False
) -> Result:
    """Ask for a rollout of a version, with ``force`` past the gates: ``{accepted, sentence, event}``."""
    from trimtab.app.operations import ask

    kind = "force" if force else "deploy"
    return ask(project, model, kind, version=version, reason=reason, actor=actor)


def approve(
    project: Path, model: str, version: str, *, reason: str, actor: str | None = None, deny: bool = False
) -> Result:
    """Give or deny the approval that a rollout waits for: ``{accepted, sentence, event}``."""
    from trimtab.app.operations import ask

    return ask(project, model, "deny" if deny else "approve", version=version, reason=reason, actor=actor)


def rollback(project: Path, model: str, *, reason: str, actor: str | None = None) -> Result:
    """End the rollout under way, or go back to the champion before: ``{accepted, sentence, event}``."""
    from trimtab.app.operations import ask

    return ask(project, model, "rollback", reason=reason, actor=actor)


def status(project: Path) -> Result:
    """What is live, under way and decided; the fields are those of :func:`trimtab.web.status.render_status`."""
    from trimtab.app.operations import show_status

    return show_status(project)


def log(
    project: Path, *, at: str | None = None, model: str | None = None, limit: int = 50, verify: bool = False
) -> Result:
    """Events, oldest first: ``{events: [{seq, when, stream, type, actor, text, data}], live, verified}``.

    ``live`` is there when ``at`` is given: what answered then, who approved it, and on what evidence. ``verified`` is
    the number of events whose hashes were checked, when ``verify`` is given.
    """
    from trimtab.app.operations import show_log

    return show_log(project, at=at, model=model, limit=limit, verify=verify)


def predict(project: Path, model: str, fields: Mapping[str, Any], *, url: str | None = None) -> Result:
    """Ask a model once: ``{model, version, arm, id, prediction_id, outputs, status}``.

    Text among ``fields`` is read as the kind that the project declares.
    """
    from trimtab.app.operations import predict_once

    return predict_once(project, model, fields, url=url)


def latency(
    project: Path,
    model: str | None = None,
    *,
    source: str = "workers",
    during_s: float = 0.0,
    since: str | None = None,
) -> Result:
    """How long answers take beside their budget: ``{from, during_s, arms: [{model, version, arm, stages, ...}]}``.

    Parameters
    ----------
    source
        ``workers``: what they have counted; ``records``: the timings in prediction records.
    during_s
        Only what is answered in the next seconds; 0 for everything since the version went live.
    since
        Of records: ISO 8601, only those asked at that time or later.
    """
    from trimtab.app.latency import LatencyRequest, show_latency

    request = LatencyRequest(project, model, "records" if source == "records" else "workers", during_s, since)
    return show_latency(request)
