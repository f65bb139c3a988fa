# ruff: noqa: ARG001 - the signatures are agreed; the bodies follow
"""The composition root: settings in, wired objects out. The only module that names an adapter.

Everything the command line does is a function here that returns JSON; the command line only shows it.
All times in results are ISO 8601 text in UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab.core.clock import Micros
from trimtab.errors import Unavailable
from trimtab.web.terminal import Tick

Result = dict[str, Any]


def _unbuilt() -> Unavailable:
    return Unavailable("this part of Trimtab is not wired yet")


def monotonic() -> Micros:
    """Microseconds of a clock that never goes back, for rates and the time left."""
    raise _unbuilt()


def check(project: Path) -> Result:
    """Validate a project: ``{problems: [{what, got, hint, where}], models: [name], sources: [name]}``."""
    raise _unbuilt()


def replay(
    project: Path,
    *,
    until: str | None,
    start: str | None,
    fault: Sequence[str],
    seed: int,
    out: Path | None,
    report: Path | None,
    progress: Callable[[Tick], None] | None,
) -> Result:
    """Run history through the loop: ``{digest, outcome, loss, months, total, decisions, counts, timings, parity}``.

    ``months`` and ``total`` are :class:`trimtab.web.report_data.MonthRow` as JSON; ``decisions`` holds
    ``{when, kind, sentence, evidence}``.
    """
    raise _unbuilt()


def train(project: Path, model: str, *, cutoff: str | None) -> Result:
    """Train once: ``{model, version, rows, trained_until, metrics, seconds}``."""
    raise _unbuilt()


def gate(project: Path, model: str, version: str) -> Result:
    """Judge a version: ``{passed, checks: [{name, value, bound, side, passed, detail}]}``."""
    raise _unbuilt()


def deploy(project: Path, model: str, version: str, *, reason: str, actor: str | None, force: bool) -> Result:
    """Ask for a rollout of a version: ``{accepted, sentence, event}``."""
    raise _unbuilt()


def approve(project: Path, model: str, version: str, *, reason: str, actor: str | None, deny: bool) -> Result:
    """Give or deny the approval that a rollout waits for: ``{accepted, sentence, event}``."""
    raise _unbuilt()


def rollback(project: Path, model: str, *, reason: str, actor: str | None) -> Result:
    """Go back to the version before: ``{accepted, sentence, event}``."""
    raise _unbuilt()


def status(project: Path) -> Result:
    """What :func:`trimtab.web.status.render_status` shows."""
    raise _unbuilt()


def log(project: Path, *, at: str | None, model: str | None, limit: int, verify: bool) -> Result:
    """Events, oldest first: ``{events: [{seq, when, stream, type, actor, text, data}], live, verified}``.

    ``live`` is there when ``at`` is given:
    ``[{model, version, since, arms, actor, approved_by, reason, evidence, event}]``. ``verified`` is the number of
    events whose hashes were checked, when ``verify`` is given.
    """
    raise _unbuilt()


def predict(project: Path, model: str, fields: Mapping[str, Any], *, url: str | None) -> Result:
    """Ask a model once: ``{model, version, arm, prediction_id, outputs, status}``.

    Text among ``fields`` is read as the kind that the project declares.
    """
    raise _unbuilt()


def up(
    project: Path,
    *,
    host: str | None,
    port: int | None,
    console_port: int | None,
    workers: int | None,
    ready: Callable[[Result], None],
) -> None:
    """Run the platform until it is told to stop; calls ``ready({data_plane, console, models, pid})`` once it answers.

    ``None`` stands for the setting of that name.
    """
    raise _unbuilt()
