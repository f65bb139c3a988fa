"""``trimtab train``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import Result, answer, command, lines, model


@command("trimtab train buys", "trimtab train buys --cutoff 2013-06-01 --json")
@model
@click.option("--cutoff", help="Learn only from what was known by this time.  [default: now]")
def train(project: Path, *, home: Path | None, model: str, cutoff: str | None, as_json: bool) -> None:
    """Train MODEL once, register the version, and let the loop go on from there as the policy says.

    The version is judged by its floors. One that passes goes live when nothing is live yet, else its rollout starts;
    with approval="manual" it waits for a person first. What was decided is printed.

    Ends with 1 when the training failed or the version was rejected.
    """
    from trimtab import app

    answer(
        lambda: app.train(project, model, home=home, cutoff=cutoff),
        _text,
        as_json=as_json,
        good=lambda result: not result.get("rejected"),
    )


def _text(result: Result) -> str:
    facts = {name: value for name, value in result.items() if name not in ("decisions", "rejected")}
    return "\n".join([*lines(facts), *result.get("decisions", ())])
