"""``trimtab rollback``."""

from __future__ import annotations

from pathlib import Path

from trimtab.cli.answer import actor, answer, command, model, reason


@command(
    'trimtab rollback buys --reason "complaints from the desk"',
    'trimtab rollback buys --reason "incident 7" --json',
)
@model
@reason
@actor
def rollback(project: Path, *, home: Path | None, model: str, reason: str, actor: str | None, as_json: bool) -> None:
    """End the rollout of MODEL that is under way, or go back to the champion before.

    Ends with 1 when there is nothing to go back to.
    """
    from trimtab import app

    answer(
        lambda: app.rollback(project, model, home=home, reason=reason, actor=actor),
        lambda result: str(result["sentence"]),
        as_json=as_json,
        good=lambda result: bool(result["accepted"]),
    )
