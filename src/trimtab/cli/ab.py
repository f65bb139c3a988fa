"""``trimtab ab``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from trimtab.cli.answer import Result, answer, command, model, when


@command("trimtab ab buys", "trimtab ab buys --metric loss --json")
@model
@click.option(
    "--metric",
    type=click.Choice(["outcome", "loss"]),
    default="outcome",
    show_default=True,
    help="What is compared: the label itself, or the loss of the predictions.",
)
@click.option("--test", help="The test whose id begins so.  [default: the newest]")
def ab(project: Path, *, home: Path | None, model: str, metric: str, test: str | None, as_json: bool) -> None:
    """Compare the arms of MODEL's A/B test by the labels that have matured.

    The intervals hold at all times at once, so you may look as often as you like. Ends with 1 when units are not split
    as declared: then no difference can be believed.
    """
    from trimtab import app

    answer(
        lambda: app.ab(project, model, home=home, metric=metric, test=test),
        lambda result: "\n".join(_text(result)),
        as_json=as_json,
        good=lambda result: bool(result["split_kept"]),
    )


def _text(result: Result) -> Iterator[str]:
    until = f" until {when(result['ended'])}" if result["ended"] else ""
    yield f"{result['model']}: A/B test {result['test'][:12]} by {result['unit']} since {when(result['since'])}{until}"
    for arm in result["arms"]:
        said = f"{result['metric']} {_number(arm['mean'])} ({_number(arm['low'])} to {_number(arm['high'])})"
        yield (
            f"  {arm['name']}: version {arm['version'][:12]}, {arm['share']:.0%}, {arm['requests']:,} requests of"
            f" {arm['units']:,} units, {arm['errors']:,} errors, {arm['rows']:,} matured; {said}"
        )
    for one in result["differences"]:
        waits = f" ({one['waits']})" if one["waits"] else ""
        yield (
            f"  {one['arm']} - {one['against']}: {_number(one['difference'])} ({_number(one['low'])} to"
            f" {_number(one['high'])}), evidence {one['evidence']:.3g} to 1 for a difference: {one['verdict']}{waits}"
        )
    kept = "is as declared" if result["split_kept"] else "IS NOT AS DECLARED: believe none of this"
    yield f"  the split {kept} (evidence {result['split_evidence']:.3g} to 1 against it)"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
