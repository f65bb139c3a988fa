"""``trimtab train``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import answer, command, lines, model


@command("trimtab train buys", "trimtab train buys --cutoff 2013-06-01 --json")
@model
@click.option("--cutoff", help="Learn only from what was known by this time.  [default: now]")
def train(project: Path, *, model: str, cutoff: str | None, as_json: bool) -> None:
    """Train MODEL once and register the version; it answers nothing until it is deployed."""
    from trimtab import app

    answer(lambda: app.train(project, model, cutoff=cutoff), lambda r: "\n".join(lines(r)), as_json=as_json)
