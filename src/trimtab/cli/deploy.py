"""``trimtab deploy``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import actor, answer, command, model, reason, version


@command(
    'trimtab deploy buys 4f9c2a7be1d0 --reason "first model"',
    'trimtab deploy buys 4f9c2a7be1d0 --force --reason "incident 7: the champion is broken"',
)
@model
@version
@reason
@actor
@click.option(
    "--force", is_flag=True, help="Skip the gates; guardrails still watch, and the ledger says who forced it."
)
def deploy(
    project: Path,
    *,
    home: Path | None,
    model: str,
    version: str,
    reason: str,
    actor: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Start the rollout of VERSION of MODEL as the project declares it.

    Ends with 1 when the loop refuses.
    """
    from trimtab import app

    answer(
        lambda: app.deploy(project, model, version, home=home, reason=reason, actor=actor, force=force),
        lambda result: str(result["sentence"]),
        as_json=as_json,
        good=lambda result: bool(result["accepted"]),
    )
