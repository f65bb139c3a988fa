"""``trimtab send``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from trimtab.cli.answer import Result, answer, command

_FIRST = 10


@command(
    "trimtab send sales sales.jsonl",
    "trimtab send sales data/sales.parquet --project shop --json",
    "tail -n 100 sales.jsonl | trimtab send sales -",
)
@click.argument("source")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
def send(project: Path, *, home: Path | None, source: str, file: Path, as_json: bool) -> None:
    """Send events of SOURCE to the running control process, from FILE or, for -, from standard input.

    FILE holds JSON lines, or is a .parquet file. Rows go in batches of at most 1000; a batch is on disk when it is
    counted. What was sent before changes nothing, so after a failure everything may be sent again. Ends with 1 when
    rows were quarantined, and says which and why.
    """
    from trimtab import app

    rows = sys.stdin if str(file) == "-" else file
    shows = not as_json and sys.stderr.isatty()

    def progress(count: int) -> None:
        if shows:
            click.echo(f"\r{count:,} rows", nl=False, err=True)

    def text(result: Result) -> str:
        return "\n".join(_text(result))

    def work() -> Result:
        try:
            return app.send(project, source, rows, home=home, progress=progress)
        finally:
            if shows:
                click.echo("\r", nl=False, err=True)

    answer(work, text, as_json=as_json, good=lambda result: not result["quarantined"])


def _text(result: Result) -> Iterator[str]:
    yield (
        f"{result['source']}: {result['sent']:,} rows sent, {result['accepted']:,} accepted, "
        f"{result['repeated']:,} repeated, {result['quarantined']:,} quarantined"
    )
    for reason in result["reasons"]:
        yield f"  {reason['rows']:,} x {reason['column'] or 'the row'}: {reason['reason']}"
    for row in result["rows"][:_FIRST]:
        yield f"  row {row['row']}: {row['column'] or 'the row'} = {row['value']}: {row['reason']}"
    if result["quarantined"] > _FIRST:
        yield f"  {result['quarantined'] - _FIRST:,} more; --json lists the first 1,000"
