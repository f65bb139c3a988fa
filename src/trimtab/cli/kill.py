"""``trimtab kill`` and ``trimtab revive``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import Result, actor, answer, command, model, reason


@command(
    'trimtab kill buys --to previous --reason "incident 7: scores are all 1"',
    'trimtab kill buys --to constant --value 0.2 --reason "incident 7" --json',
)
@model
@click.option(
    "--to",
    type=click.Choice(["previous", "constant"]),
    required=True,
    help="What answers instead: the champion before, or a constant.",
)
@click.option("--value", help="The constant: a number, or one for each output with commas between.")
@reason
@actor
def kill(
    project: Path,
    *,
    home: Path | None,
    model: str,
    to: str,
    value: str | None,
    reason: str,
    actor: str | None,
    as_json: bool,
) -> None:
    """Pull the kill switch of MODEL: take its champion out of service at once.

    It is in force before it is recorded, also when the control process hangs or is gone; that one writes it into the
    ledger as soon as it runs. A rollout under way ends. Ends with 1 when nothing can answer instead.
    """
    from trimtab import app

    answer(
        lambda: app.kill(project, model, home=home, to=to, value=value, reason=reason, actor=actor),
        _text,
        as_json=as_json,
        good=lambda result: bool(result["accepted"]) and not result["problem"],
    )


def _text(result: Result) -> str:
    done = f"{result['obeying']} of {result['workers']} workers obey after {result['effective_ms']:g} ms"
    problem = f"\nA worker cannot: {result['problem']}" if result["problem"] else ""
    return f"{result['sentence']}\n{done}{problem}"


@command('trimtab revive buys --reason "incident 7 is over"', 'trimtab revive buys --reason "false alarm" --json')
@model
@reason
@actor
def revive(project: Path, *, home: Path | None, model: str, reason: str, actor: str | None, as_json: bool) -> None:
    """End the kill switch of MODEL: its champion answers again.

    Ends with 1 when the switch is not on.
    """
    from trimtab import app

    answer(
        lambda: app.revive(project, model, home=home, reason=reason, actor=actor),
        lambda result: str(result["sentence"]),
        as_json=as_json,
        good=lambda result: bool(result["accepted"]),
    )
