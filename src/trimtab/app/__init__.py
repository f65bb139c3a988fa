"""The composition root: settings in, wired objects out. The only room that names an adapter.

One function per thing that a person can ask for. The command line, the HTTP API and Python all call these; each takes
plain values and returns a JSON-able ``dict``. ``home`` is where a project's state is kept; None stands for
``TRIMTAB_HOME``, or for ``.trimtab/`` beside the project's file. Imports are inside, so that ``trimtab --help`` and a
serving worker load only what they use.
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
        By default the first 60 days do, or the first third of a shorter history.
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
    grpc_port: int | None = None,
    workers: int | None = None,
    memory_budget: str | None = None,
    server: str | None = None,
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
        Where its state is kept; None for ``TRIMTAB_HOME``, or ``.trimtab/`` in the project.
    host, port, console_port, grpc_port, workers, memory_budget, server
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

    ports = (port, console_port, grpc_port)
    request = UpRequest(project, home, host, *ports, workers, clock, take_over, new_token, memory_budget, server)
    run_platform(request, ready=ready, page=page)


def send(
    project: Path,
    source: str,
    rows: Path | TextIO,
    *,
    home: Path | None = None,
    progress: Callable[[int], None] = lambda _: None,
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

    return send_events(project, source, rows, progress=progress, home=home)


def check(project: Path) -> Result:
    """Validate a project and its histories: ``{problems: [{what, got, hint, where}], models, sources}``."""
    from trimtab.app.operations import check_project

    return check_project(project)


def train(project: Path, model: str, *, home: Path | None = None, cutoff: str | None = None) -> Result:
    """Train once: ``{model, version, rows, trained_until, metrics, seconds, decisions, rejected}``.

    What follows is the policy's: the first version that passes its floors goes live, a later one is compared.
    ``decisions`` are the sentences of what followed at once.

    Raises
    ------
    JobFailed
        When the training fails, or the loop refuses it (another is under way, the budget is spent).
    """
    from trimtab.app.operations import train_once

    return train_once(project, model, cutoff=cutoff, home=home)


def gate(project: Path, model: str, version: str, *, home: Path | None = None) -> Result:
    """What the gates say of a version: ``{passed, checks: [{name, value, bound, side, passed, detail}]}``."""
    from trimtab.app.operations import judge

    return judge(project, model, version, home=home)


def deploy(
    project: Path,
    model: str,
    version: str = "",
    *,
    reason: str,
    home: Path | None = None,
    actor: str | None = None,
    force: bool = False,
    how: Mapping[str, str | None] | None = None,
) -> Result:
    """Ask for a rollout of a version, with ``force`` past the gates: ``{accepted, sentence, event}``.

    Parameters
    ----------
    how
        None for the policy's own way; else ``strategy`` (``shadow``, ``canary``, ``blue-green`` or ``ab``) with the
        ``share`` of a canary, or the ``arms`` and the ``unit`` of an A/B test; or the ``winner`` that ends such a test.
        A blue-green deployment is waited for.
    """
    from trimtab.app.deploying import deploy

    return deploy(project, model, version, home=home, reason=reason, actor=actor, force=force, how=how or {})


def kill(
    project: Path,
    model: str,
    *,
    to: str,
    value: str | None = None,
    reason: str,
    home: Path | None = None,
    actor: str | None = None,
) -> Result:
    """Pull the kill switch: ``{accepted, sentence, effective_ms, workers, obeying, problem, event}``.

    In force before it is recorded, with or without a control process.

    Parameters
    ----------
    to
        ``previous`` or ``constant``.
    value
        Of a constant: a number, or one for each output of the model with commas between.
    """
    from trimtab.app.deploying import kill

    return kill(project, model, home=home, to=to, value=value, reason=reason, actor=actor)


def revive(project: Path, model: str, *, reason: str, home: Path | None = None, actor: str | None = None) -> Result:
    """End the kill switch, so that the champion answers again: ``{accepted, sentence, event}``."""
    from trimtab.app.deploying import revive

    return revive(project, model, home=home, reason=reason, actor=actor)


def ab(
    project: Path, model: str, *, metric: str = "outcome", test: str | None = None, home: Path | None = None
) -> Result:
    """How an A/B test stands: ``{model, test, unit, metric, since, ended, arms, differences, split_kept, …}``.

    Parameters
    ----------
    metric
        ``outcome``, the label itself, or ``loss``, that of the predictions.
    test
        The beginning of a test's id; the newest one when not given.
    """
    from trimtab.app.abtests import ab

    return ab(project, model, home=home, metric=metric, test=test)


def approve(
    project: Path,
    model: str,
    version: str,
    *,
    reason: str,
    home: Path | None = None,
    actor: str | None = None,
    deny: bool = False,
) -> Result:
    """Give or deny the approval that a rollout waits for: ``{accepted, sentence, event}``."""
    from trimtab.app.operations import ask

    kind = "deny" if deny else "approve"
    return ask(project, model, kind, home=home, version=version, reason=reason, actor=actor)


def rollback(project: Path, model: str, *, reason: str, home: Path | None = None, actor: str | None = None) -> Result:
    """End the rollout under way, or go back to the champion before: ``{accepted, sentence, event}``."""
    from trimtab.app.operations import ask

    return ask(project, model, "rollback", home=home, reason=reason, actor=actor)


def restart_workers(project: Path, *, home: Path | None = None) -> Result:
    """Replace every worker of a running platform, one after the other: ``{workers: [{name, before, after}]}``."""
    from trimtab.app.operations import existing_home
    from trimtab.app.restarting import restart_workers

    return restart_workers(existing_home(project, home).run)


def quantise(
    project: Path, model: str, *, version: str | None = None, mode: str = "dynamic", home: Path | None = None
) -> Result:
    """Make an int8 variant of a version and register it as a candidate; see
    :func:`trimtab.app.variants.quantise_version`.
    """
    from trimtab.app.variants import quantise_version

    return quantise_version(project, model, version, mode=mode, home=home)


def register(
    project: Path, model: str, file: Path, kind: str, *, home: Path | None = None, said: Mapping[str, Any] | None = None
) -> Result:
    """Register what was made elsewhere; in a project that declares the model, as a version that can be deployed.

    Parameters
    ----------
    kind
        ``onnx``, ``handler`` or ``pyfunc``.
    said
        Further fields of :class:`trimtab.app.bringing.Brought`: ``task``, ``options``, ``reason``, ``actor`` and
        ``trained_until``.

    Returns
    -------
    dict
        ``{model, version, kind, home}``, and in such a project ``{number, registered, sentence, passed, checks}``.
    """
    from trimtab.app.bringing import Brought, register_brought

    return register_brought(project, Brought(model, file, kind, **(said or {})), home=home)


def export(project: Path, version: str, *, triton: Path, model: str | None = None, home: Path | None = None) -> Result:
    """Write a version as a model repository of NVIDIA Triton, whole or not at all.

    Parameters
    ----------
    triton
        The directory: one that does not exist or is empty, or that holds this very export.
    model
        Whose version, where several models of a project have one of that number.

    Returns
    -------
    dict
        ``{model, version, number, directory, models: [{name, backend}], files, max_batch_size, written}``.

    Raises
    ------
    InputError
        When Triton could not run it, or the directory holds something else.
    UnknownName
        When there is no such version.
    """
    from trimtab.app.exporting import export_triton

    return export_triton(project, version, directory=triton, model=model, home=home)


def status(project: Path, *, home: Path | None = None) -> Result:
    """What is live, under way and decided; the fields are those of :func:`trimtab.web.status.render_status`."""
    from trimtab.app.operations import show_status

    return show_status(project, home=home)


def log(
    project: Path,
    *,
    home: Path | None = None,
    at: str | None = None,
    model: str | None = None,
    limit: int = 50,
    verify: bool = False,
) -> Result:
    """Events, oldest first: ``{events: [{seq, when, stream, type, actor, text, data}], live, verified}``.

    ``live`` is there when ``at`` is given: what answered then, who approved it, and on what evidence. ``verified`` is
    the number of events whose hashes were checked, when ``verify`` is given.
    """
    from trimtab.app.operations import show_log

    return show_log(project, at=at, model=model, limit=limit, verify=verify, home=home)


def batch(
    project: Path,
    model: str,
    rows: object,
    *,
    out: str | Path,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[Tick], None] = lambda _: None,
    home: Path | None = None,
) -> Result:
    """Score a table with the pipeline that serves HTTP, resumable after a kill; every row is in ``out`` exactly once.

    Parameters
    ----------
    project
        A project, or a directory in which models were registered.
    rows
        A Parquet or CSV file, a directory or a glob; a database such as ``sqlite:///shop.db#visits``; or a data frame:
        pandas, polars, Arrow, or a mapping of arrays.
    out
        A ``.parquet`` or ``.csv`` file, a directory ending in ``/``, or a table as in ``sqlite:///scores.db#scored``.
    options
        Further fields of :class:`trimtab.app.batches.BatchRequest`: ``version``, ``query``, ``id``, ``as_of``,
        ``record``, ``precompute`` (microseconds), ``anew``, ``threads``, ``chunk``, ``on``.
    progress
        Told how far it is.
    home
        Where the model is kept; None for ``TRIMTAB_HOME``, else that of the project, else the directory itself.

    Returns
    -------
    dict
        ``{model, version, input, out, features, rows, answered, failed, quarantined, reasons, bad_rows, ...}``.

    Raises
    ------
    SchemaError
        When the table lacks a column.
    InputError
        When something else stands where the answers go, or the input changed since the run began.
    Unavailable
        When a disk is full or a store is gone; the same call goes on later.
    """
    from trimtab.adapters.clock.system import SystemClock
    from trimtab.app.batches import BatchRequest
    from trimtab.app.scoring import run_batch

    asked = BatchRequest(model, rows, str(out), **(options or {}))
    return run_batch(Path(project), asked, clock=SystemClock(), progress=progress, home=home)


def schedule_batch(
    project: Path,
    model: str,
    rows: str,
    *,
    out: str,
    every: Micros,
    options: Mapping[str, Any] | None = None,
    home: Path | None = None,
) -> Result:
    """Let the control process run a batch every so often: ``{model, rows, out, every, scheduled}``; 0 ends it.

    ``{time}`` in ``rows`` and ``out`` becomes the scheduled time. The directory of ``out`` is made.

    Raises
    ------
    InputError
        When ``out`` has no ``{time}``, ``every`` is below a minute, the rows are not there, no project is kept in the
        home, or there is no schedule to end.
    """
    from trimtab.app.scheduling import schedule

    return schedule(Path(project), model, rows, out=out, every=every, options=options or {}, home=home)


def predict(
    project: Path,
    model: str,
    fields: Mapping[str, Any],
    *,
    home: Path | None = None,
    url: str | None = None,
    arm: str | None = None,
) -> Result:
    """Ask a model once: ``{model, version, arm, id, prediction_id, outputs, status}``.

    Text among ``fields`` is read as the kind that the project declares; without one, as the server at ``url`` says.
    """
    from trimtab.app.predicting import predict_once

    return predict_once(project, model, fields, url=url, home=home, arm=arm)


def latency(
    project: Path,
    model: str | None = None,
    *,
    source: str = "workers",
    during_s: float = 0.0,
    since: str | None = None,
    home: Path | None = None,
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
    home
        Where its state is kept, as :func:`up` takes it.
    """
    from trimtab.app.latency import LatencyRequest, show_latency

    request = LatencyRequest(project, model, "records" if source == "records" else "workers", during_s, since, home)
    return show_latency(request)


def tune(
    project: Path,
    model: str,
    *,
    p99: str,
    rate: float | None = None,
    home: Path | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Result:
    """Find batch size, threads and workers for a latency by measuring: see :func:`trimtab.app.tuning.tune`.

    Parameters
    ----------
    p99
        What 99 of 100 answers must keep to, as in ``20ms``.
    rate
        Requests a second to carry; None for as many as possible.
    options
        ``seconds``, ``workers``, ``threads``, ``batch``, ``connections``, ``limit``, ``dry_run`` of the command.
    """
    from trimtab.app.tuning import request_of, tune

    return tune(request_of(project, model, p99=p99, rate=rate, home=home, options=options or {}), progress)
