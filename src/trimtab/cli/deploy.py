"""``trimtab deploy``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import actor, answer, command, model, reason


@command(
    'trimtab deploy buys 4f9c2a7be1d0 --reason "first model"',
    'trimtab deploy buys 2 --strategy blue-green --reason "tested in staging"',
    'trimtab deploy buys 2 --strategy canary --share 0.1 --reason "careful"',
    'trimtab deploy buys --strategy ab --arms a=1:0.5,b=2:0.5 --unit shop --reason "which sells more?"',
    'trimtab deploy buys --winner b --reason "it sells more"',
    'trimtab deploy buys 4f9c2a7be1d0 --force --reason "incident 7: the champion is broken"',
)
@model
@click.argument("version", required=False, default="")
@reason
@actor
@click.option(
    "--strategy",
    type=click.Choice(["shadow", "canary", "blue-green", "ab"]),
    help="How, instead of as the project declares it.",
)
@click.option("--share", help="Of a canary: its share of the answers, such as 0.1.")
@click.option("--arms", help="Of an A/B test: NAME=VERSION:SHARE, with commas between.")
@click.option("--unit", help="Of an A/B test: the field of a request that stays with one arm.  [default: the request]")
@click.option("--winner", help="End the A/B test under way with this arm.")
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
    **how: str | None,
) -> None:
    """Start the rollout of VERSION of MODEL as the project declares it, or by another strategy.

    shadow: it scores every request and answers none, until a person approves. canary: it answers a share, under the
    guardrails. blue-green: every worker loads it, then it answers everything at once. ab: several versions answer, and
    `trimtab ab` compares what came of it. Ends with 1 when the loop refuses, or a worker cannot load it.
    """
    from trimtab import app

    answer(
        lambda: app.deploy(project, model, version, home=home, reason=reason, actor=actor, force=force, how=how),
        lambda result: str(result["sentence"]),
        as_json=as_json,
        good=lambda result: bool(result["accepted"]),
    )
