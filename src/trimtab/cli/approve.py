"""``trimtab approve``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import actor, answer, command, model, reason, version


@command(
    'trimtab approve buys 4f9c2a7be1d0 --reason "read the evidence"',
    'trimtab approve buys 4f9c2a7be1d0 --deny --reason "not before the holidays"',
)
@model
@version
@reason
@actor
@click.option("--deny", is_flag=True, help="Deny it instead.")
def approve(
    project: Path,
    *,
    home: Path | None,
    model: str,
    version: str,
    reason: str,
    actor: str | None,
    deny: bool,
    as_json: bool,
) -> None:
    """Approve the rollout of VERSION of MODEL, where the project asks a person.

    Ends with 1 when nothing waits for an approval.
    """
    from trimtab import app

    answer(
        lambda: app.approve(project, model, version, home=home, reason=reason, actor=actor, deny=deny),
        lambda result: str(result["sentence"]),
        as_json=as_json,
        good=lambda result: bool(result["accepted"]),
    )
