"""``trimtab latency``."""

from __future__ import annotations

from pathlib import Path

import click

from trimtab.cli.answer import Result, answer, command


@command(
    "trimtab latency",
    "trimtab latency buys --during 10",
    "trimtab latency --from records --since 2026-03-09 --json",
    "trimtab latency buys --check",
)
@click.argument("model", required=False)
@click.option(
    "--from", "source", type=click.Choice(["workers", "records"]), default="workers", show_default=True,
    help="What workers have counted, or the timings in prediction records.",
)  # fmt: skip
@click.option("--during", type=click.FloatRange(min=0.1), help="Only what is answered in the next seconds.")
@click.option("--since", help="Of records: only those asked at this time or later.")
@click.option("--check", is_flag=True, help="End with 1 when a budget is broken.")
def latency(
    project: Path,
    model: str | None,
    *,
    source: str,
    during: float | None,
    since: str | None,
    check: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Show how long each stage of an answer takes, beside its latency budget.

    For each arm that answers now, and each version that callers named: actual time, variance against the budget, p50,
    p95 and p99 per stage, and how the times are distributed. Counts are the sum over all workers since the version
    first went live. From records: of each arm, also one that has ended, the version that answered last.
    """
    from trimtab import app

    answer(
        lambda: app.latency(project, model, source=source, during_s=during or 0.0, since=since, home=home),
        _text,
        as_json=as_json,
        good=lambda result: not check or not any(arm["broken"] for arm in result["arms"]),
    )


def _text(result: Result) -> str:
    from trimtab.web.latency import latency_text

    return "\n\n".join("\n".join(latency_text(arm)) for arm in result["arms"])
